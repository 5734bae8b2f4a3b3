"""Drift: how the offset of the sound against the picture changes in the course of a clip.

A sound track that runs at a slightly wrong rate is in sync at first and seconds late in the end; one offset for the
whole clip does not show it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import theilslopes

from avgen.measure.offset import MIN_CONFIDENCE, measure_offset
from avgen.measure.onsets import Curve, onset_train

WINDOW = 2.0
HOP = 1.0
MIN_WINDOWS = 3
MIN_EVENTS = 2
Point = tuple[float, float]
"""Seconds in the picture, and the offset there in milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Slope of the offset over time.

    Attributes:
        ms_per_second: Milliseconds by which the sound falls behind in each second of the picture.
        num_windows: Windows with a measurable offset, at least three.
    """

    ms_per_second: float
    num_windows: int

    @property
    def ppm(self) -> float:
        """The same in parts per million: a sound stretched by 2% has 20,000."""
        return 1000 * self.ms_per_second


def windowed_offsets(
    sound_times: Sequence[float],
    sound_strengths: Sequence[float],
    picture_strength: Curve,
    duration: float,
    *,
    window: float = WINDOW,
    hop: float = HOP,
    min_confidence: float = MIN_CONFIDENCE,
) -> list[Point]:
    """Offset in each window of a clip in which it can be measured, by `avgen.measure.offset.measure_offset`.

    Windows with fewer than two sounds are left out: any lag explains a single event. Offsets are dated at the centre of
    the window.

    Args:
        sound_times: Onsets in seconds, see `avgen.measure.onsets.find_onsets`.
        sound_strengths: Strength of each onset.
        picture_strength: From `avgen.measure.motion.measure_motion`.
        duration: Of the clip, seconds.
        window: Length of a window in seconds; offsets of up to half a second are looked for.
        hop: Seconds from one window to the next.
        min_confidence: Windows whose offset is less certain are left out.

    Raises:
        ValueError: ``window`` or ``hop`` is not positive.
    """
    if window <= 0 or hop <= 0:
        raise ValueError(f"window {window} s and hop {hop} s must be positive; try 2 and 1")
    times, strengths = np.asarray(sound_times, float), np.asarray(sound_strengths, float)
    points = []
    for start in np.arange(0.0, duration - window + 1e-9, hop).tolist():
        inside = (times >= start) & (times < start + window)
        if inside.sum() < MIN_EVENTS:
            continue
        sound = onset_train((times[inside] - start).tolist(), strengths[inside].tolist(), window)
        picture = _between(picture_strength, start, start + window)
        offset = measure_offset(sound, picture, min_confidence=min_confidence).offset_ms
        if offset is not None:
            points.append((start + 0.5 * window, offset))
    return points


def fit_drift(points: Sequence[Point]) -> Drift | None:
    """Slope of offset on time: the median of the slopes between all pairs of windows.

    Theil-Sen regression (P. K. Sen, 1968, by `scipy.stats.theilslopes`): unlike that of least squares, its slope is
    not decided by one window whose offset is that of the neighbouring beat.

    Returns:
        None for fewer than three windows.
    """
    if len(points) < MIN_WINDOWS:
        return None
    times, offsets = zip(*points, strict=True)
    slope = float(np.asarray(theilslopes(offsets, times), dtype=np.float64)[0])
    return Drift(ms_per_second=slope, num_windows=len(points))


def measure_drift(
    sound_times: Sequence[float],
    sound_strengths: Sequence[float],
    picture_strength: Curve,
    duration: float,
    *,
    min_confidence: float = MIN_CONFIDENCE,
) -> Drift | None:
    """`fit_drift` of `windowed_offsets` with windows of 2 s, a second apart.

    A drift of 2% over 15 s is measured 1% to 3% too small (what leaves a window at its end is not compared).

    Fails on: clips shorter than 4 s (None); offsets beyond half a second; and few windows: of three, an error of 10 ms
    in the last is a drift of 5,000 ppm. Read it over long clips or over many.
    """
    return fit_drift(
        windowed_offsets(
            sound_times, sound_strengths, picture_strength, duration, min_confidence=min_confidence
        )
    )


def _between(curve: Curve, start: float, end: float) -> Curve:
    """The values of a curve from ``start`` to ``end``, on a clock that begins at ``start``."""
    inside = np.flatnonzero((curve.times >= start - 1e-9) & (curve.times < end - 1e-9))
    if not len(inside):
        return Curve(np.zeros(0), curve.step)
    return Curve(curve.values[inside], curve.step, float(curve.times[inside[0]]) - start)
