"""One or several runs as a self-contained page: figures with intervals, and the best and worst clips to play."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from avgen_eval.harness.compare import Row, compare_all, correction_line, verdict_line
from avgen_eval.harness.course import draw_course, draw_courses
from avgen_eval.harness.manifest import Item
from avgen_eval.harness.measured import measure_item
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
    "world.sound_f1_60ms",
    "world.picture_f1_60ms",
    "world.objects_visible",
    "timing.sound_f1_100ms",
    "timing.picture_f1_100ms",
    "timing.sound_error_median_ms",
    "timing.picture_error_median_ms",
    "reconstruction.psnr_db",
    "reconstruction.ssim",
    "physics.physics_iq",
    "live.first_both_s",
    "live.stalls",
    "live.stall_s",
    "live.steady_factor",
    "longform.offset_slope_abs",
    "longform.loudness_slope_abs",
    "longform.brightness_last_to_first",
    "longform.saturation_last_to_first",
    "longform.picture_similarity_10s",
    "longform.sound_similarity_10s",
    "signal.loudness_lufs",
    "signal.silence_share",
    "temporal.freeze_share",
    "temporal.motion",
    "distribution.logmel.kernel",
    "distribution.rand3d.kernel",
)
"""What stands above the fold, of what was measured."""
VERDICTS = {
    "better": '<b class="better">▲ better</b>',
    "worse": '<b class="worse">▼ worse</b>',
    "no difference shown": '<span class="na">no difference shown</span>',
}


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
        results: One run or more; each is compared with the first.
        num_clips: Best and as many worst clips of each run, where their files are still there.
        order_by: Value that says which clips are best; the first of `ORDERS` that was measured if None. Where none
            was, the first clips are shown.

    Raises:
        ResultError: No such value, or runs that were not measured alike.
    """
    results = _named_apart(results)
    order = _order(results, order_by)
    compared = compare_all(results[0], results[1:])
    items = [item for result in results for item in _clips(result, order, num_clips)]
    facts = short_facts(results[0].content["environment"])
    suite = results[0].content["suite"]
    text = build_report(
        _title([result.name for result in results]),
        items,
        about={"suite": f"{suite['name']} v{suite['version']}", **facts},
        lead=_lead(results, order),
        overview=_verdicts(results, compared)
        + _figures(results, compared)
        + draw_courses(results)
        + "".join(_not_measured(result) + _failures(result) for result in results),
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _named_apart(results: Sequence[Result]) -> list[Result]:
    """Runs of one name get a number."""
    names = [result.name for result in results]
    return [
        replace(r, name=f"{r.name} ({names[: i + 1].count(r.name)})")
        if names.count(r.name) > 1
        else r
        for i, r in enumerate(results)
    ]


def _title(names: Sequence[str]) -> str:
    return f"{', '.join(names[1:])} against {names[0]}" if len(names) > 1 else names[0]


def _order(results: Sequence[Result], chosen: str | None) -> str | None:
    for name in (chosen,) if chosen else ORDERS:
        if all(name in r.figures and r.figures[name].status == "ok" for r in results):
            return name
    if chosen is not None:
        raise ResultError(
            f"{chosen!r} was not measured in all runs; name one that was with --order-by"
        )
    return None


def _lead(results: Sequence[Result], order: str | None) -> str:
    parts = []
    for result in results:
        data = result.content["data"]
        parts.append(
            f"{result.name}: {data['num_scored']} of {data['num_expected']} clips measured, "
            f"{data['num_failed']} failed, {data['num_with_findings']} with findings"
        )
    clips = f"the best and worst clips by {order}" if order else "the first clips"
    return f"{'; '.join(parts)}. Below, {clips}."


def _verdicts(results: Sequence[Result], compared: Sequence[Sequence[Row]]) -> str:
    """What changed in a line per candidate; empty for a single run."""
    if not compared:
        return ""
    told = "".join(
        f'<p class="verdict">{escape(result.name)} against {escape(results[0].name)}: '
        f"{escape(verdict_line(rows))}.</p>"
        for result, rows in zip(results[1:], compared, strict=True)
    )
    return f'{told}<p class="told">{escape(correction_line(compared))}</p>'


def _figures(results: Sequence[Result], rows: Sequence[Sequence[Row]]) -> str:
    """The main values, then all of them by scorer, folded away."""
    compared = [{row.id: row for row in found} for found in rows]
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
    names: Sequence[str], results: Sequence[Result], compared: Sequence[Mapping[str, Row]]
) -> str:
    """One row per value: the first run, then each other one and its change against the first."""
    first, *others = results
    heads = ["Value", first.name, *(h for r in others for h in (r.name, "Change"))]
    lines = []
    for name in names:
        texts = [_figure(first.figures.get(name))]
        for result, rows in zip(others, compared, strict=True):
            texts += [_figure(result.figures.get(name)), _change(rows.get(name))]
        cells = "".join(
            f'<td data-head="{escape(head, quote=True)}">{text}</td>'
            for head, text in zip(heads[1:], texts, strict=True)
        )
        lines.append(f'<tr><th scope="row">{_breakable(name)}</th>{cells}</tr>')
    return scrolled(
        "".join(f'<th scope="col">{escape(h)}</th>' for h in heads), lines, stacked=True
    )


