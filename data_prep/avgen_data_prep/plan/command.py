"""``avgen plan --data``: what it takes to prepare a corpus, from a run's folder or a description of it."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

CORE = "cpu-core"
_WIDTH = 160


def main(argv: list[str]) -> int:
    """Plan, print, and write JSON where asked to.

    Raises:
        ValueError: Something that the plan needs is missing or wrong.
    """
    options = _parser().parse_args(argv)
    from avgen.data.schema import atomic
    from avgen_data_prep.plan.options import plan_of
    from avgen_data_prep.plan.show import show

    plan = plan_of(options)
    wide = None if sys.stdout.isatty() else _WIDTH
    console = Console(width=wide)
    show(plan, console)
    if options.json:
        with atomic(options.json) as temporary:
            temporary.write_text(json.dumps(plan.to_dict(), indent=1) + "\n")
        console.print(Text(f"JSON: {options.json}"), soft_wrap=True, highlight=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="avgen plan",
        description="What a corpus takes to store, to send, to prepare and to caption.",
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
