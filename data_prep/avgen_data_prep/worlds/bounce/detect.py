"""The known-answer detector of the bounce world.

Objects are found by their hue, a hit is a kink in an object's path next to floor or wall, and
materials are told by comparing each sound with the world's own.
"""

from typing import Any

import numpy as np

from avgen.clip import Clip
from avgen_data_prep.worlds import listen, look
from avgen_data_prep.worlds.base import Detection, check_measurable
from avgen_data_prep.worlds.bounce.sound import PITCH, TIMBRES
from avgen_data_prep.worlds.motion import FLOOR, GRAVITY, LEFT_WALL, RIGHT_WALL
from avgen_data_prep.worlds.palette import PALETTE
from avgen_data_prep.worlds.synthesis import impact

NAME = "bounce"
LEAST_AREA, MOST_AREA = 0.35, 2.2
STRAY = 0.3
REACH = 0.16
MIN_JUMP_Y, MIN_JUMP_X = 0.3, 0.25
NEAR = 0.09
MIN_GAP = 0.1
PRINT_LENGTH = 0.09


def measure(clip: Clip, truth: dict[str, Any]) -> Detection:
    """See `World.detect`."""
    frames, waveform = check_measurable(clip, truth, NAME)
    names = look.name_colours(frames)
    order = list(PALETTE)
    blobs = [look.find_blob(names == order.index(item["colour"])) for item in truth["objects"]]
    scale = np.array([frames.shape[2], frames.shape[1]])
    hits = [
        (time, number)
        for number, (blob, item) in enumerate(zip(blobs, truth["objects"], strict=True))
        for time in find_hits(blob, item, scale, float(clip.fps))
    ]
    seen = np.array([plausible(b, o, scale) for b, o in zip(blobs, truth["objects"], strict=True)])
    alone = ~has_strangers(names, truth, scale)
    solid = np.array([blob.solid >= look.SOLID for blob in blobs])
    heard = listen.onsets(waveform, clip.sample_rate)
    return Detection(
        sound_times=heard,
        picture_times=sorted(time for time, _ in hits),
        objects_visible=float((seen & solid).all(axis=0)[alone].sum() / len(frames)),
        attributes={"colour": float((seen.mean(axis=1) >= 0.5).mean())},
        extra={
            "picture_objects": [number for _, number in sorted(hits)],
            "material": material_accuracy(waveform, clip.sample_rate, heard, truth),
        },
    )


def plausible(blob: look.Blob, item: dict[str, Any], scale: np.ndarray) -> np.ndarray:
    """Frames in which the area is about that of the object, ``(F,)`` bool."""
    expected = item["area"] * scale.prod()
    return (blob.area >= LEAST_AREA * expected) & (blob.area <= MOST_AREA * expected)


def has_strangers(names: np.ndarray, truth: dict[str, Any], scale: np.ndarray) -> np.ndarray:
    """Frames with a notable area of a colour that no object has, ``(F,)`` bool."""
    smallest = min(item["area"] for item in truth["objects"]) * scale.prod()
    described = [list(PALETTE).index(item["colour"]) for item in truth["objects"]]
    others = [index for index in range(len(PALETTE)) if index not in described]
    areas = np.array([(names == index).sum(axis=(1, 2)) for index in others])
    return areas.max(axis=0) > STRAY * smallest


def find_hits(blob: look.Blob, item: dict[str, Any], scale: np.ndarray, fps: float) -> list[float]:
    """Seconds at which an object hits the floor or a wall."""
    x = look.fill_gaps(blob.x / scale[0], 2)
    y = look.fill_gaps(blob.y / scale[1], 2)
    if np.isnan(x).sum() > 0.8 * len(x):
        return []
    half_width, half_height = item["half_extent"]
    times, strengths = [], []
    frame_times = np.arange(len(x)) / fps
    for after in (GRAVITY, 0.0):
        bends = look.find_bends(y, fps, reach=REACH, pull_before=GRAVITY, pull_after=after)
        low = np.interp(bends.times, frame_times, y) + half_height > FLOOR - NEAR
        good = low & (bends.jump < -MIN_JUMP_Y) & (bends.before > 0.0)
        found = peaks(bends, good, fps)
        times += [float(bends.times[i]) for i in found]
        strengths += [float(bends.gain[i]) for i in found]
    bends = look.find_bends(x, fps, reach=REACH, pull_before=0.0, pull_after=0.0)
    place = np.interp(bends.times, frame_times, x)
    right = (place + half_width > RIGHT_WALL - NEAR) & (bends.jump < -MIN_JUMP_X)
    left = (place - half_width < LEFT_WALL + NEAR) & (bends.jump > MIN_JUMP_X)
    returns = np.sign(bends.before) != np.sign(bends.before + bends.jump)
    found = peaks(bends, (right | left) & returns, fps)
    times += [float(bends.times[i]) for i in found]
    strengths += [float(bends.gain[i]) for i in found]
    return listen.thin(times, strengths, MIN_GAP)


def peaks(bends: look.Bends, good: np.ndarray, fps: float) -> np.ndarray:
    """Indices of admissible kinks that save most error within a tenth of a second."""
    gain = np.where(good, bends.gain, 0.0)
    width = round(MIN_GAP / (bends.times[1] - bends.times[0])) * 2 + 1
    top = gain == look.ndimage.maximum_filter1d(gain, width)
    return np.flatnonzero(top & (gain > 2.0 * bends.error) & (gain > 0))


def material_accuracy(
    waveform: np.ndarray, sample_rate: int, heard: list[float], truth: dict[str, Any]
) -> float | None:
    """Share of heard hits whose sound is nearest to that of the right material, None without any."""
    right = []
    for event in truth["events"]:
        near = [time for time in heard if abs(time - event["time"]) <= 0.06]
        if near:
            item = truth["objects"][event["object"]]
            print_ = listen.fingerprint(waveform, sample_rate, near[0], PRINT_LENGTH)
            best = listen.nearest(print_, reference_prints(item["size"], sample_rate))
            right.append(best == item["material"])
    return float(np.mean(right)) if right else None


def reference_prints(size: str, sample_rate: int) -> dict[str, np.ndarray]:
    """The fingerprint of each material at a size."""
    times = (np.arange(round(PRINT_LENGTH * sample_rate)) / sample_rate).astype(np.float32)
    prints = {}
    for material, modes in TIMBRES.items():
        voice = impact(modes.pitched(PITCH[size]), 0.5, np.random.default_rng(0), sample_rate)
        prints[material] = listen.fingerprint(voice(times), sample_rate, 0.0, PRINT_LENGTH)
    return prints
