"""``avgen bench``."""

import argparse
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from avgen_eval import bench
from avgen_eval.bench import (
    attention,
    clip_length,
    codec,
    generation,
    packing,
    presets,
    sampler,
    training_step,
)
from avgen_eval.bench.setup import Result, Setup, default_dtype
from avgen_eval.bench.timing import Measurement, Quartiles
from avgen_eval.results import provenance, write_json

BENCHES: dict[str, Callable[[Setup], Result]] = {
    "training_step": training_step.bench,
    "codec": codec.bench,
    "attention": attention.bench,
    "packing": packing.bench,
    "clip_length": clip_length.bench,
    "presets": presets.bench,
    "sampler": sampler.bench,
    "generation": generation.bench,
}


def main(argv: list[str]) -> int:
    """Run benches and print one table for each."""
    options = _parser().parse_args(argv)
    names = known(options.name)
    if options.json and options.json.is_dir():
        raise ValueError(f"--json {options.json} is a folder; name a file for the figures")
    setup = Setup(
        device=options.device,
        repeats=options.repeats,
        preset=options.preset,
        batch=options.batch,
        weights=options.weights,
        compiled=options.compile,
        budget=options.budget,
        peak_tflops=options.peak_tflops,
        dtype=options.dtype or default_dtype(options.device),
    )
    console = Console()
    content: dict[str, Any] = {"provenance": provenance(), "environment": setup.environment()}
    for name in names:
        with console.status(name):
            result = BENCHES[name](setup)
        console.print(table_of(name, result))
        content[name] = result.to_dict()
        if options.json:  # after every bench: one that is stopped keeps what was measured
            write_json(options.json, content)
    if options.json:
        console.print(f"figures: {options.json}", highlight=False)
    return 0


def known(names: Sequence[str]) -> list[str]:
    """The benches asked for, each once; all of them where none is named.

    Raises:
        ValueError: An unknown name.
    """
    for name in names:
        if name not in BENCHES:
            raise ValueError(f"bench {name!r} is unknown; use some of {', '.join(BENCHES)}")
    return list(dict.fromkeys(names)) or list(BENCHES)


def table_of(name: str, result: Result) -> Table:
    """Cases below the title of their comparison, and below the table why some have no figures.

    The column before that of the parameters is how many times as long as the first case of the comparison a case takes.
    """
    settings = ", ".join(f"{key} {value}" for key, value in result.settings.items())
    table = Table(title=Text(f"{name} ({settings})"), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("case", no_wrap=True)
    counted = any(m.parameters is not None for m in result.measurements)
    figures = list(dict.fromkeys(name for m in result.measurements for name in m.figures))
    heads = ("median", "quartiles", "times as long", *(("parameters",) if counted else ()))
    for head in (*heads, *figures):
        table.add_column(head, justify="right", overflow="fold")
    for title, rows in groupby(result.measurements, key=lambda row: row.comparison):
        cases = list(rows)
        unit = "" if cases[0].unit == "s" else f", {cases[0].unit}"
        table.add_row(Text(f"{title}{unit}", style="bold"))
        for row in cases:
            cells = [*_cells(row), *[Text()] * len(heads)][: len(heads)]
            found = (row.figures.get(name) for name in figures)
            cells += [Text("" if value is None else _number(value)) for value in found]
            table.add_row(Text(f"  {row.case}"), *cells)
    reasons = [f"{m.case}, {m.comparison}: {m.reason}" for m in result.measurements if m.reason]
    table.caption, table.caption_justify = Text("\n".join(reasons), style="yellow"), "left"
    return table


def _cells(row: Measurement) -> list[Text]:
    if row.quartiles is None:
        return [Text("n/a")]
    unit, scale = "", 1
    if row.unit == "s":
        unit, scale = (" s", 1) if row.quartiles.median >= 1 else (" ms", 1000)
    low, median, high = (_number(scale * value) for value in row.quartiles)
    ratio = ""
    if row.ratio is not None:
        least, middle, most = Quartiles.of(row.ratio.values)
        ratio = f"{_number(middle)} ({_number(least)}-{_number(most)})"
    parameters = "" if row.parameters is None else f"{row.parameters / 1e6:.2f} M"
    return [Text(f"{median}{unit}"), Text(f"{low}-{high}"), Text(ratio), Text(parameters)]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="avgen bench", description=bench.__doc__)
    parser.add_argument(
        "name", nargs="*", metavar="NAME", help=f"{', '.join(BENCHES)} (default: all)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=10, help="turns of each case after its warm-up (%(default)s)"
    )
    parser.add_argument(
        "--preset",
        default="tiny",
        help="network of training_step, attention, packing and clip_length (%(default)s)",
    )
    parser.add_argument(
        "--batch", type=int, default=16, help="clips per training step (%(default)s)"
    )
    parser.add_argument(
        "--weights", default="tiny", help="for sampler and generation (%(default)s)"
    )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="compile networks, ours and the peers' alike; training_step and codec time both ways",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=120.0,
        help="seconds for all turns of a row of attention and clip_length (%(default)s)",
    )
    parser.add_argument(
        "--peak-tflops",
        type=float,
        help="dense bfloat16 peak of the device, for the MFU of presets",
    )
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        help="of training_step, attention and sampler (default: bfloat16 where the device computes in it)",
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser
