"""``python -m avgen_eval.scaling``: train several sizes for several numbers of steps, and fit loss against operations.

Runs are added to the JSON file as they finish; the same command goes on with those that are missing.
"""

import argparse
import json
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from avgen.data.schema import atomic
from avgen_eval.results import provenance, write_json
from avgen_eval.scaling.draw import picture
from avgen_eval.scaling.fit import PowerLaw, fit, intervals
from avgen_eval.scaling.train import Settings, Size, train

SCHEMA = "avgen.scaling/1"
SIZES = "2x1x1,4x2x1,6x3x2"
STEPS = "150,300,600,1200"


def main(argv: list[str] | None = None) -> int:
    """Run what is missing, then fit and draw.

    Raises:
        ValueError: Options that cannot be used, or a file of another study.
    """
    options = _parser().parse_args(argv)
    sizes = [Size.parse(text) for text in options.sizes.split(",")]
    steps, seeds = _numbers(options.steps, "steps", 1), _numbers(options.seeds, "seeds", 0)
    settings = Settings(
        data=str(options.data), batch_size=options.batch_size, learning_rate=options.learning_rate
    )
    rows, where = _finished(options.json, settings), provenance()
    done = {(row["size"], row["steps"], row["seed"]) for row in rows}
    for count, size, seed in product(sorted(steps), sizes, seeds):
        if (str(size), count, seed) in done:
            continue
        row = train(size, count, seed, settings)
        rows.append(row)
        _save(options.json, settings, rows, None, where)
        sys.stdout.write(
            f"{size}: {count} steps, {row['flops']:.3g} FLOPs, loss {row['loss']:.4f}, {row['seconds']:.0f} s\n"
        )
        sys.stdout.flush()
    law, told = _law(rows)
    _save(options.json, settings, rows, told, where)
    if options.svg:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(picture(rows, law))
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    return 0


def _law(rows: list[dict[str, Any]]) -> tuple[PowerLaw | None, dict[str, Any]]:
    """The fit with its intervals, or why there is none."""
    flops, loss = (np.array([row[name] for row in rows], dtype=float) for name in ("flops", "loss"))
    try:
        law = fit(flops, loss)
    except ValueError as error:
        return None, {"none": str(error)}
    return law, {**asdict(law), "intervals": intervals(flops, loss)}


def _finished(path: Path, settings: Settings) -> list[dict[str, Any]]:
    """Runs of the file, which must be of the same study."""
    if not path.exists():
        return []
    try:
        data = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: is no JSON ({error}); give another --json") from error
    if data.get("schema") != SCHEMA or data.get("settings") != asdict(settings):
        raise ValueError(
            f"{path}: holds runs of {data.get('settings')}, not of {asdict(settings)}; "
            "give another --json, or the same settings"
        )
    return data["rows"]


def _save(
    path: Path,
    settings: Settings,
    rows: list[dict[str, Any]],
    told: dict[str, Any] | None,
    where: dict[str, Any],
) -> None:
    content = {
        "schema": SCHEMA,
        "provenance": where,
        "settings": asdict(settings),
        "rows": rows,
        "fit": told,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:  # a run takes minutes: a kill must not lose those that are done
        write_json(temporary, content)


def _numbers(text: str, name: str, least: int) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) >= least for part in parts):
        raise ValueError(f"{name} {text!r}: give whole numbers from {least} on, such as {least},5")
    return [int(part) for part in parts]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m avgen_eval.scaling", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FOLDER", help="a dataset with latents")
    add("--json", type=Path, required=True, metavar="FILE", help="runs and fit; gone on with")
    add("--sizes", default=SIZES, help="depth x video heads x audio heads (%(default)s)")
    add("--steps", default=STEPS, help="lengths of the runs of each size (%(default)s)")
    add("--seeds", default="0", help="of the runs of each size and length (%(default)s)")
    add("--batch-size", type=int, default=16, help="clips per step (%(default)s)")
    add("--learning-rate", type=float, default=3e-3, help="peak (%(default)s)")
    add("--svg", type=Path, metavar="FILE", help="also draw loss against operations")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"scaling: {error}")
