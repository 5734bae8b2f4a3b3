"""When something happens in the picture: a motion curve, and the times of impacts, in seconds.

The *magnitude* of optical flow peaks in mid-flight, not when a thing hits the floor; its *change*
peaks at the impact. A light that comes on moves nothing; it shows as brightness that motion does
not explain. Frame i is taken for the state at ``i / fps``, so what changes between two frames happened
half-way between them on average.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from avgen.clock import Rate, as_rate
from avgen.measure.flow import PictureFlow, measure_flow, warp
from avgen.measure.onsets import Curve

FLASH_WEIGHT = 25.0
MIN_STRENGTH = 0.08
MIN_SHARE = 0.14
CONTRAST = 1.4
SURROUND = 0.5
REFRACTORY = 0.1


@dataclass(frozen=True)
class Motion:
    """What moves and changes in a clip.

    Attributes:
        speed: Mean optical flow in frame heights per second, between frames: at ``(i + 1/2) /
            fps``.
        strength: Strength of picture events at ``i / fps``, frame heights per second.
    """

    speed: Curve
    strength: Curve


def measure_motion(
    frames: np.ndarray,
    fps: Rate,
    flow: PictureFlow | None = None,
    times: np.ndarray | None = None,
) -> Motion:
    """Motion and event strength of a picture.

    ``strength(i) = mean |v(i + 1/2) - v(i - 1/2)| + 25 * (f(i - 1/2) + f(i + 1/2)) / 2`` where v is
    the optical flow in heights per second and f how much more than before the picture brightens:
    ``f(i + 1/2) = max(0, b(i + 1/2) - b(i - 1/2))`` with b the mean brightening, in [0, 1], from
    frame i moved along the flow to frame i + 1. An impact between two frames shares its velocity
    jump between them in proportion, so that the centre of gravity of the peak is the impact's time.
    A light that comes on between two frames is shared equally, and dated half-way.

    Fails on: camera cuts and shake (they look like impacts), motion blur, objects smaller than
    about 1% of the picture, and impacts that move nothing visible. The light of a file made to show
    it from exactly one frame on, such as a flash-and-beep test, is dated half a frame early.

    Args:
        frames: ``(F, H, W, 3)`` uint8.
        fps: Frames per second.
        flow: ``measure_flow(frames)``, where it is at hand.
        times: ``(F,)`` seconds, rising, at which the frames came on, where they are not even; the
            curves are interpolated to even times.

    Raises:
        ValueError: Another number of times than of frames, or times that do not rise.
    """
    rate = float(as_rate(fps))
    picture = flow or measure_flow(frames)
    grey, velocity = picture.grey, picture.flow * (rate / picture.grey.shape[1])
    if times is not None:
        velocity /= _steps(times, len(grey))[:, None, None, None] * rate
    speed = np.sqrt((velocity**2).sum(axis=1)).mean(axis=(1, 2))
    strength = np.zeros(len(grey))
    if len(velocity) > 1:
        jump = np.diff(velocity, axis=0)
        strength[1:-1] = np.sqrt((jump**2).sum(axis=1)).mean(axis=(1, 2))
    brightening = np.maximum(0.0, grey[1:] - warp(grey[:-1], picture.flow)).mean(axis=(1, 2))
    flash = FLASH_WEIGHT * np.maximum(0.0, np.diff(brightening, prepend=brightening[:1]))
    strength[1:] += flash / 2
    strength[:-1] += flash / 2
    if times is not None and len(times) > 1:
        even = np.arange(0.0, times[-1] + 0.5 / rate, 1 / rate)
        speed = np.interp(even[:-1] + 0.5 / rate, (times[1:] + times[:-1]) / 2, speed)
        strength = np.interp(even, times, strength)
    return Motion(Curve(speed, 1 / rate, 0.5 / rate), Curve(strength, 1 / rate))


def _steps(times: np.ndarray, count: int) -> np.ndarray:
    steps = np.diff(times)
    if len(times) != count or (steps <= 0).any():
        raise ValueError(f"{len(times)} times for {count} frames; give one for each, rising")
    return steps


def picture_impacts(motion: Motion) -> list[float]:
    """Times in seconds of impacts and flashes, in order.

    Local maxima of the strength that exceed 1.4 times its median over the surrounding half second,
    and with what of them lies in the neighbouring frame 0.08 heights per second and 14% of the
    largest event of the clip, so that it does not matter where between two frames an event falls; at
    least 100 ms apart, the stronger first; refined to the centre of gravity of the two frames.
    """
    values, step = motion.strength.values, motion.strength.step
    if len(values) < 3:
        return []
    surround = median_filter(values, size=round(SURROUND / step) | 1, mode="reflect")
    left, right = np.append(0.0, values[:-1]), np.append(values[1:], 0.0)
    whole = values + np.abs(left - right)
    wanted = (values >= CONTRAST * surround) & (whole >= max(MIN_STRENGTH, MIN_SHARE * whole.max()))
    kept: list[float] = []
    for index in np.argsort(-values, kind="stable").tolist():
        if not wanted[index] or not _is_peak(values, index):
            continue
        time = float(motion.strength.start + step * _centre(values, index))
        if all(abs(time - other) >= REFRACTORY for other in kept):
            kept.append(time)
    return sorted(kept)


def _is_peak(values: np.ndarray, index: int) -> bool:
    around = values[max(0, index - 1) : index + 2]
    return bool(values[index] >= around.max())


def _centre(values: np.ndarray, index: int) -> float:
    """Centre of gravity of a peak and its larger neighbour, above the level of the smaller one."""
    left = values[index - 1] if index > 0 else 0.0
    right = values[index + 1] if index + 1 < len(values) else 0.0
    base, side = min(left, right), max(left, right)
    share = (side - base) / max(values[index] - base + side - base, 1e-12)
    return index + (share if right >= left else -share)
