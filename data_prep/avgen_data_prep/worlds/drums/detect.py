"""The known-answer detector of the drums world: glow of each pad, onsets and timbres."""

from typing import Any

import numpy as np

from avgen.clip import Clip
from avgen_data_prep.worlds import listen, look
from avgen_data_prep.worlds.base import Detection, check_measurable
from avgen_data_prep.worlds.drums.kit import INSTRUMENTS
from avgen_data_prep.worlds.drums.picture import FLASH, GLOSS, IDLE
from avgen_data_prep.worlds.drums.sound import strike_voice
from avgen_data_prep.worlds.palette import PALETTE

NAME = "drums"
AREAS = {"ball": np.pi, "box": 4 * 0.92**2, "triangle": 2 * 0.92**2}
LEAST_AREA, MOST_AREA = 0.35, 2.2
STRAY = 0.3
MIN_CHROMA = 45.0
MIN_RISE = 0.3
NEAR = 0.08
PRINT_LENGTH = 0.09


def measure(clip: Clip, truth: dict[str, Any]) -> Detection:
    """See `World.detect`."""
    frames, waveform = check_measurable(clip, truth, NAME)
    fps = float(clip.fps)
    glows = np.array([pad_glow(frames, item) for item in truth["objects"]])
    strikes = sorted(
        (time, pad) for pad, glow in enumerate(glows) for time in find_strikes(glow, fps)
    )
    seen, clean = pads_seen(frames, truth)
    heard = listen.onsets(waveform, clip.sample_rate)
    return Detection(
        sound_times=heard,
        picture_times=[time for time, _ in strikes],
        objects_visible=float((seen.all(axis=0) & clean).mean()),
        attributes={
            "pad": pad_accuracy(glows, fps, truth),
            "colour": float((seen.mean(axis=1) >= 0.5).mean()),
        },
        extra={
            "picture_objects": [pad for _, pad in strikes],
            "timbre": timbre_accuracy(waveform, clip.sample_rate, heard, truth),
        },
    )


def pad_window(frames: np.ndarray, item: dict[str, Any], reach: float) -> np.ndarray:
    """The part of the frames within ``reach`` radii of a pad's centre."""
    _, height, width, _ = frames.shape
    (x, y), radius = item["start"], item["radius"] * reach
    rows = slice(max(0, round((y - radius) * height)), round((y + radius) * height))
    return frames[:, rows, max(0, round((x - radius) * width)) : round((x + radius) * width)]


def pad_glow(frames: np.ndarray, item: dict[str, Any]) -> np.ndarray:
    """How bright a pad is next to its idle state and its flash, 0 to 1 on clean clips, ``(F,)``."""
    colour = np.asarray(PALETTE[item["colour"]], dtype=np.float64)
    bright = colour + GLOSS * (255.0 - colour)
    swing = bright - IDLE * colour
    middle = pad_window(frames, item, 0.55).reshape(len(frames), -1, 3).astype(np.float64)
    lower = middle.mean(axis=1)
    along = (lower @ swing) / (swing @ swing)
    if item["shape"] == "triangle":
        along = along / 0.85
    return along - np.percentile(along, 20)


def find_strikes(glow: np.ndarray, fps: float) -> list[float]:
    """Seconds at which a pad is struck: rises of its glow, dated back by how far it has faded."""
    rise = np.diff(glow, prepend=glow[0])
    span = max(1, round(0.04 * fps))
    total = glow - np.concatenate([np.repeat(glow[:1], span), glow[:-span]])
    times, strengths = [], []
    for frame in np.flatnonzero(rise > 0):
        if total[frame] < MIN_RISE or total[frame] < total[max(0, frame - 2) : frame + 3].max():
            continue
        late = np.clip(FLASH * (1.0 - glow[frame]), 0.0, 1.0 / fps)
        times.append(float(frame / fps - late))
        strengths.append(float(total[frame]))
    return listen.thin(times, strengths, 0.1)


def pads_seen(frames: np.ndarray, truth: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Pads plausibly in place ``(pads, F)`` and frames without strangers ``(F,)``, both bool."""
    names = look.name_colours(frames, MIN_CHROMA)
    order = [list(PALETTE).index(item["colour"]) for item in truth["objects"]]
    pixels = frames.shape[1] * frames.shape[2]
    seen, strange = [], names >= 0
    for index, item in zip(order, truth["objects"], strict=True):
        expected = AREAS[item["shape"]] * item["radius"] ** 2 * pixels
        blob = look.find_blob(pad_window(names[..., None], item, 1.2)[..., 0] == index)
        plausible = (blob.area >= LEAST_AREA * expected) & (blob.area <= MOST_AREA * expected)
        seen.append(plausible & (blob.solid >= look.SOLID))
        pad_window(strange[..., None], item, 1.25)[...] = False
    smallest = min(AREAS[o["shape"]] * o["radius"] ** 2 for o in truth["objects"]) * pixels
    return np.array(seen), look.thick_area(strange) <= STRAY * smallest


def pad_accuracy(glows: np.ndarray, fps: float, truth: dict[str, Any]) -> float:
    """Share of true strikes around which the right pad rises most."""
    right = []
    for event in truth["events"]:
        first = max(0, int(np.floor((event["time"] - NEAR) * fps)))
        last = int(np.ceil((event["time"] + NEAR) * fps)) + 1
        near = glows[:, first:last]
        rise = np.diff(near, axis=1).max(axis=1) if near.shape[1] > 1 else np.zeros(len(glows))
        right.append(int(np.argmax(rise)) == event["object"] and rise.max() > 0.5 * MIN_RISE)
    return float(np.mean(right)) if right else 1.0


def timbre_accuracy(
    waveform: np.ndarray, sample_rate: int, heard: list[float], truth: dict[str, Any]
) -> float | None:
    """Share of heard strikes that sound most like the right instrument, None without any."""
    prints = {}
    times = (np.arange(round(PRINT_LENGTH * sample_rate)) / sample_rate).astype(np.float32)
    for name in INSTRUMENTS:
        sound = strike_voice(name, 0.4, np.random.default_rng(0), sample_rate)(times)
        prints[name] = listen.fingerprint(sound, sample_rate, 0.0, PRINT_LENGTH)
    right = []
    for event in truth["events"]:
        near = [time for time in heard if abs(time - event["time"]) <= 0.06]
        if near:
            print_ = listen.fingerprint(waveform, sample_rate, near[0], PRINT_LENGTH)
            right.append(
                listen.nearest(print_, prints) == truth["objects"][event["object"]]["name"]
            )
    return float(np.mean(right)) if right else None
