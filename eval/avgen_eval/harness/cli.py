"""``avgen eval run | extract | score | compare | report | ls | validate``."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

CACHE = "AVGEN_EVAL_CACHE"


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
    options = _sources(
        "run", "Extract and score clips: what `extract` and then `score` do."
    ).parse_args(argv)
    _do_extract(options)
    return _do_score(options)


def _extract(argv: Sequence[str]) -> int:
    options = _sources(
        "extract", "Measure clips and keep what was measured, without scoring."
    ).parse_args(argv)
    _do_extract(options)
    return 0


def _score(argv: Sequence[str]) -> int:
    options = _sources(
        "score", "Score what was extracted; clips that were not count as failed."
    ).parse_args(argv)
    return _do_score(options)


def _compare(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="avgen eval compare", description="Compare two runs, paired by prompt."
    )
    parser.add_argument("baseline", type=Path, help="result.json, or its folder")
    parser.add_argument("candidate", type=Path)
    parser.add_argument(
        "--correct", choices=("holm", "bh", "none"), default="holm", help="(%(default)s)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="ID", help="repeatable: value or scorer"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)

    from avgen_eval.harness.compare import compare_runs
    from avgen_eval.harness.result import read_result
    from avgen_eval.harness.show import comparison_table
    from avgen_eval.results import write_json

    runs = [read_result(path) for path in (options.baseline, options.candidate)]
    rows = compare_runs(*runs, correction=options.correct, only=options.only)
    console = Console()
    console.print(comparison_table(rows, runs[0].name, runs[1].name))
    unpaired = [row.id for row in rows if row.comparison is None]
    if unpaired:
        console.print(f"not measured in one of the runs: {escape(', '.join(unpaired))}")
    if options.json:
        content = [
            {**vars(row), "comparison": row.comparison and row.comparison.to_dict()} for row in rows
        ]
        write_json(
            options.json, {"baseline": runs[0].name, "candidate": runs[1].name, "rows": content}
        )
    return 0


def _report(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="avgen eval report", description="Write a self-contained page of one run or two."
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", help="result.json, or its folder; at most two"
    )
    parser.add_argument("--html", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--clips", type=int, default=3, help="best and worst of each run (%(default)s)"
    )
    parser.add_argument("--order-by", metavar="ID", help="value that says which clips are best")
    options = parser.parse_args(argv)
    if len(options.runs) > 2:
        parser.error("give one run, or two to compare")

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
    parser.add_argument("clips", type=Path)
    parser.add_argument("--ref", type=Path)
    options = parser.parse_args(argv)

    from avgen_eval.harness.manifest import load_items

    items = load_items(options.clips, options.ref)
    named = (
        path for i in items for path in (i.video, i.audio, i.reference_video, i.reference_audio)
    )
    missing = [path for path in named if path is not None and not path.is_file()]
    console = Console()
    for path in missing:
        console.print(f"missing: {escape(str(path))}")
    captions = sum(item.caption is not None or item.caption_file is not None for item in items)
    console.print(f"{len(items)} clips, {captions} with a caption, {len(missing)} files missing")
    return 1 if missing else 0


def _do_extract(options: argparse.Namespace) -> None:
    from avgen_eval.harness.extract import Extraction
    from avgen_eval.harness.suite import load_suite
    from avgen_eval.tables import progress_bar

    part = _items(options)[_rank() :: _world_size()]
    extraction = Extraction(extractors=load_suite(options.suite).extractors, cache=options.cache)
    with progress_bar(Console()) as progress:
        task = progress.add_task("extracting", total=len(part))
        extraction.run_all(
            part, workers=options.workers, progress=lambda n: progress.update(task, advance=n)
        )


def _do_score(options: argparse.Namespace) -> int:
    """Score in the first process, once all have extracted."""
    _wait_for_all()
    if _rank() != 0:
        return 0

    from avgen_eval.harness.cache import ExtractCache
    from avgen_eval.harness.result import write_result
    from avgen_eval.harness.score import score
    from avgen_eval.harness.show import figure_table, skipped_lines, summary_lines
    from avgen_eval.harness.suite import load_suite

    suite, items = load_suite(options.suite), _items(options)
    scores = score(suite, items, ExtractCache(options.cache))
    weights = _add_weighted(scores, items, options)
    name = options.name or options.clips.name or str(options.clips)
    path = write_result(options.out, name, str(options.clips), suite, scores, weights)
    console = Console()
    console.print(figure_table(scores.figures))
    for line in (*skipped_lines(scores.figures), *summary_lines(scores.records)):
        console.print(line)
    console.print(f"result: {escape(str(path))}")
    wrong = sum(bool(record.failed or record.findings) for record in scores.records)
    return 1 if options.strict and wrong else 0


def _add_weighted(scores: Any, items: list[Any], options: argparse.Namespace) -> dict[str, str]:
    """Add the figures of metrics with weights; return the hashes of their weights."""
    if not options.metric:
        return {}

    from avgen_eval.harness.weighted import weighted_figures
    from avgen_eval.weighted.weights import Sources, parse_weights

    sources = Sources(
        given=parse_weights(options.weights),
        allow_download=options.allow_download,
        non_commercial=options.non_commercial,
    )
    figures, hashes = weighted_figures(options.metric, items, sources)
    scores.figures.extend(figures)
    return hashes


def _items(options: argparse.Namespace) -> list[Any]:
    from avgen_eval.harness.manifest import load_items

    items = load_items(options.clips, options.ref)
    return items[: options.limit] if options.limit else items


def _sources(verb: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"avgen eval {verb}", description=description)
    add = parser.add_argument
    add("clips", type=Path, help="manifest (.jsonl), or a folder of clips")
    add("--ref", type=Path, help="folder of references with the same names")
    add("--suite", default="smoke", help="names or files, separated by commas (%(default)s)")
    add("--cache", type=Path, default=_default_cache(), help="of what was measured (%(default)s)")
    add("--workers", type=int, default=0, help="processes; 0 works in this one")
    add("--limit", type=int, default=0, help="only the first clips, to try something out")
    if verb != "extract":
        add("--out", type=Path, required=True, help="folder for result.json and records.parquet")
        add("--name", help="label of the run (the name of the clips)")
        add("--strict", action="store_true", help="exit with 1 if any clip has a finding")
        group = parser.add_argument_group(
            "metrics whose weights you bring",
            "see docs/metrics-with-weights.md and `avgen eval ls`",
        )
        add = group.add_argument
        add("--metric", action="append", default=[], metavar="NAME", help="repeatable")
        add("--weights", action="append", default=[], metavar="NAME=PATH[#sha256=HEX]")
        add("--allow-download", action="store_true", help="fetch weights that are found nowhere")
        add("--non-commercial", action="store_true", help="accept licences that ask for it")
    return parser


def _default_cache() -> Path:
    chosen = os.environ.get(CACHE)
    return Path(chosen) if chosen else Path.home() / ".cache" / "avgen" / "eval"


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
