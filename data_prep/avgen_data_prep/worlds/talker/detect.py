"""The known-answer detector of the talker world: mouth against voice, and the vowel of each."""

from typing import Any

import numpy as np

from avgen.clip import Clip
from avgen_data_prep.worlds import listen, look
from avgen_data_prep.worlds.base import Detection, check_measurable
from avgen_data_prep.worlds.palette import PALETTE
from avgen_data_prep.worlds.talker.picture import MOUTH_COLOUR
from avgen_data_prep.worlds.talker.scene import (
    ATTACK,
    CENTRE,
    FACE,
    LONGEST,
    MOUTH_Y,
    RELEASE,
    VOWELS,
    Word,
)
from avgen_data_prep.worlds.talker.sound import speak

NAME = "talker"
REGION, INNER = (0.23, 0.15), 0.9
FACE_AREA = np.pi * FACE[0] * FACE[1]
LEAST_AREA, MOST_AREA, STRAY = 0.5, 1.5, 0.08
LEAST_OPENING = 0.004
CROSSING = 0.3
ONSET_DELAY = 0.017
LONGEST_LAG = 0.2
GRID = 0.01


def measure(clip: Clip, truth: dict[str, Any]) -> Detection:
    """See `World.detect`."""
    frames, waveform = check_measurable(clip, truth, NAME)
    fps = float(clip.fps)
    speaker = truth["objects"][0]
    darkness = mouth_darkness(frames, speaker["colour"])
    opening = darkness.mean(axis=(1, 2)) * 4 * REGION[0] * REGION[1]
    opening = opening - np.percentile(opening, 10)
    times = np.arange(len(frames)) / fps
    steps = np.arange(0.0, len(waveform) / clip.sample_rate, GRID)
    voice = listen.envelope(waveform, clip.sample_rate, steps, 0.025)
    quiet = max(0.15 * float(voice.max()), listen.SILENCE)
    seen, alone = face_seen(frames, speaker["colour"])
    correlation, lag = best_lag(np.interp(steps, times, opening), voice)
    return Detection(
        sound_times=[max(0.0, t - ONSET_DELAY) for t in starts(voice, steps, quiet)],
        picture_times=[max(0.0, t - ONSET_DELAY) for t in starts(opening, times, LEAST_OPENING)],
        objects_visible=float((seen & alone).mean()),
        attributes={
            "colour": float(seen.mean() >= 0.5),
            "vowel": vowel_accuracy(waveform, clip.sample_rate, truth),
            "mouth": mouth_accuracy(darkness, fps, truth),
        },
        extra={"correlation": correlation, "lag_ms": 1000.0 * lag},
    )


def mouth_darkness(frames: np.ndarray, colour: str) -> np.ndarray:
    """How much of each pixel around the mouth is mouth rather than face, 0 to 1, ``(F, h, w)``."""
    _, height, width, _ = frames.shape
    rows = slice(round((MOUTH_Y - REGION[1]) * height), round((MOUTH_Y + REGION[1]) * height))
    columns = slice(round((CENTRE[0] - REGION[0]) * width), round((CENTRE[0] + REGION[0]) * width))
    face = np.asarray(PALETTE[colour], dtype=np.float32)
    swing = np.asarray(MOUTH_COLOUR, dtype=np.float32) - face
    share = (frames[:, rows, columns].astype(np.float32) - face) @ (swing / (swing @ swing))
    y = (np.arange(height)[rows, None] + 0.5) / height - CENTRE[1]
    x = (np.arange(width)[None, columns] + 0.5) / width - CENTRE[0]
    within = np.hypot(x / FACE[0], y / FACE[1]) < INNER
    return np.clip((share - 0.2) / 0.6, 0.0, 1.0) * within


