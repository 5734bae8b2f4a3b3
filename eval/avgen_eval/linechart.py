"""Curves of several runs over one axis, as HTML with SVG that stretches to its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from avgen_eval.charts import HEIGHT, WIDTH, polyline

NUM_COLOURS = 6
ROOM = 0.06


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve.

    Attributes:
        label: Of the run.
        x: Places, rising.
        y: Values there.
        low: Lower edge of its band; None without one.
        high: Upper edge.
        order: Place among the runs, which gives it its colour.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    order: int = 0


def draw_chart(
    title: str, unit: str, series: Sequence[Series], *, right: float, span: float | None = None
) -> str:
    """A chart with its title, the ends of its axes, and one line per series; empty without values.

    Args:
        title: What is drawn.
        unit: Of the values.
        series: One or more, over seconds.
        right: Seconds at the right end of the axis; the left is 0.
        span: Least difference between the ends of the values' axis, so that noise looks small; None starts it at 0.
    """
    shown = [s for s in series if len(s.x)]
    if not shown:
        return ""
    bottom, top = _range(shown, span)
    scale = np.array([WIDTH / right, HEIGHT / (top - bottom)])
    paths = "".join(_paths(s, scale, top) for s in shown)
    ends = "; ".join(
        f"{s.label} from {s.y[0]:.3g} at {s.x[0]:g} s to {s.y[-1]:.3g} at {s.x[-1]:g} s"
        for s in shown
    )
    name = escape(f"{title}: {ends}", quote=True)
    told = f" <small>{escape(unit)}</small>" if unit else ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}{told}</figcaption>'
        f'<div class="ends"><span>{top:.3g}</span><span>{bottom:.3g}</span></div>'
        f'<svg role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'preserveAspectRatio="none">{paths}</svg>'
        f'<div class="along"><span>0</span><span>{right:.3g} s</span></div></figure>'
    )


def draw_key(labels: Sequence[str]) -> str:
    """Which colour is which run."""
    items = "".join(
        f'<li><i class="line run{order % NUM_COLOURS}"></i>{escape(label)}</li>'
        for order, label in enumerate(labels)
    )
    return f'<ul class="legend" aria-label="Runs">{items}</ul>'


def _range(series: Sequence[Series], span: float | None) -> tuple[float, float]:
    """Ends of the axis of values, with some room beside the lowest and the highest."""
    parts = np.concatenate([p for s in series for p in (s.y, s.low, s.high) if p is not None])
    low, high = float(parts.min()), float(parts.max())
    if span is None and low >= 0:
        return 0.0, (1 + ROOM) * high or 1.0
    room = max(ROOM * (high - low), 0.5 * ((span or 1e-9) - (high - low)))
    return low - room, high + room


def _paths(series: Series, scale: np.ndarray, top: float) -> str:
    x, y = series.x * scale[0], (top - series.y) * scale[1]
    colour = f"run{series.order % NUM_COLOURS}"
    band = ""
    if series.low is not None and series.high is not None:
        low, high = ((top - edge) * scale[1] for edge in (series.low, series.high))
        outline = polyline(np.concatenate([x, x[::-1]]), np.concatenate([high, low[::-1]]))
        band = f'<path class="band {colour}" d="{outline}Z"/>'
    if len(x) == 1:  # a line of one point would not be seen
        x, y = np.array([x[0] - 8, x[0] + 8]), np.array([y[0], y[0]])
    return f'{band}<path class="line {colour}" vector-effect="non-scaling-stroke" d="{polyline(x, y)}"/>'
