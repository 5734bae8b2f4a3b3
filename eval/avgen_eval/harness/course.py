"""What runs and clips did in the course of their media time, as charts."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from avgen_eval.harness.result import Result
from avgen_eval.harness.score import Record
from avgen_eval.linechart import Series, draw_chart, draw_key
from avgen_eval.metrics.longform import CURVES, DISTANCES

BAND = (10, 90)
"""Percentiles of the clips between which the band lies."""
MIN_SHARE = 0.25
"""A moment is drawn where this share of the clips has a value."""
SPANS = {"offset": 100.0, "loudness": 6.0}
"""Least difference between the ends of an axis; the others begin at 0."""


def draw_courses(results: Sequence[Result]) -> str:
    """Mean over the clips of each run against media time, and similarity against distance; empty without any curve."""
    records = [record for result in results for record in result.records]
    names = dict.fromkeys(name for record in records for name in record.curves)
    right = max((_length(record) for record in records), default=0.0)
    charts = [
        _chart(name, [_mean_course(r, name, order) for order, r in enumerate(results)], right)
        for name in names
    ]
    charts += [
        draw_chart(
            f"{stream} similarity",
            "by seconds apart",
            [_similarity(result, stream, order) for order, result in enumerate(results)],
            right=DISTANCES[-1] if right > DISTANCES[-1] else right,
        )
        for stream in ("picture", "sound")
    ]
    if not any(charts):
        return ""
    told = (
        f"Mean over the clips that have a value at that second; the band holds the clips from the {BAND[0]}th to "
        f"the {BAND[1]}th percentile (for similarity: the 95% interval)."
    )
    key = draw_key([result.name for result in results])
    return (
        f'<h2>In the course of the clips</h2>{key}<div class="charts">{"".join(charts)}</div>'
        f'<p class="told">{told}</p>'
    )


def draw_course(record: Record) -> str:
    """The curves of one clip; empty without any."""
    right = _length(record)
    charts = "".join(_chart(n, [_own_course(record, n)], right) for n in record.curves)
    if not charts:
        return ""
    return f'<details open><summary>In the course of the clip</summary><div class="charts">{charts}</div></details>'


def _chart(name: str, series: Sequence[Series], right: float) -> str:
    """The chart of a curve by its ``scorer.curve``."""
    title = name.rpartition(".")[2]
    unit = CURVES[title].unit if title in CURVES else ""
    return draw_chart(title, unit, series, right=right, span=SPANS.get(title))


def _length(record: Record) -> float:
    """Whole seconds of a clip that its longest curve covers."""
    ends = [points[-1][0] for points in record.curves.values() if points]
    return max((end + 0.5 for end in ends), default=0.0)


def _own_course(record: Record, name: str) -> Series:
    points = np.array(record.curves[name]).reshape(-1, 2)
    return Series(label=record.id, x=points[:, 0], y=points[:, 1])


def _mean_course(result: Result, name: str, order: int) -> Series:
    """Mean and band over the clips of a run at each second that enough of them reach."""
    curves = [record.curves[name] for record in result.records if name in record.curves]
    by_time: dict[float, list[float]] = defaultdict(list)
    for curve in curves:
        for time, value in curve:
            by_time[time].append(value)
    times = sorted(t for t, values in by_time.items() if len(values) >= MIN_SHARE * len(curves))
    rows = [by_time[time] for time in times]
    band = [np.array([np.percentile(row, share) for row in rows]) for share in BAND]
    several = len(curves) > 1
    return Series(
        label=result.name,
        x=np.array(times),
        y=np.array([np.mean(row) for row in rows]),
        low=band[0] if several else None,
        high=band[1] if several else None,
        order=order,
    )


def _similarity(result: Result, stream: str, order: int) -> Series:
    """Figures of similarity by seconds between what is compared."""
    found = [
        (d, figure)
        for d in DISTANCES
        if (figure := result.figures.get(f"longform.{stream}_similarity_{d}s")) is not None
        and figure.value is not None
    ]
    rows = [
        (d, f.value, f.value if f.low is None else f.low, f.value if f.high is None else f.high)
        for d, f in found
    ]
    x, y, low, high = np.array(rows, float).reshape(-1, 4).T
    return Series(label=result.name, x=x, y=y, low=low, high=high, order=order)
