"""``avgen eval worlds`` and ``avgen eval codecs``: suites over held-out seeds."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from avgen_eval.suites import Source


def run(verb: str, argv: Sequence[str]) -> int:
    """Run ``worlds`` or ``codecs``; returns the exit status."""
    return {"worlds": _worlds, "codecs": _codecs}[verb](argv)


def _worlds(argv: Sequence[str]) -> int:
    options = _worlds_parser().parse_args(argv)
    console, suite = Console(), suite_of(options)
    sources, makers = _makers(options, console)

    from avgen_eval.suites import run_suite, suite_figures
    from avgen_eval.tables import progress_bar

    results: dict[str, Any] = {}
    for source in sources:
        with progress_bar(console) as progress:
            task = progress.add_task(source, total=suite.count * len(suite.worlds))
            result = run_suite(
                suite,
                source,
                **makers,
                steps=options.steps,
                keep_clips=options.report_clips if options.report else 0,
                step=lambda count, bar=progress, job=task: bar.advance(job, count),
            )
        figures = suite_figures(result)
        print_figures(console, source, figures)
        if result.seconds_per_clip is not None:
            console.print(
                f"{result.seconds_per_clip:.2f} s per clip in batches of {suite.batch_size}"
            )
        results[source] = _source_content(result, figures, options.records)
        if options.report:
            name = (
                options.report.with_stem(f"{options.report.stem}-{source}")
                if len(sources) > 1
                else options.report
            )
            _suite_report(name, source, result, figures)
            console.print(f"report: {escape(str(name))}")
    settings = {
        "weights": str(options.weights),
        **sampling(options.steps),
        "untimed": options.untimed,
    }
    write_suite(options, suite, settings, results, console)
    return 0


def sampling(steps: int) -> dict[str, Any]:
    """What a result tells of how the pipeline sampled."""
    from avgen.pipeline.pipeline import GUIDANCE, SOLVER
    from avgen.sampling.sampler import Sampler

    return Sampler(steps, SOLVER, GUIDANCE).to_dict()


def _worlds_parser() -> argparse.ArgumentParser:
    about = "Generate clips from held-out captions of the worlds and measure them."
    parser = suite_parser("worlds", about)
    add = parser.add_argument
    add("--untimed", action="store_true", help="control: leave the times out of the request")
    add("--reference", action="store_true", help="controls: the renders, and what codecs leave")
    add("--steps", type=int, default=16, help="sampling steps (default: 16)")
    add("--records", action="store_true", help="also write the record of every clip")
    add("--report", type=Path, help="also write an HTML report of the first clips")
    add("--report-clips", type=int, default=6, metavar="N", help="clips of each world in it")
    return parser


def _makers(
    options: argparse.Namespace, console: Console
) -> tuple[tuple["Source", ...], dict[str, Any]]:
    """What is measured, and what makes it."""
    if options.reference:
        codecs = _codecs_if_any(options.weights, console)
        return ("render", "codec") if codecs else ("render",), {"codecs": codecs}
    from avgen.pipeline import AVPipeline

    return ("generated",), {"pipeline": AVPipeline.from_pretrained(options.weights)}


def _codecs(argv: Sequence[str]) -> int:
    parser = suite_parser("codecs", "Measure what the codecs keep of held-out renders.", count=64)
    options = parser.parse_args(argv)

    from avgen_eval.roundtrip import load_codecs
    from avgen_eval.suites import run_codecs
    from avgen_eval.tables import progress_bar

    console = Console()
    suite, codecs = suite_of(options), load_codecs(options.weights)
    with progress_bar(console) as progress:
        task = progress.add_task("codecs", total=suite.count * len(suite.worlds))
        figures = run_codecs(suite, codecs, step=lambda count: progress.advance(task, count))
    print_figures(console, "codecs", figures)
    settings = {
        "weights": str(options.weights),
        "video_codec": codecs.video.identity,
        "audio_codec": codecs.audio.identity,
    }
    write_suite(options, suite, settings, {"codecs": {"worlds": figures_content(figures)}}, console)
    return 0


def suite_parser(name: str, about: str, count: int = 256) -> argparse.ArgumentParser:
    """Options of every suite over held-out seeds."""
    parser = argparse.ArgumentParser(prog=f"avgen eval {name}", description=about)
    add = parser.add_argument
    add("--weights", default="tiny", help="shipped name, folder or hub id (default: tiny)")
    add("--world", action="append", metavar="NAME", help="repeatable (default: bounce, drums)")
    add("--count", type=int, default=count, help=f"clips of each world (default: {count})")
    add("--seed-start", type=int, default=1_000_000, help="first seed (default: 1000000, held out)")
    add("--batch", type=int, default=16, help="clips made together (default: 16)")
    add("--json", type=Path, help="write the figures there")
    return parser


def suite_of(options: argparse.Namespace) -> Any:
    """The suite that the options ask for."""
    from avgen_eval.suites import Suite

    return Suite(
        worlds=tuple(options.world or ("bounce", "drums")),
        count=options.count,
        seed_start=options.seed_start,
        untimed=getattr(options, "untimed", False),
        batch_size=options.batch,
    )


def _codecs_if_any(weights: str, console: Console) -> Any:
    from avgen_eval.roundtrip import load_codecs

    try:
        return load_codecs(weights)
    except ValueError as error:
        console.print(f"[yellow]without the codec control: {escape(str(error))}[/yellow]")
        return None


def print_figures(
    console: Console,
    source: str,
    figures: dict[str, dict[str, Any]],
    names: Mapping[str, str] | None = None,
) -> None:
    """A table for each world; ``names`` as for `avgen_eval.tables.figure_table`."""
    from avgen_eval.tables import figure_table

    for world, values in figures.items():
        console.print(figure_table(f"{source}: {world}", values, names))


def _source_content(
    result: Any, figures: dict[str, dict[str, Any]], with_records: bool
) -> dict[str, Any]:
    content = {
        "seconds_per_clip": result.seconds_per_clip,
        "num_clips": {world: len(records) for world, records in result.records.items()},
        "worlds": figures_content(figures),
    }
    if with_records:
        content["clips"] = {
            world: [r.to_dict() for r in records] for world, records in result.records.items()
        }
    return content


def figures_content(figures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Figures of each world as JSON."""
    return {
        world: {name: f.to_dict() for name, f in values.items()}
        for world, values in figures.items()
    }


def _suite_report(path: Path, source: str, result: Any, figures: dict[str, dict[str, Any]]) -> None:
    from avgen_eval.report import ReportItem, write_report
    from avgen_eval.results import provenance, short_facts

    items = [
        ReportItem(record=record, clip=clip)
        for world, clips in result.clips.items()
        for record, clip in zip(result.records[world], clips, strict=False)
    ]
    summary = figures.get("all") or next(iter(figures.values()))
    title = f"{', '.join(result.records)}: {source} clips of held-out captions"
    write_report(path, title, items, summary=summary, about=short_facts(provenance()))


def write_suite(
    options: argparse.Namespace,
    suite: Any,
    settings: dict[str, Any],
    results: dict[str, Any],
    console: Console,
) -> None:
    """Write the file that ``--json`` names, if it does."""
    if options.json is None:
        return
    from dataclasses import asdict

    from avgen_eval.results import provenance, write_json

    content = {"provenance": provenance(), "settings": settings | asdict(suite), "results": results}
    console.print(f"figures: {escape(str(write_json(options.json, content)))}")
