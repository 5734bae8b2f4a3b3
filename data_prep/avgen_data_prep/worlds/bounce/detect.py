"""The known-answer detector of the bounce world.

Objects are found by their hue, a hit is a kink in an object's path next to floor or wall, and
materials are told by comparing each sound with the world's own.
"""

from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter1d

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
MIN_JUMP_Y, MIN_JUMP_X, MIN_FALL = 0.3, 0.25, 0.2
MIN_GAIN = 5e-5
NEAR = 0.09
MIN_GAP, MIN_AXIS_GAP = 0.1, 0.2
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
        objects_visible=float(((seen & solid).all(axis=0) & alone).mean()),
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
    """Frames with a notable area of colours that no object has, ``(F,)`` bool."""
    smallest = min(item["area"] for item in truth["objects"]) * scale.prod()
    described = [list(PALETTE).index(item["colour"]) for item in truth["objects"]]
    strange = (names >= 0) & ~np.isin(names, described)
    return look.thick_area(strange) > STRAY * smallest


def find_hits(blob: look.Blob, item: dict[str, Any], scale: np.ndarray, fps: float) -> list[float]:
    """Seconds at which an object hits the floor or a wall."""
    x = look.fill_gaps(blob.x / scale[0], 2)
    y = look.fill_gaps(blob.y / scale[1], 2)
    hits = floor_hits(y, item["half_extent"][1], fps) + wall_hits(x, item["half_extent"][0], fps)
    return listen.thin([time for time, _ in hits], [gain for _, gain in hits], MIN_GAP)


def floor_hits(y: np.ndarray, half_height: float, fps: float) -> list[tuple[float, float]]:
    """Kinks upwards near the floor, after which the object flies on or rests: seconds and gain."""
    hits = []
    for after in (GRAVITY, 0.0):
        bends = look.find_bends(y, fps, reach=REACH, pull_before=GRAVITY, pull_after=after)
        low = bends.place + half_height > FLOOR - NEAR
        hits += strongest(bends, low & (bends.jump < -MIN_JUMP_Y) & (bends.before > MIN_FALL))
    times, gains = [time for time, _ in hits], [gain for _, gain in hits]
    kept = listen.thin(times, gains, MIN_AXIS_GAP)
    return [(time, gain) for time, gain in hits if time in kept]


def wall_hits(x: np.ndarray, half_width: float, fps: float) -> list[tuple[float, float]]:
    """Kinks away from a wall nearby that turn the object round: seconds and gain."""
    bends = look.find_bends(x, fps, reach=REACH, pull_before=0.0, pull_after=0.0)
    right = (bends.place + half_width > RIGHT_WALL - NEAR) & (bends.jump < -MIN_JUMP_X)
    left = (bends.place - half_width < LEFT_WALL + NEAR) & (bends.jump > MIN_JUMP_X)
    turned = bends.before * (bends.before + bends.jump) < 0.0
    return strongest(bends, (right | left) & turned)


def strongest(bends: look.Bends, good: np.ndarray) -> list[tuple[float, float]]:
    """Admissible kinks that save most error within `MIN_AXIS_GAP`: seconds and gain."""
    gain = np.where(good & (bends.gain > np.maximum(2.0 * bends.error, MIN_GAIN)), bends.gain, 0.0)
    width = 2 * round(MIN_AXIS_GAP / (bends.times[1] - bends.times[0])) + 1
    top = (gain > 0.0) & (gain == maximum_filter1d(gain, width))
    return [(float(bends.times[i]), float(bends.gain[i])) for i in np.flatnonzero(top)]


def material_accuracy(
    waveform: np.ndarray, sample_rate: int, heard: list[float], truth: dict[str, Any]
) -> float | None:
    """Share of heard hits that sound most like the right material, None without any."""
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
