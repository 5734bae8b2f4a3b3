"""Results on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from avgen_eval.events import WINDOWS_MS, match_events, score_events, timing_error
from avgen_eval.harness.compare import NAMES, Correction, Row, verdict_line
from avgen_eval.harness.score import Figure, Record
from avgen_eval.harness.scorers import Moments
from avgen_eval.statistics import Comparison

_ARROWS = {"higher": "↑", "lower": "↓", "target": "◎", "none": ""}
MAX_LINES = 20
MIN_WIDTH = 120
"""Of a table that is written to no terminal."""
VERDICTS = {
    "better": "[green]▲ better[/green]",
    "worse": "[red]▼ worse[/red]",
    "no difference shown": "no difference shown",
}
NOT_MEASURED = "[dim]n/a[/dim]"


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


def clip_table(records: Sequence[Record]) -> Table:
    """One row per clip: what was heard and seen against what was asked for, the first `MAX_LINES`."""
    heads = ("sound F1", "picture F1", "sound error", "picture error", "A/V offset", "objects")
    table = _table("clip", *heads)
    for record in records[:MAX_LINES]:
        scores = [_events(record).get(stream) for stream in ("sound", "picture")]
        offset, visible = (
            record.values.get(k) for k in ("sync.offset_ms", "world.objects_visible")
        )
        table.add_row(
            escape(record.id),
            *(_f1(times) for times in scores),
            *(_error(times) for times in scores),
            NOT_MEASURED if offset is None else f"{offset:+.0f} ms",
            NOT_MEASURED if visible is None else f"{visible:.0%}",
        )
    return table


def event_table(record: Record) -> Table:
    """One row per event of a clip: when it was asked for, and when it was found."""
    table = _table(escape(record.id), "asked for", "found", "error")
    for stream, times in _events(record).items():
        pairs = dict(match_events(times.requested, times.found, WINDOWS_MS[-1] / 1000))
        rows: list[tuple[float, float | None, float | None]] = [
            (asked, asked, times.found[pairs[i]] if i in pairs else None)
            for i, asked in enumerate(times.requested)
        ]
        rows += [(t, None, t) for j, t in enumerate(times.found) if j not in pairs.values()]
        for _, asked, found in sorted(rows, key=lambda row: row[0]):
            error = "" if asked is None or found is None else f"{1000 * (found - asked):+.0f} ms"
            table.add_row(stream, _seconds(asked, "no"), _seconds(found, "not found"), error)
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


def print_comparison(
    console: Console,
    rows: Sequence[Row],
    baseline: str,
    candidate: str,
    *,
    correction: Correction = "holm",
    name_all: bool = False,
) -> None:
    """What changed in a line, then one row per value that could be compared, in as many columns as fit.

    Numbers are never cut: a terminal that is too narrow for all columns gets fewer, and what is no terminal gets
    lines as long as they must be.

    Args:
        console: Where to.
        rows: Of one candidate.
        baseline: Name of the first run.
        candidate: Name of the second.
        correction: How p was corrected.
        name_all: Name the values that were not compared, instead of counting them.
    """
    console.print(
        f"{escape(candidate)} (second) against {escape(baseline)} (first): {verdict_line(rows)}",
        soft_wrap=True,
    )
    layouts = [_short_table(rows, correction, between) for between in (" ", "\n")]
    if console.is_terminal:
        layouts.insert(0, _full_table(rows, correction))
        wide = console.options.update(width=1000)
        widths = [Measurement.get(console, wide, table).maximum for table in layouts]
        chosen = next((i for i, width in enumerate(widths) if width <= console.width), -1)
        console.print(layouts[chosen])
    else:
        needed = Measurement.get(console, console.options.update(width=1000), layouts[0]).maximum
        console.width = max(MIN_WIDTH, console.width, needed)
        console.print(layouts[0])
    missing = [row.id for row in rows if row.comparison is None]
    if missing:
        told = ", ".join(missing) if name_all else f"{len(missing)} values (named with --all)"
        console.print(f"not measured in one of the runs: {escape(told)}", soft_wrap=True)


def _full_table(rows: Sequence[Row], correction: Correction) -> Table:
    """Every column; ``visible`` is the smallest difference that so many prompts would show."""
    heads = ("", "first", "second", "change", "95%", _p_head(correction), "verdict")
    table = _table("value", *heads, "visible", "won/tied/lost")
    for row in rows:
        if (found := row.comparison) is None:
            continue
        table.add_row(
            escape(row.id),
            _ARROWS[row.better],
            _number(row.baseline),
            _number(row.candidate),
            _number(found.difference),
            _ends(found),
            _p(row),
            _verdict(row, " "),
            _number(found.minimum_effect),
            f"{found.wins}/{found.ties}/{found.losses}",
        )
    return table


def _short_table(rows: Sequence[Row], correction: Correction, between: str) -> Table:
    """The columns that matter; only names may be broken. ``between`` stands between a change and its interval."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("value", overflow="fold")
    for head in ("first", "second", "change (95%)", _p_head(correction), "verdict"):
        table.add_column(head.replace(" (", f"{between}("), no_wrap=True)
    for row in rows:
        if (found := row.comparison) is None:
            continue
        ends = _ends(found)
        table.add_row(
            escape(row.id),
            _number(row.baseline),
            _number(row.candidate),
            _number(found.difference)
            + (ends and (f" ({ends})" if between == " " else f"\n{ends}")),
            _p(row),
            _verdict(row, between),
        )
    return table


def _p_head(correction: Correction) -> str:
    return f"p ({NAMES[correction]})"


def _p(row: Row) -> str:
    return "" if row.p_corrected is None else f"{row.p_corrected:.3f}"


def _ends(found: Comparison) -> str:
    return "" if found.low is None else f"{_number(found.low)} to {_number(found.high)}"


def _verdict(row: Row, between: str) -> str:
    """In words, marked; long ones broken where changes are."""
    if row.verdict is None:
        return ""
    return VERDICTS[row.verdict].replace("no difference ", f"no difference{between}")


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


def _events(record: Record) -> dict[str, Moments]:
    """Those of the world's detector where there are any, since it knows what to look for."""
    return record.events.get("world") or record.events.get("timing") or {}


def _f1(times: Moments | None) -> str:
    if times is None or not times.requested:
        return NOT_MEASURED
    score = score_events(times.requested, times.found, WINDOWS_MS[0])
    return NOT_MEASURED if score.f1 is None else f"{score.f1:.2f}"


def _error(times: Moments | None) -> str:
    found = times and timing_error(
        score_events(times.requested, times.found, WINDOWS_MS[-1]).errors_ms
    )
    return f"{found.median_ms:.0f} ms" if found else NOT_MEASURED


def _seconds(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.3f} s"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
