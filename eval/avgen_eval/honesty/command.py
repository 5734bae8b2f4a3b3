"""``avgen eval honesty``: outside of what training had, and against what training had."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from avgen.clip import Clip
from avgen_eval.cli_suites import (
    figures_content,
    print_figures,
    sampling,
    suite_of,
    suite_parser,
    write_suite,
)
from avgen_eval.clips import measure_clip
from avgen_eval.failures import Failures
from avgen_eval.honesty.checks import CHECKS, run_check
from avgen_eval.honesty.neighbours import Nearest, Space, compare
from avgen_eval.results import provenance, short_facts
from avgen_eval.summary import summarise

NEIGHBOURS = "neighbours"
NUM_COPIES = 16
NAMES = {
    "nearest_ratio": "nearest training clip, generated over held out",
    "nearest_training": "  distance of a training clip through the codecs",
    "nearest_held_out": "  distance of a held-out clip",
    "nearest_generated": "  distance of a generated clip",
    "copy_limit": "  limit under which a clip is a copy",
    "copies_flagged_of_training": "copies among training clips through the codecs",
    "copies_flagged_of_held_out": "copies among held-out clips",
    "copies_flagged_of_generated": "copies among generated clips",
}


def main(argv: list[str]) -> int:
    """Run ``avgen eval honesty``; returns the exit status."""
    options = _parser().parse_args(argv)
    console, suite = Console(), suite_of(options)

    from avgen.pipeline import AVPipeline
    from avgen_eval.tables import progress_bar

    pipeline = None if options.reference else AVPipeline.from_pretrained(options.weights)
    failures = Failures(options.worst if options.failures else 0)
    settings = {
        "weights": str(options.weights),
        **sampling(options.steps),
        "source": "render" if options.reference else "generated",
        "training": str(options.train or f"{options.training_clips} seeds of each world"),
    }
    results: dict[str, Any] = {}
    with progress_bar(console) as progress:
        bar = progress.add_task("clips")
        for check in options.check or (NEIGHBOURS, *CHECKS):
            progress.update(bar, description=check)
            if check == NEIGHBOURS:
                figures = _neighbours(options, suite, pipeline, failures)
            else:
                records = run_check(
                    check,
                    suite,
                    pipeline,
                    steps=options.steps,
                    failures=failures,
                    step=lambda count: progress.advance(bar, count),
                )
                figures = {label: summarise(found) for label, found in records.items()}
            print_figures(console, check, figures, NAMES)
            results[check] = figures_content(figures)
            write_suite(options, suite, settings, results, console)
    if options.failures:
        title = f"avgen eval honesty: the worst clips of {options.weights}"
        page = failures.write(options.failures, title, short_facts(provenance()))
        console.print(f"failures: {escape(str(page))}")
    return 0


def _parser() -> argparse.ArgumentParser:
    about = "Ask for what training never had, and compare what is made with what training had."
    parser = suite_parser("honesty", about, count=64)
    add = parser.add_argument
    add("--check", action="append", choices=(NEIGHBOURS, *CHECKS), help="repeatable (default: all)")
    add("--steps", type=int, default=16, help="sampling steps (default: 16)")
    add("--reference", action="store_true", help="control: measure clips as they should be")
    add("--train", type=Path, metavar="FOLDER", help="dataset with the training clips")
    add(
        "--training-clips",
        type=int,
        default=2000,
        metavar="N",
        help="without --train: seeds from 0 of each world (default: 2000)",
    )
    add("--failures", type=Path, help="also write an HTML page of the worst clips")
    add("--worst", type=int, default=3, metavar="N", help="clips of each check in it")
    return parser


def _neighbours(
    options: argparse.Namespace, suite: Any, pipeline: Any, failures: Failures
) -> dict[str, dict[str, Any]]:
    """Figures of each world, whose generated clips are compared with its own training clips."""
    from avgen_eval.roundtrip import load_codecs, round_trip
    from avgen_eval.tasks.conditions import Condition, cases, make

    codecs = load_codecs(options.weights)
    figures: dict[str, dict[str, Any]] = {}
    for world in suite.worlds:
        training = _Training(options, suite, world)
        space = Space.of(training.clips(), training.names)
        held = cases(suite, world)
        made: list[Clip] = []
        true: list[Clip] = []
        for start in range(0, len(held), suite.batch_size):
            batch = held[start : start + suite.batch_size]
            decoded = round_trip([case.example.clip for case in batch], codecs)
            whole = Condition(task="t2av")
            made += make(pipeline, whole, batch, steps=options.steps) if pipeline else decoded
            true += decoded
        few = range(0, len(training.names), max(1, len(training.names) // NUM_COPIES))
        copies = [(i, round_trip([training.clip(i)], codecs)[0]) for i in few]
        found = compare(space, made, true, copies)
        figures[world] = found.figures
        _offer(failures, world, held, made, found, training)
    return figures


def _offer(
    failures: Failures,
    world: str,
    held: Any,
    made: list[Clip],
    found: Nearest,
    training: "_Training",
) -> None:
    """The closest pairs: each generated clip beside its nearest training clip."""
    for number in found.distance.argsort()[: failures.count].tolist():
        near = int(found.neighbour[number])
        distance = float(found.distance[number])
        told = f"distance {distance:.2f}{', flagged' if found.flagged[number] else ''}"
        record = held[number].measure(made[number], f"{told} from {training.names[near]}")
        measurement = f"{NEIGHBOURS}, {world}"
        failures.offer(
            measurement, distance, record, made[number], held[number].example.captions[0]
        )
        clip = training.clip(near)
        shown = measure_clip(clip, name=training.names[near], notes=("training clip",))
        failures.offer(f"{measurement}, training", distance, shown, clip, clip.caption)


class _Training:
    """Training clips of a world, rendered again from their seeds, or of a dataset."""

    def __init__(self, options: argparse.Namespace, suite: Any, world: str) -> None:
        from avgen.data.dataset import MediaDataset

        self.suite, self.world = replace(suite, seed_start=0, count=1), world
        self.dataset = MediaDataset(options.train) if options.train else None
        if self.dataset is None:
            self.rows = list(range(options.training_clips))
            self.names = [f"{world} {seed}" for seed in self.rows]
            return
        about = [self.dataset.provenance(i) for i in range(len(self.dataset))]
        self.rows = [i for i, row in enumerate(about) if row["source"] == world]
        self.names = [str(about[i]["id"]) for i in self.rows]

    def clip(self, number: int) -> Clip:
        """One of them."""
        if self.dataset is not None:
            return self.dataset.clip(self.rows[number])
        suite = replace(self.suite, seed_start=self.rows[number])
        return next(suite.examples(self.world))[1].clip

    def clips(self) -> Iterator[Clip]:
        """All of them, one after the other."""
        return (self.clip(number) for number in range(len(self.rows)))
