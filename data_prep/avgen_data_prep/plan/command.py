"""``avgen plan``: with ``--data`` what it takes to prepare a corpus, with ``--model`` to train a network."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

CORE = "cpu-core"
_WIDTH = 160


def main(argv: list[str]) -> int:
    """Plan, print, and write JSON where asked to.

    Raises:
        ValueError: Something that the plan needs is missing or wrong, or the model does not fit into memory.
    """
    if any(word.split("=")[0] == "--model" for word in argv):
        return _plan_model(argv)
    options = _parser().parse_args(argv)
    from avgen_data_prep.plan.options import plan_of
    from avgen_data_prep.plan.show import show

    plan, console = plan_of(options), _console()
    show(plan, console)
    _write(options.json, plan.to_dict(), console)
    return 0


def _plan_model(argv: list[str]) -> int:
    from avgen_data_prep.plan.model.command import parser, plan_of
    from avgen_data_prep.plan.model.estimate import lack
    from avgen_data_prep.plan.model.show import show

    options = parser().parse_args(argv)
    plan, console = plan_of(options), _console()
    show(plan, console)
    _write(options.json, plan.to_dict(), console)
    if plan.advice:
        raise ValueError(lack(plan))
    return 0


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def _write(path: Path | None, data: dict[str, Any], console: Console) -> None:
    if path is None:
        return
    from avgen.data.schema import atomic

    with atomic(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n")
    console.print(Text(f"JSON: {path}"), soft_wrap=True, highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="avgen plan",
        description="What a corpus takes to store, to send, to prepare and to caption.",
        epilog="avgen plan --model RECIPE: what training a network takes; --model x --help says more",
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="PATH", help="folder of a run, or a YAML file")
    add("--hours", type=float, help="of footage of this kind to plan for (as much as there is)")
    add("--deadline", type=float, metavar="DAYS", help="in which the stages must be done")
    add("--prices", type=Path, metavar="FILE", help="YAML of dated prices (those of avgen)")
    add("--rates", action="append", default=[], metavar="[KIND=]PATH",
        help=f"rates measured on a kind of worker ({CORE}): the folder of a run, or the JSON of "
        "avgen_data_prep.pipeline.speed; may be repeated")  # fmt: skip
    add("--workers-kind", action="append", metavar="KIND", help="plan with these kinds only")
    add("--video-latents", default="8x8x4c16:float16", metavar="SHAPE",
        help="strides in height, width, time; channels; type; or none (%(default)s)")  # fmt: skip
    add("--audio-latents", default="25c32q8:float16", metavar="SHAPE",
        help="steps per second, channels, codebooks, type; or none (%(default)s)")  # fmt: skip
    add("--text-features", default="none", metavar="SHAPE",
        help="tokens, width, type, such as 512x4096:bfloat16; or none (%(default)s)")  # fmt: skip
    add("--no-sources", action="store_true", help="the sources are not stored")
    add("--no-media", action="store_true", help="the clips' files are not stored")
    add("--months", type=float, default=1.0, help="of storage (%(default)s)")
    add("--transfer", action="append", metavar="KIND[=TIMES]",
        help="how the dataset is sent, and how many times (cross_region=1); none")  # fmt: skip
    add("--captioner", metavar="MODEL", help="a model with caption prices that captions the clips")
    add("--caption-tokens", type=float, nargs=2, metavar=("IN", "OUT"),
        help="tokens that it takes and gives for a clip (as counted in the run)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="also write the plan as JSON")
    return parser
