"""How fast each stage is on one core: ``python -m avgen_data_prep.pipeline.speed [FOLDER | WORLD ...]``.

The files of a folder, or films of a few shots rendered from procedural worlds, go through a pipeline in
one worker process that is held to one core. ``--json`` writes the rates for ``avgen plan --rates``.
"""

import argparse
import datetime
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from avgen.clip import Clip
from avgen_data_prep.pipeline.executors import Processes
from avgen_data_prep.pipeline.manifest import FAILED, MANIFEST
from avgen_data_prep.pipeline.runner import Run
from avgen_data_prep.pipeline.spec import Pipeline, PipelineError, load
from avgen_data_prep.plan.rates import Rates, read_rates
from avgen_data_prep.worlds import WORLDS

_FPS, _SAMPLE_RATE = 25, 48_000
_SHOTS = 3


def render_films(
    folder: Path, worlds: Sequence[str], *, count: int, seconds: float, size: int
) -> None:
    """Write ``count`` films of a few shots of ``seconds`` each, in square pictures.

    Raises:
        ValueError: There is no such world.
    """
    unknown = [name for name in worlds if name not in WORLDS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is neither a folder nor a world of {', '.join(WORLDS)}")
    for number in range(count):
        shots = []
        for shot in range(_SHOTS):
            seed = number * _SHOTS + shot
            world = WORLDS[worlds[seed % len(worlds)]]
            rendered = world.render(
                seed,
                duration=seconds,
                fps=_FPS,
                size=size,
                sample_rate=_SAMPLE_RATE,
            )
            shots.append(rendered.clip)
        _joined(shots).save(folder / f"film-{number:03d}.mp4")


def _joined(shots: Sequence[Clip]) -> Clip:
    frames = [shot.frames for shot in shots if shot.frames is not None]
    sounds = [shot.waveform for shot in shots if shot.waveform is not None]
    return shots[0].replace(
        frames=np.concatenate(frames),
        waveform=np.concatenate(sounds, axis=1),
        caption=None,
        request={},
    )


def measure(sources: Path, folder: Path, pipeline: Pipeline, timeout: float = 1800.0) -> Rates:
    """Take sources through a pipeline in one worker process on one core, into an empty folder.

    Raises:
        PipelineError: No clip comes of them.
    """
    run = Run(sources=sources, folder=folder, pipeline=pipeline)
    with _one_core():
        used, start = _child_seconds(), time.perf_counter()
        report = run.execute(Processes(1, timeout))
        share = (_child_seconds() - used) / (time.perf_counter() - start)
    if not report.clips:
        raise PipelineError(f"{sources}: no clip comes of it; {_first_reason(folder)}")
    return replace(
        read_rates(folder),
        place=str(sources),
        gathers=_gather_times(folder, pipeline),
        date=datetime.date.today().isoformat(),
        machine=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        core_share=round(min(1.0, share), 3),
    )


@contextmanager
def _one_core() -> Iterator[None]:
    """Hold this process, and those it starts meanwhile, to one core where the system allows it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _first_reason(folder: Path) -> str:
    rows = pq.ParquetFile(folder / FAILED).read().to_pylist()
    return "; ".join(f"{row['source']}: {row['reason']}" for row in rows[:1])


def _gather_times(folder: Path, pipeline: Pipeline) -> dict[str, tuple[int, float] | None]:
    """Rows and seconds of each stage that compares all clips."""
    table = pq.ParquetFile(folder / MANIFEST).read()
    times: dict[str, tuple[int, float] | None] = {}
    for stage in pipeline.gathers:
        names = ["id", *(name for name in stage.reads if name != "id")]
        rows = table.select(names).to_pylist()
        start = time.perf_counter()
        stage.gather(rows)
        times[stage.name] = (len(rows), time.perf_counter() - start)
    return times


def show_rates(rates: Rates, clips: int, console: Console) -> None:
    """Print clips per second and share of the time of each stage, and name the bottleneck."""
    spent = {name: rate.seconds for name, rate in rates.stages.items()}
    total = sum(spent.values())
    table = Table("stage", "rows", "seconds", "clips/s per core", "share", box=None)
    for name, rate in rates.stages.items():
        speed = f"{clips / rate.seconds:.3g}" if rate.seconds else ""
        share = f"{rate.seconds / total:.1%}"
        table.add_row(name, f"{rate.rows} {rate.of}", f"{rate.seconds:.2f}", speed, share)
    for name, told in rates.gathers.items():
        if told:
            table.add_row(name, f"{told[0]} at once", f"{told[1]:.2f}", "", "")
    console.print(table)
    slowest = max(spent, key=lambda name: spent[name])
    hours = rates.stages[slowest]
    console.print(
        Text(
            f"{clips} clips in {total:.1f} s: {clips / total:.3g} clips/s per core; "
            f"bottleneck: {slowest}, {spent[slowest] / total:.0%} of the time, "
            f"{hours.seconds / hours.rows / hours.row_seconds:.3g} s for a second of footage"
        ),
        soft_wrap=True,
    )
    if rates.core_share is not None:
        console.print(f"the process had {rates.core_share:.0%} of its core")


def main(argv: list[str]) -> int:
    """Measure and print.

    Raises:
        ValueError: Sources or pipeline are of no use.
    """
    parser = argparse.ArgumentParser(
        prog="python -m avgen_data_prep.pipeline.speed", description=__doc__
    )
    add = parser.add_argument
    add("sources", nargs="*", default=list(WORLDS), help="a folder, or worlds (all worlds)")
    add("--pipeline", default="default", help="YAML file, or a name (%(default)s)")
    add("--count", type=int, default=8, help="films rendered (%(default)s)")
    add("--seconds", type=float, default=3.0, help="of each of their shots (%(default)s)")
    add("--size", type=int, default=256, help="pixels of their sides (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the rates for `avgen plan --rates`")
    options = parser.parse_args(argv)
    pipeline, console = load(options.pipeline), Console()
    with TemporaryDirectory(prefix="avgen-") as name:
        sources, work = Path(options.sources[0]), Path(name) / "work"
        if not sources.is_dir():
            sources = Path(name) / "films"
            sources.mkdir()
            render_films(
                sources,
                options.sources,
                count=options.count,
                seconds=options.seconds,
                size=options.size,
            )
        rates = measure(sources, work, pipeline)
        clips = pq.ParquetFile(work / MANIFEST).metadata.num_rows
    show_rates(rates, clips, console)
    if options.json:
        rates.save(options.json)
        console.print(Text(f"rates: {options.json}"), soft_wrap=True)
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except ValueError as error:
        raise SystemExit(f"speed: {error}") from None
