"""One or several runs as a self-contained page: figures with intervals, and the best and worst clips to play."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from avgen_eval.folder import measure_file
from avgen_eval.harness.compare import Row, compare_runs
from avgen_eval.harness.result import Result, ResultError
from avgen_eval.harness.score import Figure, Record
from avgen_eval.report import NOT_AVAILABLE, ReportItem, build_report, scrolled
from avgen_eval.results import short_facts

ORDERS = (
    "sync.f1_graded_corrected",
    "timing.sound_f1_100ms",
    "reconstruction.psnr_db",
    "temporal.freeze_share",
)
"""What clips are ordered by, the first that the runs have."""
HEADLINES = (
    "sync.f1_graded_corrected",
    "sync.f1_60ms",
    "sync.offset_abs_ms",
    "sync.within_detectability",
    "learned_sync.desync_ms",
    "shuffle_gap.f1_gap",
    "timing.sound_f1_100ms",
    "timing.picture_f1_100ms",
    "timing.sound_error_median_ms",
    "timing.picture_error_median_ms",
    "reconstruction.psnr_db",
    "reconstruction.ssim",
    "physics.physics_iq",
    "signal.loudness_lufs",
    "signal.silence_share",
    "temporal.freeze_share",
    "temporal.motion",
    "distribution.logmel.kernel",
    "distribution.rand3d.kernel",
)
"""What stands above the fold, of what was measured."""


def write_run_report(
    path: str | Path,
    results: Sequence[Result],
    *,
    num_clips: int = 3,
    order_by: str | None = None,
) -> Path:
    """Write the page.

    Args:
        path: The HTML file.
        results: Runs; with two, the second is compared with the first.
        num_clips: Best and as many worst clips of each run, where their files are still there.
        order_by: Value that says which clips are best; the first of `ORDERS` that was measured if None.

    Raises:
        ResultError: No such value, or two runs that were not measured alike.
    """
    order = _order(results, order_by)
    rows = compare_runs(*results) if len(results) == 2 else []
    items = [item for result in results for item in _clips(result, order, num_clips)]
    facts = short_facts(results[0].content["environment"])
    suite = results[0].content["suite"]
    text = build_report(
        " against ".join(result.name for result in reversed(results)),
        items,
        about={"suite": f"{suite['name']} v{suite['version']}", **facts},
        lead=_lead(results, order),
        overview=_figures(results, rows) + "".join(_failures(result) for result in results),
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _order(results: Sequence[Result], chosen: str | None) -> str:
    for name in (chosen,) if chosen else ORDERS:
        if all(name in r.figures and r.figures[name].status == "ok" for r in results):
            return name
    told = f"{chosen!r} was" if chosen else "none of the usual values were"
    raise ResultError(f"{told} measured in all runs; name one that was with --order-by")


def _lead(results: Sequence[Result], order: str) -> str:
    parts = []
    for result in results:
        data = result.content["data"]
        parts.append(
            f"{result.name}: {data['num_scored']} of {data['num_expected']} clips measured, "
            f"{data['num_failed']} failed, {data['num_with_findings']} with findings"
        )
    return f"{'; '.join(parts)}. Below, the best and worst clips by {order}."


def _figures(results: Sequence[Result], rows: Sequence[Row]) -> str:
    """The main values, then all of them by scorer, folded away."""
    compared = {row.id: row for row in rows} if len(results) == 2 else None
    names = dict.fromkeys(n for r in results for n, f in r.figures.items() if f.status == "ok")
    main = [name for name in HEADLINES if name in names]
    parts = [f"<h2>Figures</h2>{_table(main, results, compared)}"] if main else []
    for scorer in dict.fromkeys(name.rpartition(".")[0] for name in names):
        group = [name for name in names if name.rpartition(".")[0] == scorer]
        table = _table(group, results, compared)
        parts.append(
            f"<details><summary>{escape(scorer)}: all {len(group)} values</summary>{table}</details>"
        )
    return "".join(parts)


def _table(
    names: Sequence[str], results: Sequence[Result], compared: Mapping[str, Row] | None
) -> str:
    heads = ["Value", *(result.name for result in results)]
    if compared is not None:
        heads += ["Change", "p", "Won / tied / lost"]
    lines = []
    for name in names:
        cells = "".join(f"<td>{_figure(r.figures.get(name))}</td>" for r in results)
        if compared is not None:
            cells += _change(compared.get(name))
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return scrolled("".join(f'<th scope="col">{escape(h)}</th>' for h in heads), lines)


def _figure(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return NOT_AVAILABLE
    more = [] if figure.low is None else [f"{figure.low:.3g} to {figure.high:.3g}"]
    more += [] if figure.floor is None else [f"floor {figure.floor:.3g}"]
    unit = "" if figure.unit in ("", "share") else f" {escape(figure.unit)}"
    more.append(f"n {figure.num}")
    return f"{figure.value:.3g}{unit}<br><small>{', '.join(more)}</small>"


def _change(row: Row | None) -> str:
    if row is None or row.comparison is None:
        return f"<td>{NOT_AVAILABLE}</td><td></td><td></td>"
    found = row.comparison
    ends = "" if found.low is None else f"<br><small>{found.low:.3g} to {found.high:.3g}</small>"
    p = "" if row.p_corrected is None else f"{row.p_corrected:.3f}"
    return (
        f"<td>{found.difference:+.3g}{ends}</td><td>{p}</td>"
        f"<td>{found.wins} / {found.ties} / {found.losses}</td>"
    )


def _failures(result: Result) -> str:
    told = [(r.id, r.failed or "; ".join(r.findings)) for r in result.records]
    lines = [
        f'<tr><th scope="row">{escape(name)}</th><td class="words">{escape(text)}</td></tr>'
        for name, text in told
        if text
    ]
    if not lines:
        return ""
    head = '<th scope="col">Clip</th><th scope="col" class="words">Finding</th>'
    return (
        f"<details><summary>{escape(result.name)}: {len(lines)} clips with findings</summary>"
        f"{scrolled(head, lines)}</details>"
    )


def _clips(result: Result, order: str, count: int) -> list[ReportItem]:
    """The best and the worst clips whose files are there."""
    better = result.figures[order].better
    known = [(value, r) for r in result.records if (value := r.values.get(order)) is not None]
    ranked = sorted(known, key=lambda pair: pair[0], reverse=better != "lower")
    chosen = ranked if len(ranked) <= 2 * count else [*ranked[:count], *ranked[-count:]]
    items = []
    for place, (value, record) in enumerate(chosen):
        if Path(record.file).is_file():
            half = "best" if place < (len(chosen) + 1) // 2 else "worst"
            items.append(_item(result, record, f"{half}, {order} {value:.3g}"))
    return items


def _item(result: Result, record: Record, note: str) -> ReportItem:
    item = measure_file(Path(record.file))
    notes = (note, *item.record.notes)
    return replace(
        item, record=replace(item.record, notes=notes), title=f"{result.name}: {record.id}"
    )
