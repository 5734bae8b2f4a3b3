"""``avgen prep run | status | pack | ingest``: from a folder of media to a dataset to train on."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from avgen_data_prep.cli_console import console, counting_bar, progress_bar, say

if TYPE_CHECKING:
    from avgen_data_prep.build import Source
    from avgen_data_prep.pipeline.executors import Executor
    from avgen_data_prep.pipeline.runner import Run

WORK = "prep"
_SHOWN = 10


def add_commands(commands: Any) -> None:
    """Add the verbs to the parser of ``avgen prep``."""
    run = commands.add_parser("run", help="take a folder of media through a pipeline")
    run.add_argument("sources", type=Path, metavar="FOLDER", help="searched with all below it")
    run.add_argument("folder", type=Path, metavar="WORK", help="for clips, ledger and manifests")
    add_run_options(run)
    run.add_argument("--dry-run", action="store_true", help="only say what is left to do")
    run.set_defaults(run=_run)

    status = commands.add_parser("status", help="rows per stage, reasons, and the funnel")
    status.add_argument("folder", type=Path, metavar="WORK")
    status.add_argument("--where", default="", help="filter whose effect ends the funnel")
    status.add_argument("--picture", type=Path, metavar="SVG", help="also draw the funnel")
    status.set_defaults(run=_status)

    pack = commands.add_parser("pack", help="write the clips that pass a filter as a dataset")
    pack.add_argument("folder", type=Path, metavar="WORK")
    pack.add_argument("out", type=Path, metavar="OUT", help="folder of the dataset")
    add_pack_options(pack)
    pack.add_argument("--workers", type=int, default=0, help="processes; 0 works in this one")
    pack.set_defaults(run=_pack)

    ingest = commands.add_parser("ingest", help="`run` and `pack`: from media to a dataset at once")
    ingest.add_argument("sources", type=Path, metavar="FOLDER", help="searched with all below it")
    ingest.add_argument(
        "out", type=Path, metavar="OUT", help=f"dataset; the run lies in OUT/{WORK}"
    )
    add_run_options(ingest)
    add_pack_options(ingest)
    ingest.set_defaults(run=_ingest)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Options of a run."""
    add = parser.add_argument
    add("--pipeline", default="default", help="YAML file, or a name (%(default)s)")
    add("--set", action="append", default=[], metavar="STAGE.NAME=VALUE", help="repeatable")
    add("--executor", choices=("process", "inprocess", "ray"), default="process")
    add("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="(%(default)s)")
    add("--address", help="of a Ray cluster; without one, it is started here")
    add("--timeout", type=float, default=1800, help="seconds a file may take (%(default)s)")
    add("--limit", type=int, default=0, help="only the first files")
    add("--only", metavar="STAGE", help="work on this stage and what it needs")
    add("--retry-failed", action="store_true", help="try again what failed before")


def add_pack_options(parser: argparse.ArgumentParser) -> None:
    """Options of packing."""
    add = parser.add_argument
    add("--where", default="", help="filter: SQL expression over the manifest's columns")
    add("--exclude", type=Path, metavar="FILE", help="hashes never to train on")
    add("--no-encode", action="store_true", help="write no latents")
    add("--no-media", action="store_true", help="leave the clips' MP4 files out")
    add("--weights", type=Path, help="folder of codec weights (those of avgen)")
    add_latent_dtype(parser)
    add_text_options(parser)
    add("--sample-rate", type=int, default=16_000, help="Hz, where no codec says (%(default)s)")


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """The options of text features."""
    add = parser.add_argument
    add("--text-encoder", metavar="MODEL", help="also store the states of this frozen text encoder")
    add("--text-length", type=int, default=512, help="tokens of a segment at most (%(default)s)")


def add_latent_dtype(parser: argparse.ArgumentParser) -> None:
    """The option that says how latents are stored."""
    types = ("float16", "int8", "float8")
    parser.add_argument("--latent-dtype", choices=types, default=types[0], help="(%(default)s)")


def _run(options: argparse.Namespace) -> int:
    run = _make_run(options, options.folder)
    if options.dry_run:
        return _show_plan(run)
    return _execute(run, options)


def _ingest(options: argparse.Namespace) -> int:
    folder = options.out / WORK
    status = _execute(_make_run(options, folder), options)
    return status or _write_clips(options, folder)


def _pack(options: argparse.Namespace) -> int:
    return _write_clips(options, options.folder)


def _make_run(options: argparse.Namespace, folder: Path) -> "Run":
    from avgen_data_prep.pipeline.runner import Run
    from avgen_data_prep.pipeline.spec import load

    names = ("limit", "only", "retry_failed")
    rest = {name: getattr(options, name) for name in names}
    pipeline = load(options.pipeline, options.set)
    return Run(sources=options.sources, folder=folder, pipeline=pipeline, **rest)


def _executor(options: argparse.Namespace) -> "Executor":
    from avgen_data_prep.pipeline.executors import InProcess, Processes, Ray

    if options.executor == "inprocess":
        return InProcess()
    if options.executor == "ray":
        return Ray(options.workers, options.timeout, options.address)
    return Processes(options.workers, options.timeout)


def _show_plan(run: "Run") -> int:
    left = run.plan()
    table = Table("stage", "sources left", box=None)
    for stage in (*run.pipeline.of_sources, run.pipeline.split, *run.pipeline.of_clips):
        table.add_row(stage.name, str(left[stage.name]))
    console.print(table)
    return 0


def _execute(run: "Run", options: argparse.Namespace) -> int:
    from avgen_data_prep.pipeline.manifest import FAILED, MANIFEST

    with progress_bar(f"preparing {run.sources.name}", "files") as progress:
        report = run.execute(_executor(options), progress)
    say(
        f"{run.folder / MANIFEST}: {report.clips} clips of {report.sources} files "
        f"({report.kept} were done); {report.failed} problems in {run.folder / FAILED}"
    )
    return 0 if report.clips else 1


def _status(options: argparse.Namespace) -> int:
    from avgen_data_prep.pipeline.status import funnel_svg, read_status

    status = read_status(options.folder, options.where)
    table = Table("stage", "done", "failed", "left", box=None)
    for name, numbers in status.stages.items():
        table.add_row(name, *(str(numbers[column]) for column in ("done", "failed", "left")))
    reasons = Table("stage", "times", "reason", box=None)
    for (stage, reason), number in status.reasons.most_common(20):
        reasons.add_row(stage, str(number), Text(reason))
    funnel = Table("funnel", "", box=None)
    for label, number in status.funnel:
        funnel.add_row(label, f"{number:,}")
    for part in (table, reasons, funnel):
        console.print(part)
    if options.picture:
        options.picture.write_text(funnel_svg(status))
        say(f"picture: {options.picture}")
    return 0


def _write_clips(options: argparse.Namespace, folder: Path) -> int:
    from avgen_data_prep.encode import Weights
    from avgen_data_prep.pipeline.pack import PackSource

    source = PackSource(
        run=folder,
        where=options.where,
        exclude=options.exclude,
        weights=None if options.no_encode else Weights.find(options.weights),
        keep_media=not options.no_media,
        latent_dtype=options.latent_dtype,
        sample_rate=options.sample_rate,
    )
    return write_dataset(options, source, len(source.rows))


def write_dataset(options: argparse.Namespace, source: "Source", total: int) -> int:
    """Make ``options.out`` of a source's ``total`` clips; the exit status is 1 where none came out."""
    from avgen_data_prep.build import build
    from avgen_data_prep.text_states import WithText

    if options.text_encoder:
        source = WithText(source, options.text_encoder, options.text_length)
    with counting_bar(f"writing {options.out.name}", "clips", total) as advance:
        info, records = build(options.out, source, workers=options.workers, progress=advance)
    say(f"{options.out}: {info.num_examples} clips in {len(info.shards)} shards")
    if records:
        say(f"{len(records)} were left out; the first are:")
    for record in records[:_SHOWN]:
        say(f"{record['file']}: {record['outcome']}: {record['reason']}")
    return 0 if info.num_examples else 1
