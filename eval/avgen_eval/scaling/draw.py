"""Loss against operations as an SVG picture."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from avgen_eval.charts import polyline
from avgen_eval.scaling.fit import PowerLaw

COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#9c6b4e", "#97bbf5")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 400, 60, 46, 20


def picture(rows: Sequence[dict[str, Any]], law: PowerLaw | None) -> str:
    """One line per size over the logarithm of operations, and the law through the best."""
    flops = np.log10([row["flops"] for row in rows])
    losses = np.array([row["loss"] for row in rows])
    span = max(float(np.ptp(flops)), 0.1)
    left, right = float(flops.min()) - 0.05 * span, float(flops.max()) + 0.05 * span
    low, high = float(losses.min()), float(losses.max())
    room = 0.08 * max(high - low, 1e-3)
    low, high = low - room, high + room

    def place(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - 10)
        return across, TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_axes(left, right, low, high, place)]
    for order, size in enumerate(dict.fromkeys(row["size"] for row in rows)):
        of = sorted((r for r in rows if r["size"] == size), key=lambda row: row["flops"])
        x, y = place(np.log10([r["flops"] for r in of]), np.array([r["loss"] for r in of]))
        colour = COLOURS[order % len(COLOURS)]
        dots = "".join(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4"/>' for a, b in zip(x, y, strict=True)
        )
        told = escape(f"{size}: {of[0]['parameters'] / 1e6:.2f} M parameters")
        parts.append(
            f'<g fill="{colour}" stroke="{colour}"><path fill="none" d="{polyline(x, y)}"/>{dots}'
            f'<text stroke="none" x="{WIDTH - 250}" y="{TOP + 18 * (order + 1)}">{told}</text></g>'
        )
    if law is not None:
        x = np.linspace(left, right, 200)
        y = law(10**x)
        seen = y <= high
        parts.append(
            f'<path fill="none" stroke="#555" stroke-dasharray="5 4" d="{polyline(*place(x[seen], y[seen]))}"/>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="13" fill="#333"><title>Loss against operations</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _axes(left: float, right: float, low: float, high: float, place: Any) -> str:
    """Marks below at one, two and five times powers of ten, and at losses on the left."""
    text = []
    for tenth in np.log10([m * 10.0**e for e in range(6, 30) for m in (1, 2, 5)]):
        if left <= tenth <= right:
            x, _ = place(np.array([tenth]), np.array([low]))
            text.append(
                f'<text x="{x[0]:.1f}" y="{HEIGHT - 26}" text-anchor="middle">{10**tenth:.0e}</text>'
            )
    for loss in np.linspace(low, high, 6)[1:-1]:
        _, y = place(np.array([left]), np.array([loss]))
        text.append(
            f'<text x="{LEFT - 6}" y="{y[0] + 4:.1f}" text-anchor="end">{loss:.3f}</text>'
            f'<path stroke="#ddd" d="M{LEFT} {y[0]:.1f}H{WIDTH - 10}"/>'
        )
    text.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">FLOPs of training</text>'
    )
    return "".join([*text, f'<text x="{LEFT}" y="14">loss on held-out clips</text>'])
