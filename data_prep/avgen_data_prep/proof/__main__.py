"""What the pipeline makes of films whose truth is known: ``python -m avgen_data_prep.proof --out DIR``.

Writes the figures to ``DIR/proof.json`` (``kill.json``, ``train.json``) and ends with status 1 where
one falls short of its bar. A corpus and a run that are there are gone on with.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import time
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import av
from rich.console import Console
from rich.table import Table
from rich.text import Text

from avgen.data.schema import atomic
from avgen_data_prep.cli_console import console, progress_bar, say
from avgen_data_prep.pipeline.executors import Executor, InProcess, Processes
from avgen_data_prep.pipeline.runner import Run
from avgen_data_prep.pipeline.spec import Pipeline, load
from avgen_data_prep.proof.corpus import Corpus, make_corpus
from avgen_data_prep.proof.score import BARS, Score, score_run

_LIBRARIES = ("av", "numpy", "scipy", "scenedetect", "torch", "pyarrow", "ray")


def main(argv: list[str]) -> int:
    """Make, run, compare, write."""
    options = _parser().parse_args(argv)
    pipeline = load(options.pipeline)
    figures: dict[str, Any] = {"environment": environment(), "stages": pipeline.keys}
    start = time.perf_counter()
    corpus = _made(options)
    figures["seconds"] = {"corpus": round(time.perf_counter() - start, 1)}
    wrong = []
    if options.kill:
        from avgen_data_prep.proof.kill import kill_and_resume

        figures["kill"] = kill_and_resume(
            corpus.folder, options.out, options.pipeline, kills=options.kill, say=say
        )
        wrong += [f"{which}: {told}" for which, told in figures["kill"].items() if told != "same"]
    elif options.train:
        from avgen_data_prep.proof.training import train_and_resume

        half = max(1, options.train // 2)
        figures["train"] = train_and_resume(
            corpus.folder, options.out, steps=options.train, kill_at=half, say=say
        )
        wrong += [] if figures["train"]["same"] else ["the resumed training is not the same"]
    else:
        score = _run(options, pipeline, corpus, figures)
        wrong += score.short()
        show(score, console)
    figures["short"] = wrong
    name = "kill" if options.kill else "train" if options.train else "proof"
    path = options.out / f"{name}.json"
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(figures, indent=1) + "\n")
    for what in wrong:
        console.print(Text(what, style="red"))
    say(f"figures: {path}")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m avgen_data_prep.proof", description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for films, truth and run")
    add("--sources", type=int, default=300, help="films (%(default)s)")
    add("--damaged", type=int, default=30, help="damaged files (%(default)s)")
    add("--seconds", type=float, nargs=2, default=(10.0, 60.0), help="of films (%(default)s)")
    add("--pipeline", default="default", help="YAML file, or a name (%(default)s)")
    add("--workers", type=int, default=1, help="processes; 1 works in this one (%(default)s)")
    add("--kill", type=int, default=0, help="kill runs so often, with each executor, and resume")
    add("--train", type=int, default=0, metavar="STEPS", help="train, kill, resume")
    return parser


def environment() -> dict[str, Any]:
    """Where and with what it was measured."""
    named = packages_distributions()
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "libraries": {name: version(named[name][0]) for name in _LIBRARIES if name in named},
        "ffmpeg": av.ffmpeg_version_info,
    }


def _made(options: argparse.Namespace) -> Corpus:
    with progress_bar("films", "films") as progress:
        return make_corpus(
            options.out,
            films=options.sources,
            damaged=options.damaged,
            seconds=tuple(options.seconds),
            workers=options.workers,
            progress=progress,
        )


def _run(
    options: argparse.Namespace, pipeline: Pipeline, corpus: Corpus, figures: dict[str, Any]
) -> Score:
    executor: Executor = Processes(options.workers, 3600) if options.workers > 1 else InProcess()
    run = Run(sources=corpus.folder, folder=options.out / "work", pipeline=pipeline)
    start = time.perf_counter()
    with progress_bar("preparing", "files") as progress:
        run.execute(executor, progress)
    figures["seconds"]["run"] = round(time.perf_counter() - start, 1)
    score = score_run(corpus, run.folder)
    figures["score"], figures["bars"] = score.to_dict(), BARS
    return score


def show(score: Score, to: Console) -> None:
    """Print the figures."""
    table = Table("figure", "value", "bar", box=None)
    for name, bar in BARS.items():
        table.add_row(name, f"{getattr(score, name):.4g}", f"{bar:g}")
    for name in ("sound_recall", "picture_recall"):
        table.add_row(name, f"{getattr(score, name):.4g}", "")
    for name, number in score.counts.items():
        table.add_row(name, str(number), "")
    to.print(table)


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except ValueError as error:
        raise SystemExit(f"proof: {error}") from None
