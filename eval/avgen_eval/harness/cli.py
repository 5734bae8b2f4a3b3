"""``avgen eval run | extract | score | compare | report | ls | validate``."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from avgen_eval.harness.options import CLIPS, name_run, source_of, sources_parser

MAX_EVENT_TABLES = 4


def run(verb: str, argv: Sequence[str]) -> int:
    """Run one verb; returns the exit status."""
    return {
        "run": _run,
        "extract": _extract,
        "score": _score,
        "compare": _compare,
        "report": _report,
        "ls": _ls,
        "validate": _validate,
    }[verb](argv)


def _run(argv: Sequence[str]) -> int:
    options = sources_parser(
        "run", "Extract and score clips: what `extract` and then `score` do."
    ).parse_args(argv)
    name_run(options)
    _check_weights(options)
    return _do_score(options, _do_extract(options))


def _extract(argv: Sequence[str]) -> int:
    options = sources_parser(
        "extract", "Measure clips and keep what was measured, without scoring."
    ).parse_args(argv)
    _do_extract(options)
    return 0


def _score(argv: Sequence[str]) -> int:
    options = sources_parser(
        "score", "Score what was extracted; clips that were not count as failed."
    ).parse_args(argv)
    name_run(options)
    _check_weights(options)
    return _do_score(options, {})


def _compare(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="avgen eval compare", description="Compare runs with the first, paired by prompt."
    )
    parser.add_argument("baseline", type=Path, help="result.json, or its folder")
    parser.add_argument("candidates", type=Path, nargs="+", metavar="candidate")
    parser.add_argument(
        "--correct", choices=("holm", "bh", "none"), default="holm", help="(%(default)s)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="ID", help="repeatable: value or scorer"
    )
    parser.add_argument(
        "--all", action="store_true", help="name the values that could not be compared"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)

    from avgen_eval.harness.compare import compare_all, correction_line
    from avgen_eval.harness.result import read_result
    from avgen_eval.harness.show import print_comparison
    from avgen_eval.results import write_json

    baseline, *candidates = (read_result(p) for p in (options.baseline, *options.candidates))
    compared = compare_all(baseline, candidates, correction=options.correct, only=options.only)
    console, content = Console(), []
    for candidate, rows in zip(candidates, compared, strict=True):
        print_comparison(
            console,
            rows,
            baseline.name,
            candidate.name,
            correction=options.correct,
            name_all=options.all,
        )
        told = [
            {
                **vars(row),
                "verdict": row.verdict,
                "comparison": row.comparison and row.comparison.to_dict(),
            }
            for row in rows
        ]
        content.append({"candidate": candidate.name, "rows": told})
    console.print(correction_line(compared, options.correct), soft_wrap=True)
    if options.json:
        write_json(options.json, {"baseline": baseline.name, "compared": content})
    return 0


def _report(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="avgen eval report", description="Write a self-contained page of one run or several."
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        help="result.json, or its folder; each is compared with the first",
    )
    parser.add_argument("--html", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--clips", type=int, default=3, help="best and worst of each run (%(default)s)"
    )
    parser.add_argument("--order-by", metavar="ID", help="value that says which clips are best")
    options = parser.parse_args(argv)

    from avgen_eval.harness.report import write_run_report
    from avgen_eval.harness.result import read_result

    runs = [read_result(path) for path in options.runs]
    written = write_run_report(
        options.html, runs, num_clips=options.clips, order_by=options.order_by
    )
    Console().print(f"report: {escape(str(written))}")
    return 0


def _ls(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="avgen eval ls", description="List suites and what they measure."
    )
    parser.parse_args(argv)

    from avgen_eval.harness.suite import list_suites

    table = Table("suite", "of each clip", "of the set", "what for", box=None)
    for suite in list_suites():
        table.add_row(suite.name, ", ".join(suite.clips), ", ".join(suite.sets), suite.about)
    console = Console()
    console.print(table)

    from avgen_eval.weighted.catalogue import METRICS

    table = Table("metric", "as papers call it", "weights that you bring", "needs", box=None)
    for entry in METRICS.values():
        mark = " (non-commercial)" if entry.non_commercial else ""
        table.add_row(
            entry.name, entry.title, ", ".join(entry.weights) + mark, ", ".join(entry.needs)
        )
    console.print(table)
    return 0


def _validate(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="avgen eval validate", description="Check a manifest or a folder."
    )
    parser.add_argument("clips", type=Path, nargs="+", help=CLIPS)
    parser.add_argument("--ref", type=Path)
    options = parser.parse_args(argv)

    from avgen_eval.harness.decode import caption_problem
    from avgen_eval.harness.manifest import load_items

    items = load_items(options.clips, options.ref)
    named = (
        path
        for i in items
        for path in (i.video, i.audio, i.reference_video, i.reference_audio, i.arrivals)
    )
    missing = [path for path in named if path is not None and not path.is_file()]
    console = Console()
    for path in missing:
        console.print(f"missing: {escape(str(path))}")
    wrong = [text for item in items if (text := caption_problem(item))]
    for text in wrong:
        console.print(f"caption cannot be used: {escape(text)}")
    given = sum(item.caption is not None or item.caption_file is not None for item in items)
    told = f"{given - len(wrong)} with a caption, {len(missing)} files missing"
    console.print(f"{len(items)} clips, {told}")
    return 1 if missing or wrong else 0


def _do_extract(options: argparse.Namespace) -> dict[str, str]:
    """Extract this process's part; returns the hash of the content of each item of it."""
    from avgen_eval.harness.extract import Extraction
    from avgen_eval.harness.suite import load_suite
    from avgen_eval.tables import progress_bar

    part = _items(options)[_rank() :: _world_size()]
    extraction = Extraction(extractors=load_suite(options.suite).extractors, cache=options.cache)
    with progress_bar(Console()) as progress:
        task = progress.add_task("extracting", total=len(part))
        return extraction.run_all(
            part, workers=options.workers, progress=lambda n: progress.update(task, advance=n)
        )


