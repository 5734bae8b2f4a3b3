"""Figures over many clips, each with a 95% interval from a bootstrap over clips."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from avgen_eval.clips import ClipRecord
from avgen_eval.events import WINDOWS_MS, EventScore

RESAMPLES = 1000
TIMING_WINDOW_MS = 120
Statistic = Callable[[np.ndarray], np.ndarray]
"""Rows of clips ``(resamples, clips, values)`` to one number per resample, NaN if undefined."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number with the ends of its 95% interval (None for fewer than two clips)."""

    value: float
    low: float | None
    high: float | None
    num_clips: int
    unit: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def bootstrap(
    rows: Sequence[Sequence[float]],
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    unit: str = "",
    resamples: int = RESAMPLES,
) -> Figure | None:
    """A statistic over clips with the percentile interval of its bootstrap distribution.

    Clips are resampled with replacement, whole: events of one clip are not independent. Valid for
    averages, medians and ratios of sums; not for Frechet distances, which resampling with
    replacement biases.

    Args:
        rows: The values of each clip; shorter rows are filled up with NaN.
        statistic: Vectorised over resamples.
        rng: Draws the resamples.
        unit: Unit of the figure, for display.
        resamples: How many.

    Returns:
        None where there are no clips or the statistic is undefined on all of them.
    """
    if not rows:
        return None
    table = np.full((len(rows), max(map(len, rows))), np.nan)
    for target, row in zip(table, rows, strict=True):
        target[: len(row)] = row
    value = float(statistic(table[None])[0])
    if not np.isfinite(value):
        return None
    if len(rows) < 2:
        return Figure(value=value, low=None, high=None, num_clips=len(rows), unit=unit)
    values = statistic(table[rng.integers(len(rows), size=(resamples, len(rows)))])
    low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975]).tolist()
    return Figure(value=value, low=low, high=high, num_clips=len(rows), unit=unit)


def mean(table: np.ndarray) -> np.ndarray:
    """Mean over everything that is not NaN."""
    return np.nanmean(table, axis=(1, 2))


def median(table: np.ndarray) -> np.ndarray:
    """Median over everything that is not NaN."""
    return np.nanmedian(table.reshape(len(table), -1), axis=1)


def ratio(table: np.ndarray) -> np.ndarray:
    """Sum of the first column over the sum of the second; NaN where that is zero."""
    above, below = table.sum(axis=1).T
    return np.where(below > 0, above / np.maximum(below, 1), np.nan)


def summarise(
    records: Sequence[ClipRecord], rng: np.random.Generator | None = None
) -> dict[str, Figure]:
    """All figures of a set of clips; those that no clip allows are left out.

    Event figures pool the counts of all clips (``sum of matched / sum of detected``, and so on), so
    a clip weighs as much as it has events. Timing is over the pairs matched within 120 ms. Offsets
    are over the clips where they could be measured, whose share is ``offset_measurable``. Failed
    clips are left out of all of it: report their number beside the figures.

    Args:
        records: From `avgen_eval.clips.measure_clip`.
        rng: Draws the bootstrap; seeded with 0 if None, so that the same records give the same
            intervals.
    """
    rng = rng or np.random.default_rng(0)
    kept = [record for record in records if not record.failed]
    figures: dict[str, Figure | None] = {}
    for stream in ("sound", "picture"):
        figures |= _event_figures(stream, kept, rng)
    figures |= _offset_figures(kept, rng)
    visible = [[record.objects_visible] for record in kept if record.objects_visible is not None]
    figures["objects_visible"] = bootstrap(visible, mean, rng)
    for name in sorted({name for record in kept for name in record.attributes}):
        shares = [[record.attributes[name]] for record in kept if name in record.attributes]
        figures[f"attribute_{name}"] = bootstrap(shares, mean, rng)
    for name in sorted({name for record in kept for name in record.further}):
        values = [[record.further[name]] for record in kept if name in record.further]
        in_ms = name.endswith("_ms")
        figures[name] = bootstrap(
            values, median if in_ms else mean, rng, unit="ms" if in_ms else ""
        )
    return {name: figure for name, figure in figures.items() if figure is not None}


def _event_figures(
    stream: str, records: Sequence[ClipRecord], rng: np.random.Generator
) -> dict[str, Figure | None]:
    figures: dict[str, Figure | None] = {}
    for index, window in enumerate(WINDOWS_MS):
        scores = [
            s[index] for s in (getattr(record, f"{stream}_scores") for record in records) if s
        ]
        for part, counts in _COUNTS.items():
            rows = [counts(score) for score in scores]
            figures[f"{stream}_{part}_{window}"] = bootstrap(rows, ratio, rng)
        if window == TIMING_WINDOW_MS:
            signed = [score.errors_ms for score in scores if score.errors_ms]
            sizes = [[abs(error) for error in errors] for errors in signed]
            for part, statistic in (("mean", mean), ("median", median), ("p90", _p90)):
                figures[f"{stream}_timing_{part}_ms"] = bootstrap(sizes, statistic, rng, unit="ms")
            figures[f"{stream}_timing_bias_ms"] = bootstrap(signed, mean, rng, unit="ms")
    return figures


def _offset_figures(
    records: Sequence[ClipRecord], rng: np.random.Generator
) -> dict[str, Figure | None]:
    offsets = [record.offset.offset_ms for record in records]
    pairs = [record.pair_offset_ms for record in records]
    both = [record for record in records if record.motion is not None and record.sound_times]
    measurable = [[float(record.offset.offset_ms is not None)] for record in both]
    figures = {"offset_measurable": bootstrap(measurable, mean, rng)}
    for name, values in (("offset", offsets), ("pair_offset", pairs)):
        rows = [[value] for value in values if value is not None]
        sizes = [[abs(value)] for (value,) in rows]
        figures[f"{name}_median_ms"] = bootstrap(rows, median, rng, unit="ms")
        figures[f"{name}_abs_median_ms"] = bootstrap(sizes, median, rng, unit="ms")
    return figures


def _p90(table: np.ndarray) -> np.ndarray:
    return np.nanquantile(table.reshape(len(table), -1), 0.9, axis=1)


_COUNTS: dict[str, Callable[[EventScore], tuple[int, int]]] = {
    "f1": lambda score: (2 * score.num_matched, score.num_requested + score.num_detected),
    "precision": lambda score: (score.num_matched, score.num_detected),
    "recall": lambda score: (score.num_matched, score.num_requested),
}
