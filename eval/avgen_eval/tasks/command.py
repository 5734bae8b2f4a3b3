"""``avgen eval tasks``: every task of the pipeline on held-out clips of the worlds."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from avgen_eval.cli_suites import (
    figures_content,
    print_figures,
    sampling,
    suite_of,
    suite_parser,
    write_suite,
)
from avgen_eval.failures import Failures, overall_score
from avgen_eval.results import provenance, short_facts

ROLLOUT = "rollout"
TASKS = ("i2av", "v2a", "a2v", "extend", "infill", ROLLOUT)
NAMES = {
    "sound_f1_60_given": "sound events, F1 against the clip that is given",
    "picture_f1_60_given": "picture events, F1 against the clip that is given",
    "first_frame_psnr_db": "first frame to the given one, PSNR",
    "second_frame_psnr_db": "second frame to the true one, PSNR",
    "still_frame_psnr_db": "  the same of the given frame",
    "sound_f1_60_made": "sound events of what was made, F1",
    "picture_f1_60_made": "picture events of what was made, F1",
    **{
        f"seam_accuracy_{seam}_against_{control}": f"seam told, {seam}, against {words}"
        for seam in ("decoded", "delivered")
        for control, words in (("whole", "clips made whole"), ("codec", "true clips"))
    },
    **{
        f"{stream}_rank_{place}_{version}": f"rank of the jump of {stream} at the {place}, {version}"
        for place in ("seam", "start", "end")
        for stream in ("picture", "motion", "sound")
        for version in ("delivered", "decoded", "codec", "whole")
    },
    **{
        f"{stream}_f1_60_from_{start}s": f"{stream} events from {start} s on, F1"
        for stream in ("sound", "picture")
        for start in ("0", "1.96", "5", "10", "15")
    },
    "brightness_slope": "brightness, change per second",
    "saturation_slope": "saturation, change per second",
    "sharpness_slope": "sharpness, change per second",
    "loudness_slope": "loudness, LU per second",
    "av_drift_ms_per_s": "A/V offset, ms per second",
}


def main(argv: list[str]) -> int:
    """Run ``avgen eval tasks``; returns the exit status."""
    options = _parser().parse_args(argv)
    console, suite = Console(), suite_of(options)

    from avgen.pipeline import AVPipeline
    from avgen_eval.roundtrip import load_codecs
    from avgen_eval.tables import progress_bar
    from avgen_eval.tasks.measure import Bench, run_task

    pipeline = None if options.reference else AVPipeline.from_pretrained(options.weights)
    failures = Failures(options.worst if options.failures else 0)
    results: dict[str, Any] = {}
    with progress_bar(console) as progress:
        bar = progress.add_task("clips")
        bench = Bench(
            suite=suite,
            pipeline=pipeline,
            codecs=load_codecs(options.weights),
            steps=options.steps,
            failures=failures,
            step=lambda count: progress.advance(bar, count),
        )
        for task in options.task or TASKS:
            progress.update(bar, description=task)
            long = task == ROLLOUT
            found = {"whole": _rollouts(bench, options.rollouts)} if long else run_task(bench, task)
            for condition, figures in found.items():
                shown = figures if long else dict([list(figures.items())[-1]])
                print_figures(console, f"{task}, {condition}", shown, NAMES)
            results[task] = {name: figures_content(f) for name, f in found.items()}
            settings = {
                "weights": str(options.weights),
                **sampling(options.steps),
                "source": "render" if options.reference else "generated",
                "rollouts": options.rollouts,
            }
            write_suite(options, suite, settings, results, console)
    if options.failures:
        title = f"avgen eval tasks: the worst clips of {options.weights}"
        page = failures.write(options.failures, title, short_facts(provenance()))
        console.print(f"failures: {escape(str(page))}")
    return 0


def _parser() -> argparse.ArgumentParser:
    about = "Give parts of held-out clips to the pipeline and measure what it makes of them."
    parser = suite_parser("tasks", about, count=64)
    add = parser.add_argument
    add("--task", action="append", choices=TASKS, help="repeatable (default: all)")
    add("--steps", type=int, default=16, help="sampling steps (default: 16)")
    add("--reference", action="store_true", help="control: measure the true clips themselves")
    add("--rollouts", type=int, default=8, metavar="N", help="clips of 19.6 s of each world")
    add("--failures", type=Path, help="also write an HTML page of the worst clips")
    add("--worst", type=int, default=3, metavar="N", help="clips of each measurement in it")
    return parser


def _rollouts(bench: Any, count: int) -> dict[str, dict[str, Any]]:
    """Figures of long clips by world."""
    from dataclasses import replace

    from avgen_eval.tasks.conditions import cases
    from avgen_eval.tasks.course import SECONDS, course_figures, roll_out

    suite = replace(bench.suite, count=count, duration=SECONDS)
    figures = {}
    for world in suite.worlds:
        every = cases(suite, world)
        clips = []
        for start in range(0, len(every), suite.batch_size):
            batch = every[start : start + suite.batch_size]
            clips += (
                [case.example.clip for case in batch]
                if bench.pipeline is None
                else roll_out(bench.pipeline, batch, steps=bench.steps)
            )
        records = [case.measure(c) for case, c in zip(every, clips, strict=True)]
        for record, clip in zip(records, clips, strict=True):
            bench.failures.offer(ROLLOUT, overall_score(record), record, clip, clip.caption)
        figures[world] = course_figures(clips, records)
    return figures
