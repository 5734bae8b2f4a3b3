"""A plot of a question: one figure of every variant, its interval, and each seed as a dot. SVG, no scripts."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from avgen_eval.ablations.figures import FIGURES, clip_values, estimate
from avgen_eval.ablations.study import Question, studies

LEFT, WIDTH, RIGHT, LINE, TOP = 300, 380, 24, 30, 44


def draw_plot(question: Question, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Variants from top to bottom; the dotted line is the baseline."""
    kind = FIGURES[question.plot]
    values = {name: clip_values(of_variant, kind) for name, of_variant in rows.items()}
    all_of = {name: estimate(of_variant) for name, of_variant in values.items()}
    top = 1.0 if max(e.high for e in all_of.values()) <= 1 else max(e.high for e in all_of.values())
    height = TOP + LINE * len(rows) + 34
    base = LEFT + WIDTH * all_of[question.baseline].value / top
    bottom = TOP + LINE * len(rows)
    parts = [f'<text x="{LEFT}" y="20" font-weight="600">{escape(kind.title)}</text>']
    parts += [_tick(top * i / 4, LEFT + WIDTH * i / 4, bottom) for i in range(5)]
    parts.append(
        f'<path d="M{base:.1f},{TOP - 10}V{bottom}" stroke="#888" stroke-dasharray="2 3"/>'
    )
    for i, (name, figure) in enumerate(all_of.items()):
        y = TOP + LINE * (i + 0.5)
        low, middle, high = (
            LEFT + WIDTH * x / top for x in (figure.low, figure.value, figure.high)
        )
        seeds = [estimate(of_seed[None]).value for of_seed in values[name]]
        dots = "".join(
            f'<circle cx="{LEFT + WIDTH * x / top:.1f}" cy="{y + 7:.1f}" r="2" fill="#999"/>'
            for x in seeds
        )
        parts.append(
            f'<text x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(studies()[0][name].label)}</text>'
            f'<path d="M{low:.1f},{y:.1f}H{high:.1f}" stroke="#1f5fa8" stroke-width="2"/>{dots}'
            f'<circle cx="{middle:.1f}" cy="{y:.1f}" r="4" fill="#1f5fa8"/>'
        )
    size = f"{LEFT + WIDTH + RIGHT} {height}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{LEFT + WIDTH + RIGHT}" '
        'font-family="sans-serif" font-size="13" role="img">'
        f"<title>{escape(question.title)}</title>"
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _tick(value: float, x: float, bottom: float) -> str:
    return (
        f'<path d="M{x:.1f},{TOP - 10}V{bottom}" stroke="#e4e4e4"/>'
        f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#555">{value:.3g}</text>'
    )
