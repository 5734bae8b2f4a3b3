"""``avgen eval``: measure clips, weights on held-out captions, or codecs."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

FIGURES_FILE = "figures.json"
HARNESS = ("run", "extract", "score", "compare", "report", "ls", "validate")
USAGE = """avgen eval CLIPS... [--json FILE] [--report FILE] [--strict]
       avgen eval worlds [--weights NAME] [--world NAME]... [--reference] [options]
       avgen eval codecs [--weights NAME] [--world NAME]... [options]
       avgen eval selftest [--count N] [--json FILE]
       avgen eval run | extract | score | compare | report | ls | validate (see avgen eval VERB --help)"""
DESCRIPTION = "Measure when things are heard and seen in clips, against when they were asked for."


def main(argv: list[str]) -> int:
    """Run ``avgen eval``; returns the exit status."""
    if argv and argv[0] in ("worlds", "codecs"):
        from avgen_eval.cli_suites import run

        return run(argv[0], argv[1:])
    if argv and argv[0] == "selftest":
        from avgen_eval.selftest.command import main as run_selftest

        return run_selftest(argv[1:])
    if argv and argv[0] in HARNESS:
        from avgen_eval.harness.cli import run as run_harness

        return run_harness(argv[0], argv[1:])
    return _clips(argv)


def _clips(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)

    from avgen_eval.folder import find_clips, measure_file
    from avgen_eval.report import write_report
    from avgen_eval.results import provenance, short_facts, write_json
    from avgen_eval.summary import summarise
    from avgen_eval.tables import clip_table, figure_table, finding_lines, progress_bar

    console = Console()
    items = []
    with progress_bar(console) as progress:
        for path in progress.track(find_clips(options.clips), description="measuring"):
            item = measure_file(path)
            # Pixels are only kept where a report will draw them.
            items.append(item if options.report else replace(item, clip=None))
    records = [item.record for item in items]
    figures, about = summarise(records), provenance()
    console.print(clip_table(records))
    for line in finding_lines(records):
        console.print(line)
    if figures:
        console.print(figure_table("Figures", figures))
    if options.report:
        facts = short_facts(about)
        write_report(options.report, "Clips, measured", items, summary=figures, about=facts)
        console.print(f"report: {escape(str(options.report))}")
    content = {
        "provenance": about,
        "num_clips": len(records),
        "num_failed": sum(record.failed for record in records),
        "figures": {name: figure.to_dict() for name, figure in figures.items()},
        "clips": [record.to_dict() for record in records],
    }
    first = Path(options.clips[0])
    beside = (first if first.is_dir() else first.parent) / FIGURES_FILE
    console.print(f"figures: {escape(str(write_json(options.json or beside, content)))}")
    findings = sum(len(record.findings) for record in records)
    console.print(f"{len(records)} clips, {content['num_failed']} unusable, {findings} findings")
    return 1 if options.strict and findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="avgen eval", usage=USAGE, description=DESCRIPTION)
    add = parser.add_argument
    add("clips", nargs="+", metavar="CLIPS", help="video files, or folders of them")
    add(
        "--json", type=Path, help=f"file for the figures (default: {FIGURES_FILE} beside the clips)"
    )
    add("--report", type=Path, help="also write a self-contained HTML report")
    add("--strict", action="store_true", help="exit with 1 if there is any finding")
    return parser