def _breakable(name: str) -> str:
    """A name that may be broken after its dots and underscores."""
    return escape(name).replace(".", ".<wbr>").replace("_", "_<wbr>")


def _figure(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return NOT_AVAILABLE
    more = [] if figure.low is None else [f"{figure.low:.3g} to {figure.high:.3g}"]
    more += [] if figure.floor is None else [f"floor {figure.floor:.3g}"]
    unit = "" if figure.unit in ("", "share", "count") else f" {escape(figure.unit)}"
    more.append(f"n {figure.num}")
    return f"{figure.value:.3g}{unit}<br><small>{', '.join(more)}</small>"


def _change(row: Row | None) -> str:
    if row is None or row.comparison is None:
        return NOT_AVAILABLE
    found = row.comparison
    ends = "" if found.low is None else f"{found.low:.3g} to {found.high:.3g}, "
    p = "" if row.p_corrected is None else f"p (Holm) {row.p_corrected:.3f}"
    alone = row.only_baseline + row.only_candidate
    counts = f"{found.wins} won, {found.ties} tied, {found.losses} lost"
    counts += f"<br>{found.num_prompts} pairs, {alone} prompts left out" if alone else ""
    verdict = "" if row.verdict is None else f"<br>{VERDICTS[row.verdict]}"
    return f"{found.difference:+.3g}{verdict}<br><small>{ends}{p}<br>{counts}</small>"


def _not_measured(result: Result) -> str:
    reasons = {
        (name.rpartition(".")[0], figure.reason): None
        for name, figure in result.figures.items()
        if figure.status != "ok"
    }
    return _listed(result, "what was not measured", ("Scorer", "Reason"), list(reasons))


def _failures(result: Result) -> str:
    told = [(r.id, r.failed or "; ".join(r.findings)) for r in result.records]
    found = [(name, text) for name, text in told if text]
    return _listed(result, "clips with findings", ("Clip", "Finding"), found)


def _listed(
    result: Result, what: str, heads: tuple[str, str], told: Sequence[tuple[str, str]]
) -> str:
    """Names and words, folded away; empty without any."""
    if not told:
        return ""
    lines = [
        f'<tr><th scope="row">{escape(name)}</th><td class="words">{escape(text)}</td></tr>'
        for name, text in told
    ]
    head = f'<th scope="col">{heads[0]}</th><th scope="col" class="words">{heads[1]}</th>'
    return (
        f"<details><summary>{escape(result.name)}: {what} ({len(told)})</summary>"
        f"{scrolled(head, lines)}</details>"
    )


def _clips(result: Result, order: str | None, count: int) -> list[ReportItem]:
    """The best, the worst and, where there is room, those without a value; or the first where nothing orders them."""
    items = result.items()
    if order is None:
        return [_item(result, r, items[r.id]) for r in result.records[: 2 * count] if r.id in items]
    there = {r.id for r in result.records if r.id in items and Path(r.file).is_file()}
    better = result.figures[order].better
    known = [(value, r) for r in result.records if (value := r.values.get(order)) is not None]
    ranked = sorted(known, key=lambda pair: pair[0], reverse=better != "lower")
    chosen = ranked if len(ranked) <= 2 * count else [*ranked[:count], *ranked[-count:]]
    shown = []
    for place, (value, record) in enumerate(chosen):
        if record.id in there:
            half = "best" if place < (len(chosen) + 1) // 2 else "worst"
            shown.append(_item(result, record, items[record.id], f"{half}, {order} {value:.3g}"))
    rest = [r for r in result.records if r.values.get(order) is None and r.id in there]
    room = max(0, 2 * count - len(chosen))
    return shown + [_item(result, r, items[r.id], f"{order} n/a") for r in rest[:room]]


def _item(result: Result, record: Record, item: Item, *notes: str) -> ReportItem:
    measured = measure_item(item)
    notes = (*notes, *measured.record.notes)
    return replace(
        measured,
        record=replace(measured.record, notes=notes),
        title=f"{result.name}: {item.id}",
        below=draw_course(record),
    )
