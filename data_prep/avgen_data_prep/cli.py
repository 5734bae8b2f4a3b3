"""``avgen prep``: datasets from worlds, from folders of media, and with other codecs."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from avgen_data_prep.build import Record, Source
    from avgen_data_prep.encode import Weights

_console = Console(stderr=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Items per second."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def main(argv: list[str]) -> int:
    """Run ``avgen prep``; the exit status is 0, 1 where no clip came out, 2 after an error."""
    options = _parser().parse_args(argv)
    try:
        return options.run(options)
    except ValueError as error:
        _console.print("[bold red]error:[/]", Text(str(error)), highlight=False, soft_wrap=True)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="avgen prep", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    ingest = commands.add_parser("ingest", help="cut a folder of media files into training clips")
    ingest.add_argument("folder", type=Path, metavar="FOLDER", help="searched with all below it")
    ingest.add_argument(
        "--encode",
        action=argparse.BooleanOptionalAction,
        help="write latents (default: where there are codec weights)",
    )
    _add_clip_options(ingest)
    _add_common(ingest, run=_ingest)

    worlds = commands.add_parser("worlds", help="render procedural worlds, with exact events")
    worlds.add_argument("--world", action="append", required=True, help="name; may be repeated")
    worlds.add_argument("--count", type=int, default=1000, help="clips of each world (%(default)s)")
    worlds.add_argument("--seed-start", type=int, default=0, help="first seed (%(default)s)")
    worlds.add_argument("--media", action="store_true", help="also write MP4 members")
    worlds.add_argument("--no-encode", action="store_true", help="write no latents, only media")
    worlds.add_argument("--shard-size", type=int, default=256, help="clips per shard (%(default)s)")
    _add_clip_options(worlds)
    _add_common(worlds, run=_worlds)

    encode = commands.add_parser("encode", help="encode a dataset's media with other codecs")
    encode.add_argument("folder", type=Path, metavar="IN", help="dataset with media")
    encode.add_argument("--media", action="store_true", help="copy the MP4 members too")
    _add_common(encode, run=_encode)
    return parser


def _add_clip_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=1.96, help="per clip (%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="pixels (%(default)s)")
    parser.add_argument("--fps", type=int, default=25, help="frames per second (%(default)s)")
    parser.add_argument("--sample-rate", type=int, default=16_000, help="Hz (%(default)s)")


def _add_common(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the dataset")
    parser.add_argument("--weights", type=Path, help="folder of codec weights (those of avgen)")
    parser.add_argument("--video-vae", type=Path, help="file of the video codec")
    parser.add_argument("--audio-codec", type=Path, help="file of the audio codec")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes; 0 works in this one (%(default)s)"
    )
    parser.set_defaults(run=run)


def _weights(options: argparse.Namespace) -> "Weights":
    from avgen_data_prep.encode import Weights

    return Weights.find(options.weights, options.video_vae, options.audio_codec)


def _ingest(options: argparse.Namespace) -> int:
    from avgen_data_prep.ingest import FAILED, IngestSource, ingest

    source = IngestSource(
        folder=options.folder,
        out=options.out,
        seconds=options.seconds,
        size=options.size,
        fps=options.fps,
        sample_rate=options.sample_rate,
        weights=_wanted_weights(options),
    )
    with _progress(options.out, source, "files") as progress:
        info, records = ingest(source, workers=options.workers, progress=progress)
    _show(records)
    counts = info.counts
    _console.print(
        f"{options.out}: {info.num_examples} clips from {counts['files_used']} of "
        f"{counts['files_used'] + counts['files_failed'] + counts['files_duplicate']} media files; "
        f"problems are in {FAILED}",
        highlight=False,
        soft_wrap=True,
    )
    return 0 if info.num_examples else 1


def _wanted_weights(options: argparse.Namespace) -> "Weights | None":
    if options.encode is False:
        return None
    try:
        return _weights(options)
    except ValueError as error:
        if options.encode or options.weights:
            raise
        _console.print("no latents are written:", Text(str(error)), highlight=False, soft_wrap=True)
        return None


def _worlds(options: argparse.Namespace) -> int:
    from avgen_data_prep.from_worlds import WorldSource

    source = WorldSource(
        worlds=tuple(options.world),
        count=options.count,
        seed_start=options.seed_start,
        duration=options.seconds,
        size=options.size,
        fps=options.fps,
        sample_rate=options.sample_rate,
        keep_media=options.media or options.no_encode,
        weights=None if options.no_encode else _weights(options),
        shard_size=options.shard_size,
    )
    return _build(options, source)


def _encode(options: argparse.Namespace) -> int:
    from avgen_data_prep.reencode import EncodeSource

    source = EncodeSource(
        folder=options.folder, weights=_weights(options), keep_media=options.media
    )
    return _build(options, source)


def _build(options: argparse.Namespace, source: "Source") -> int:
    from avgen_data_prep.build import build

    with _progress(options.out, source, "clips") as progress:
        info, _ = build(options.out, source, workers=options.workers, progress=progress)
    _console.print(
        f"{options.out}: {info.num_examples} clips in {len(info.shards)} shards", highlight=False
    )
    return 0


@contextmanager
def _progress(out: Path, source: "Source", unit: str) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console) as bar:
        total = sum(len(job.items) for job in source.jobs())
        task = bar.add_task(f"writing {out.name}", total=total)
        yield lambda number: bar.advance(task, number)


def _show(records: Sequence["Record"]) -> None:
    ignored = sum(record["outcome"] == "ignored" for record in records)
    told = [record for record in records if record["outcome"] not in ("ignored", "sidecar")]
    if told:
        table = Table("file", "outcome", "reason", title="files not used, or not wholly")
        for record in told:
            table.add_row(*(Text(record[name]) for name in ("file", "outcome", "reason")))
        _console.print(table)
    if ignored:
        _console.print(f"{ignored} other files are neither media nor captions", highlight=False)