def _do_score(options: argparse.Namespace, contents: Mapping[str, str]) -> int:
    """Score in the first process, once all have extracted."""
    _wait_for_all()
    if _rank() != 0:
        return 0

    from avgen_eval.harness.cache import ExtractCache
    from avgen_eval.harness.report import write_run_report
    from avgen_eval.harness.result import read_result, write_result
    from avgen_eval.harness.score import score
    from avgen_eval.harness.show import (
        clip_table,
        event_table,
        figure_table,
        skipped_lines,
        summary_lines,
    )
    from avgen_eval.harness.suite import load_suite

    suite, items = load_suite(options.suite), _items(options)
    scores = score(suite, items, ExtractCache(options.cache), contents=contents)
    weights = _add_weighted(scores, items, options)
    path = write_result(
        options.out, options.name, source_of(options.clips), items, suite, scores, weights
    )
    console = Console()
    console.print(figure_table(scores.figures))
    if any(record.events for record in scores.records):
        console.print(clip_table(scores.records))
    if len(scores.records) <= MAX_EVENT_TABLES:
        for record in scores.records:
            if record.events:
                console.print(event_table(record))
    for line in (*skipped_lines(scores.figures), *summary_lines(scores.records)):
        console.print(line)
    console.print(f"result: {escape(str(path))}")
    if options.report:
        written = write_run_report(options.report, [read_result(path)])
        console.print(f"report: {escape(str(written))}")
    wrong = sum(bool(record.failed or record.findings) for record in scores.records)
    broken = any(figure.status == "failed" for figure in scores.figures)
    return 1 if broken or (options.strict and wrong) else 0


def _check_weights(options: argparse.Namespace) -> None:
    """Refuse metrics and weights that do not go together before anything is measured."""
    from avgen_eval.weighted.catalogue import check_given, choose

    check_given(choose(options.metric), _weight_sources(options))


def _add_weighted(scores: Any, items: list[Any], options: argparse.Namespace) -> dict[str, str]:
    """Add the figures of metrics with weights; return the hashes of their weights."""
    if not options.metric:
        return {}

    from avgen_eval.harness.weighted import weighted_figures

    figures, hashes = weighted_figures(options.metric, items, _weight_sources(options))
    scores.figures.extend(figures)
    return hashes


def _weight_sources(options: argparse.Namespace) -> Any:
    from avgen_eval.weighted.weights import Sources, parse_weights

    return Sources(
        given=parse_weights(options.weights),
        allow_download=options.allow_download,
        non_commercial=options.non_commercial,
    )


def _items(options: argparse.Namespace) -> list[Any]:
    from avgen_eval.harness.manifest import load_items

    items = load_items(options.clips, options.ref)
    return items[: options.limit] if options.limit else items


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _wait_for_all() -> None:
    """Under torchrun, the barrier after extraction."""
    if _world_size() > 1:
        from torch import distributed

        distributed.init_process_group("gloo")
        distributed.barrier()
        distributed.destroy_process_group()
