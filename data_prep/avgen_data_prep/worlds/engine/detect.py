"""The known-answer detector of the engine world: speed of the wheel against pitch of the tone."""

from typing import Any

import numpy as np

from avgen.clip import Clip
from avgen_data_prep.worlds import listen, look
from avgen_data_prep.worlds.base import Detection, check_measurable
from avgen_data_prep.worlds.engine.picture import CENTRE, HUB, RADIUS, SPOKE_END, SPOKE_WIDTH
from avgen_data_prep.worlds.engine.scene import HERTZ_PER_SPEED
from avgen_data_prep.worlds.palette import PALETTE

NAME = "engine"
LEAST_AREA, MOST_AREA, STRAY = 0.5, 1.3, 0.08
LOWEST, HIGHEST = 60.0, 450.0
WHITE_FROM, WHITE_TO = 110.0, 200.0


def measure(clip: Clip, truth: dict[str, Any]) -> Detection:
    """See `World.detect`; ``extra`` holds correlations and median relative errors."""
    frames, waveform = check_measurable(clip, truth, NAME)
    fps = float(clip.fps)
    wheel = truth["objects"][0]
    angle, spoke = spoke_angle(frames)
    times = (np.arange(len(frames) - 1) + 0.5) / fps
    velocity = turning(angle, fps)
    heard = listen.pitch(waveform, clip.sample_rate, times, LOWEST, HIGHEST) / HERTZ_PER_SPEED
    true = true_speed(truth, times)
    seen, alone = wheel_seen(frames, wheel["colour"])
    known = velocity[~np.isnan(velocity)]
    return Detection(
        sound_times=[],
        picture_times=[],
        objects_visible=float((seen & alone & spoke).mean()),
        attributes={
            "colour": float(seen.mean() >= 0.5),
            "turn": float(np.sign(np.median(known)) == wheel["turn"]) if known.size else 0.0,
        },
        extra={
            "correlation": correlation(np.abs(velocity), heard),
            "sound_correlation": correlation(heard, true),
            "picture_correlation": correlation(wheel["turn"] * velocity, true),
            "sound_error": relative_error(heard, true),
            "picture_error": relative_error(wheel["turn"] * velocity, true),
        },
    )


def spoke_angle(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angle of the white spoke in radians, NaN without one, and whether there is one: ``(F,)``."""
    _, height, width, _ = frames.shape
    y = (np.arange(height) + 0.5)[:, None] / height - CENTRE
    x = (np.arange(width) + 0.5)[None, :] / width - CENTRE
    reach = np.hypot(x, y)
    ring = (reach > HUB + 0.03) & (reach < RADIUS - 0.03)
    white = (look.soften(frames).min(axis=-1) - WHITE_FROM) / (WHITE_TO - WHITE_FROM)
    white = np.clip(white, 0.0, 1.0) * ring
    direction = ((x + 1j * y) / np.maximum(reach, 1e-6) * white).sum(axis=(1, 2))
    expected = 2 * SPOKE_WIDTH * (SPOKE_END - HUB) * height * width
    total = white.sum(axis=(1, 2))
    found = (total > 0.25 * expected) & (np.abs(direction) > 0.6 * total)
    return np.where(found, np.angle(direction), np.nan), found


def turning(angle: np.ndarray, fps: float) -> np.ndarray:
    """Turns per second between frames, ``(F - 1,)``; valid below half a turn per frame."""
    step = (np.diff(angle) + np.pi) % (2 * np.pi) - np.pi
    return step * fps / (2 * np.pi)


def true_speed(truth: dict[str, Any], times: np.ndarray) -> np.ndarray:
    """Turns per second that the truth says, ``(N,)``."""
    speed = np.full(len(times), truth["spans"][-1]["to"], dtype=float)
    for span in truth["spans"]:
        share = (times - span["start"]) / (span["end"] - span["start"])
        inside = (share >= 0.0) & (share < 1.0)
        ease = share * share * (3.0 - 2.0 * share)
        speed[inside] = (span["from"] + (span["to"] - span["from"]) * ease)[inside]
    return speed


def wheel_seen(frames: np.ndarray, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames with a wheel of about the right size, and frames without other colours, both bool."""
    names = look.name_colours(frames)
    index = list(PALETTE).index(colour)
    disc = np.pi * RADIUS**2 * frames.shape[1] * frames.shape[2]
    blob = look.find_blob(names == index)
    share = blob.area / disc
    seen = (share >= LEAST_AREA) & (share <= MOST_AREA) & (blob.solid >= look.SOLID)
    return seen, look.thick_area((names >= 0) & (names != index)) <= STRAY * disc


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation where both are known; 0 where fewer than half the values are."""
    both = ~np.isnan(a) & ~np.isnan(b)
    if both.mean() < 0.5 or np.ptp(a[both]) < 1e-9 or np.ptp(b[both]) < 1e-9:
        return 0.0
    return float(np.corrcoef(a[both], b[both])[0, 1])


def relative_error(found: np.ndarray, true: np.ndarray) -> float:
    """Median of ``|found - true| / true``, unknown values counting as 1."""
    error = np.abs(found - true) / true
    return float(np.median(np.where(np.isnan(error), 1.0, np.minimum(error, 1.0))))
