"""``avgen prep``: datasets from folders of media, from worlds, and with other codecs or layouts."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from avgen_data_prep import cli_datasets, cli_pipeline
from avgen_data_prep.cli_console import console
from avgen_data_prep.cli_pipeline import add_text_options, write_dataset

if TYPE_CHECKING:
    from avgen_data_prep.encode import Weights


def main(argv: list[str]) -> int:
    """Run ``avgen prep``; the exit status is 0, 1 where no clip came out, 2 after an error."""
    options = _parser().parse_args(argv)
    try:
        return options.run(options)
    except ValueError as error:
        told = str(error)
    except OSError as error:
        if error.filename is None:
            raise
        told = f"{error.filename}: {error.strerror}"
    console.print("[bold red]error:[/]", Text(told), highlight=False, soft_wrap=True)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="avgen prep", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    cli_pipeline.add_commands(commands)
    cli_datasets.add_commands(commands)

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
    cli_pipeline.add_latent_dtype(encode)
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
    add_text_options(parser)
    parser.add_argument(
        "--workers", type=int, default=0, help="processes; 0 works in this one (%(default)s)"
    )
    parser.set_defaults(run=run)


def _weights(options: argparse.Namespace) -> "Weights":
    from avgen_data_prep.encode import Weights

    return Weights.find(options.weights, options.video_vae, options.audio_codec)


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
    return write_dataset(options, source, sum(len(job.items) for job in source.jobs()))


def _encode(options: argparse.Namespace) -> int:
    from avgen_data_prep.reencode import EncodeSource

    source = EncodeSource(
        folder=options.folder,
        weights=_weights(options),
        keep_media=options.media,
        latent_dtype=options.latent_dtype,
    )
    return write_dataset(options, source, sum(len(job.items) for job in source.jobs()))