def face_seen(frames: np.ndarray, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames with a face of about the right size, and frames without other colours, both bool."""
    names = look.name_colours(frames)
    index = list(PALETTE).index(colour)
    pixels = frames.shape[1] * frames.shape[2]
    blob = look.find_blob(names == index)
    share = blob.area / (FACE_AREA * pixels)
    seen = (share >= LEAST_AREA) & (share <= MOST_AREA) & (blob.solid >= look.SOLID)
    others = look.thick_area((names >= 0) & (names != index))
    return seen, others <= STRAY * FACE_AREA * pixels


def starts(curve: np.ndarray, times: np.ndarray, least: float) -> list[float]:
    """Seconds at which each stretch above ``least`` reaches `CROSSING` of its own peak."""
    above = np.concatenate([[False], curve > least, [False]])
    edges = np.flatnonzero(above[1:] != above[:-1])
    result = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        goal = CROSSING * curve[first:last].max()
        if goal < 0.5 * least or times[last - 1] - times[first] < 0.05:
            continue
        after = first + int(np.argmax(curve[first:last] >= goal))
        while after > 0 and curve[after - 1] >= goal:
            after -= 1
        if after == 0:
            result.append(float(times[0]))
            continue
        share = (goal - curve[after - 1]) / (curve[after] - curve[after - 1])
        result.append(float(times[after - 1] + share * (times[after] - times[after - 1])))
    return result


def best_lag(opening: np.ndarray, voice: np.ndarray) -> tuple[float, float]:
    """Largest correlation of mouth and voice over lags, and that lag (voice late: above 0 s)."""
    reach = round(LONGEST_LAG / GRID)
    mouth, sound = np.sqrt(np.maximum(opening, 0.0)), np.sqrt(voice)
    best = (0.0, 0.0)
    for shift in range(-reach, reach + 1):
        early = mouth[max(0, -shift) : len(mouth) - max(0, shift)]
        late = sound[max(0, shift) : len(sound) - max(0, -shift)]
        length = min(len(early), len(late))
        early, late = early[:length] - early[:length].mean(), late[:length] - late[:length].mean()
        norm = np.sqrt((early @ early) * (late @ late))
        if norm > 1e-9 and (early @ late) / norm > best[0]:
            best = (float((early @ late) / norm), shift * GRID)
    return best


def vowel_accuracy(waveform: np.ndarray, sample_rate: int, truth: dict[str, Any]) -> float:
    """Share of words that sound most like the right vowel in the speaker's voice."""
    pitch, length = truth["objects"][0]["pitch"], 0.08
    times = (np.arange(round(0.3 * sample_rate)) / sample_rate).astype(np.float32)
    prints = {}
    for name in VOWELS:
        sound = speak(Word(0.0, LONGEST, name), pitch, sample_rate, times)
        prints[name] = listen.fingerprint(sound, sample_rate, 0.1, length)
    right = []
    for event in truth["events"]:
        middle = 0.5 * (event["time"] + event["end"]) - 0.5 * length
        heard = listen.fingerprint(waveform, sample_rate, middle, length)
        right.append(bool(heard.any()) and listen.nearest(heard, prints) == event["word"])
    return float(np.mean(right))


def mouth_accuracy(darkness: np.ndarray, fps: float, truth: dict[str, Any]) -> float:
    """Share of words in whose middle the mouth is nearest in shape to that of the right vowel."""
    right = []
    shapes = np.log([vowel.mouth for vowel in VOWELS.values()])
    for event in truth["events"]:
        middle = 0.5 * (event["time"] + ATTACK + event["end"] - RELEASE)
        first = int(np.floor(middle * fps))
        wide, high = mouth_extent(darkness[first : first + 2].mean(axis=0))
        away = np.square(shapes - np.log([max(wide, 1e-3), max(high, 1e-3)])).sum(axis=1)
        right.append(list(VOWELS)[int(away.argmin())] == event["word"])
    return float(np.mean(right))


def mouth_extent(darkness: np.ndarray) -> tuple[float, float]:
    """Half width and half height in picture heights of the ellipse with the same second moments."""
    rows, columns = darkness.shape
    total = max(float(darkness.sum()), 1e-6)
    y = (np.arange(rows) + 0.5) / rows * 2 * REGION[1]
    x = (np.arange(columns) + 0.5) / columns * 2 * REGION[0]
    down, across = darkness.sum(axis=1) / total, darkness.sum(axis=0) / total
    high = np.sqrt(max(0.0, float(down @ y**2 - (down @ y) ** 2)))
    wide = np.sqrt(max(0.0, float(across @ x**2 - (across @ x) ** 2)))
    return 2.0 * wide, 2.0 * high
