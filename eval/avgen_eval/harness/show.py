"""Results on the terminal."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from avgen_eval.harness.compare import Row
from avgen_eval.harness.score import Figure, Record

_ARROWS = {"higher": "↑", "lower": "↓", "target": "◎", "none": ""}
MAX_LINES = 20


def figure_table(figures: Sequence[Figure]) -> Table:
    """One row per figure that was measured."""
    table = _table("value", "", "mean", "95% interval", "n", "note")
    for figure in figures:
        if figure.status != "ok":
            continue
        ends = "" if figure.low is None else f"{_number(figure.low)} to {_number(figure.high)}"
        floor = "" if figure.floor is None else f"floor {_number(figure.floor)}. "
        table.add_row(
            escape(figure.id),
            _ARROWS[figure.better],
            f"{_number(figure.value)} {figure.unit}".strip(),
            ends,
            str(figure.num),
            escape(floor + figure.reason),
        )
    return table


def skipped_lines(figures: Sequence[Figure]) -> list[str]:
    """What was not measured, and why: one line per scorer and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for figure in figures:
        if figure.status != "ok":
            scorer, _, value = figure.id.rpartition(".")
            groups.setdefault((scorer, figure.reason), []).append(value)
    return [
        f"not measured: {escape(scorer)} ({escape(', '.join(values[:4]))}"
        f"{f' and {len(values) - 4} more' if len(values) > 4 else ''}): {escape(reason)}"
        for (scorer, reason), values in groups.items()
    ]


def comparison_table(rows: Sequence[Row], baseline: str, candidate: str) -> Table:
    """One row per value that could be compared.

    ``p`` is corrected for their number; ``visible`` is the smallest difference that so many prompts would show.
    """
    names = ("value", "", baseline, candidate, "change", "95%", "p", "visible", "won/tied/lost")
    table = _table(*(escape(name) for name in names))
    for row in rows:
        if (found := row.comparison) is None:
            continue
        table.add_row(
            escape(row.id),
            _ARROWS[row.better],
            _number(row.baseline),
            _number(row.candidate),
            _number(found.difference),
            "" if found.low is None else f"{_number(found.low)} to {_number(found.high)}",
            "" if row.p_corrected is None else f"{row.p_corrected:.3f}",
            _number(found.minimum_effect),
            f"{found.wins}/{found.ties}/{found.losses}",
        )
    return table


def summary_lines(records: Sequence[Record]) -> list[str]:
    """How many clips were measured, and what is wrong with the others."""
    wrong = [r for r in records if r.failed or r.findings]
    failed = sum(bool(r.failed) for r in records)
    lines = [
        f"{escape(r.id)}: {escape(r.failed or '; '.join(r.findings))}" for r in wrong[:MAX_LINES]
    ]
    if len(wrong) > MAX_LINES:
        lines.append(f"and {len(wrong) - MAX_LINES} more clips, see records.parquet")
    lines.append(
        f"{len(records)} clips, {len(records) - failed} measured, {failed} failed, {len(wrong)} with findings"
    )
    return lines


def _table(first: str, *names: str) -> Table:
    table = Table(box=None)
    table.add_column(first, no_wrap=True)
    for name in names:
        table.add_column(name)
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
