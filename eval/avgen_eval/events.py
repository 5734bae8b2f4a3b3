"""Requested against detected event times: optimal matching, precision, recall, F1, timing error.

All times are seconds on the clip's clock. Errors are signed, ``detected - requested``, in
milliseconds: positive means that the event came late.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

WINDOWS_MS = (60, 120)
"""Half widths of the matching window, in milliseconds, that are reported."""

_SLACK = 1e-9


@dataclass(frozen=True, kw_only=True)
class EventScore:
    """How one list of detected times answers one list of requested times.

    Precision is ``matched / detected``, recall ``matched / requested`` and F1 is
    ``2 * matched / (requested + detected)``. Each is None where its denominator is zero: nothing
    was asked for, nothing was found. F1 is None only where both lists are empty, and 0 where one
    is.

    Attributes:
        window_ms: Half width of the matching window.
        num_requested: Requested events.
        num_detected: Detected events.
        errors_ms: ``detected - requested`` of each matched pair, in order of request.
    """

    window_ms: float
    num_requested: int
    num_detected: int
    errors_ms: tuple[float, ...]

    @property
    def num_matched(self) -> int:
        """Pairs within the window."""
        return len(self.errors_ms)

    @property
    def precision(self) -> float | None:
        """Share of the detected events that were requested."""
        return _ratio(self.num_matched, self.num_detected)

    @property
    def recall(self) -> float | None:
        """Share of the requested events that were detected."""
        return _ratio(self.num_matched, self.num_requested)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.num_matched, self.num_requested + self.num_detected)


@dataclass(frozen=True, kw_only=True)
class TimingError:
    """Absolute errors of matched events; ``bias_ms`` is the signed mean (positive = late)."""

    mean_ms: float
    median_ms: float
    p90_ms: float
    bias_ms: float


def match_events(
    requested: Sequence[float], detected: Sequence[float], window: float
) -> list[tuple[int, int]]:
    """Pairs ``(index of requested, index of detected)`` no further apart than ``window`` seconds.

    Each event is in at most one pair. Among all such sets of pairs this is one with the most pairs
    and, among those, with the least total distance (an assignment problem, solved exactly). A
    greedy nearest-first matching can lose pairs: requests at 0 and 1 with detections at 0.9 and 1.8
    and a window of 1 match twice, not once.

    Raises:
        ValueError: ``window`` is negative, or a time is not finite.
    """
    if window < 0:
        raise ValueError(
            f"matching window {window} s is negative; give a half width in seconds, such as 0.06"
        )
    asked, found = _times(requested, "requested"), _times(detected, "detected")
    if not len(asked) or not len(found):
        return []
    distance = np.abs(asked[:, None] - found[None, :])
    allowed = distance <= window + _SLACK
    # A pair more must always beat any saving in distance.
    reward = 1.0 + (window + _SLACK) * (min(distance.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(allowed, distance - reward, 0.0))
    kept = allowed[rows, columns]
    return sorted(zip(rows[kept].tolist(), columns[kept].tolist(), strict=True))


def score_events(
    requested: Sequence[float], detected: Sequence[float], window_ms: float
) -> EventScore:
    """Match two lists of times and count.

    Args:
        requested: Times asked for, seconds, in any order.
        detected: Times found, seconds, in any order.
        window_ms: Half width of the matching window, milliseconds.
    """
    pairs = match_events(requested, detected, window_ms / 1000)
    errors = tuple(1000 * (float(detected[j]) - float(requested[i])) for i, j in pairs)
    return EventScore(
        window_ms=window_ms,
        num_requested=len(requested),
        num_detected=len(detected),
        errors_ms=errors,
    )


def score_within(
    requested: Sequence[float],
    detected: Sequence[float],
    window_ms: float,
    span: tuple[float, float],
) -> EventScore:
    """The part of `score_events` that falls into a span ``[start, end)`` of seconds.

    All events are matched; then what was requested in the span counts with what it was matched to, and what was
    detected in the span and matched nothing.
    """
    pairs = match_events(requested, detected, window_ms / 1000)
    asked = {i for i, time in enumerate(requested) if span[0] <= time < span[1]}
    matched = {j for _, j in pairs}
    extra = sum(span[0] <= time < span[1] and j not in matched for j, time in enumerate(detected))
    kept = [(i, j) for i, j in pairs if i in asked]
    return EventScore(
        window_ms=window_ms,
        num_requested=len(asked),
        num_detected=len(kept) + extra,
        errors_ms=tuple(1000 * (float(detected[j]) - float(requested[i])) for i, j in kept),
    )


def pool(scores: Iterable[EventScore]) -> EventScore | None:
    """Counts of many clips added up (micro average); None without any.

    Raises:
        ValueError: The scores were taken with different windows.
    """
    scores = list(scores)
    if not scores:
        return None
    windows = {score.window_ms for score in scores}
    if len(windows) > 1:
        raise ValueError(
            f"scores with windows {sorted(windows)} ms cannot be pooled; use one window"
        )
    return EventScore(
        window_ms=scores[0].window_ms,
        num_requested=sum(score.num_requested for score in scores),
        num_detected=sum(score.num_detected for score in scores),
        errors_ms=tuple(error for score in scores for error in score.errors_ms),
    )


def timing_error(errors_ms: Sequence[float]) -> TimingError | None:
    """Statistics of matched errors; None without any match.

    Only matched events count, so no error exceeds the window: read it together with recall.
    """
    if not len(errors_ms):
        return None
    signed = np.asarray(errors_ms, dtype=np.float64)
    size = np.abs(signed)
    return TimingError(
        mean_ms=float(size.mean()),
        median_ms=float(np.median(size)),
        p90_ms=float(np.quantile(size, 0.9)),
        bias_ms=float(signed.mean()),
    )


def distinct(times: Iterable[float], resolution: float = 0.02) -> list[float]:
    """Sorted times without those within ``resolution`` seconds of the last one kept.

    Several events may be asked for at one instant (two tracks of one impact); a detector finds them
    once.
    """
    kept: list[float] = []
    for time in sorted(times):
        if not kept or time - kept[-1] > resolution:
            kept.append(time)
    return kept


def _times(times: Sequence[float], name: str) -> np.ndarray:
    array = np.asarray(times, dtype=np.float64).reshape(-1)
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} times {times} must be finite seconds; drop the events that have none"
        )
    return array


def _ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None
