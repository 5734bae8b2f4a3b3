"""``avgen prep``: datasets from worlds, from folders of media, and with other codecs."""

import argparse
from pathlib import Path
from typing import Any

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
from rich.text import Text

from avgen_data_prep.build import Source, build

_console = Console(stderr=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Items per second."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def main(argv: list[str]) -> int:
    """Run ``avgen prep`` with its arguments and return the exit status: 0, or 2 where nothing could be made."""
    options = _parser().parse_args(argv)
    try:
        source = options.source(options)
        _build(options.out, source, options.workers)
    except ValueError as error:
        _console.print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="avgen prep", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    worlds = commands.add_parser("worlds", help="render procedural worlds, with exact events")
    worlds.add_argument("out", type=Path, metavar="OUT", help="folder of the dataset")
    worlds.add_argument("--world", action="append", required=True, help="name; may be repeated")
    worlds.add_argument("--count", type=int, default=1000, help="clips of each world (%(default)s)")
    worlds.add_argument("--seed-start", type=int, default=0, help="first seed (%(default)s)")
    worlds.add_argument("--seconds", type=float, default=1.96, help="per clip (%(default)s)")
    worlds.add_argument("--media", action="store_true", help="also write MP4 members")
    worlds.add_argument("--no-encode", action="store_true", help="write no latents (needs --media)")
    worlds.set_defaults(source=_worlds)
    _common(worlds, size=64)
    return parser


def _common(parser: argparse.ArgumentParser, size: int | None = None) -> None:
    if size is not None:
        parser.add_argument("--size", type=int, default=size, help="pixels (%(default)s)")
        parser.add_argument("--fps", type=int, default=25, help="frames per second (%(default)s)")
        parser.add_argument("--sample-rate", type=int, default=16_000, help="Hz (%(default)s)")
    parser.add_argument(
        "--weights", type=Path, help="folder of codec weights (those shipped with avgen)"
    )
    parser.add_argument("--video-vae", type=Path, help="file of the video codec")
    parser.add_argument("--audio-codec", type=Path, help="file of the audio codec")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes; 0 works in this one (%(default)s)"
    )
    parser.add_argument("--shard-size", type=int, default=256, help="clips per shard (%(default)s)")


def _worlds(options: argparse.Namespace) -> Source:
    from avgen_data_prep.encode import Weights
    from avgen_data_prep.from_worlds import WorldSource

    weights = None
    if not options.no_encode:
        weights = Weights.find(options.weights, options.video_vae, options.audio_codec)
    return WorldSource(
        worlds=tuple(options.world),
        count=options.count,
        seed_start=options.seed_start,
        duration=options.seconds,
        size=options.size,
        fps=options.fps,
        sample_rate=options.sample_rate,
        keep_media=options.media,
        weights=weights,
        shard_size=options.shard_size,
    )


def _build(out: Path, source: Source, workers: int) -> list[dict[str, Any]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console) as bar:
        total = sum(len(job.items) for job in source.jobs())
        task = bar.add_task(f"writing {out}", total=total)
        info, records = build(out, source, workers=workers, progress=lambda n: bar.advance(task, n))
    _console.print(
        f"{out}: {info.num_examples} examples in {len(info.shards)} shards", highlight=False
    )
    return records
