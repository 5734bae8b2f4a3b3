"""``docs/ablations.md``: a table and a plot for each question, written from the rows; what was decided stays."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from avgen_eval.ablations.figures import (
    COSTS,
    FIGURES,
    Estimate,
    clip_values,
    estimate,
    new_run_interval,
)
from avgen_eval.ablations.plot import draw_plot
from avgen_eval.ablations.rows import read_rows
from avgen_eval.ablations.study import Question, studies

Rows = Sequence[Mapping[str, Any]]
NOT_MEASURED = "Not measured yet."


def write_page(rows_path: Path, page: Path) -> None:
    """Replace what stands between the markers of each question, and draw its plot beside the page.

    A question without a row of its baseline and of another variant is said not to be measured.

    Raises:
        ValueError: The page lacks the markers of a question.
    """
    rows = read_rows(rows_path)
    document = page.read_text(encoding="utf-8")
    for question in studies()[1].values():
        found = {name: [r for r in rows if r["variant"] == name] for name in question.variants}
        found = {name: of_variant for name, of_variant in found.items() if of_variant}
        picture = page.parent / "ablations" / f"{question.name}.svg"
        if question.baseline not in found or len(found) < 2:
            picture.unlink(missing_ok=True)
            document = _replaced(document, question.name, NOT_MEASURED)
            continue
        picture.parent.mkdir(exist_ok=True)
        picture.write_text(draw_plot(question, found), encoding="utf-8")
        document = _replaced(document, question.name, table(question, found))
    page.write_text(document, encoding="utf-8")


def table(question: Question, rows: Mapping[str, Rows]) -> str:
    """A table in Markdown: figures with intervals, in bold where they differ from the baseline's."""
    kinds = [FIGURES[name] for name in question.figures if name in FIGURES]
    costs = [name for name in question.figures if name in COSTS]
    head = ["variant", "seeds", *(kind.title for kind in kinds), *(COSTS[name] for name in costs)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, of_variant in rows.items():
        cells = [_label(question, name), str(len(of_variant))]
        for kind in kinds:
            values = clip_values(of_variant, kind)
            base = clip_values(rows[question.baseline], kind)
            cells.append(
                _cell(estimate(values), name != question.baseline and _differs(values, base))
            )
        cells += [_cost(median(row["costs"][name] for row in of_variant)) for name in costs]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"![{question.title}](ablations/{question.name}.svg)",
        "",
        _expected(question, rows),
    ]
    return "\n".join(lines).rstrip()


def _differs(values: np.ndarray, baseline: np.ndarray) -> bool:
    """Whether a difference is shown; with one seed of either, none is."""
    return min(len(values), len(baseline)) > 1 and estimate(values, baseline).excludes_zero


def _expected(question: Question, rows: Mapping[str, Rows]) -> str:
    """Where another seed should land, for whoever repeats a row."""
    kind = FIGURES[question.plot]
    parts = []
    for name, of_variant in rows.items():
        ends = new_run_interval(clip_values(of_variant, kind))
        if ends is not None:
            low, high = np.clip(ends, 0.0, 1.0)  # every question plots an F1
            parts.append(f"`{name}` {low:.2f} to {high:.2f}")
    return f"Another seed should land here ({kind.title}): {', '.join(parts)}." if parts else ""


def _label(question: Question, name: str) -> str:
    mark = ", baseline" if name == question.baseline else ""
    return f"{studies()[0][name].label} (`{name}`{mark})"


def _cost(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _cell(figure: Estimate, bold: bool) -> str:
    text = f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"
    return f"**{text}**" if bold else text


def _replaced(document: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(document):
        raise ValueError(f"the page has no {begin} ... {end}; put them where the table belongs")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", document)
