"""How long the harness takes, and whether its memory grows: ``python -m avgen_eval.harness.speed``.

Clips of the worlds are written as files and then evaluated by a process of its own, once half of them and once all.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from avgen_eval.known import HELD_OUT_SEED, get_world
from avgen_eval.results import provenance, write_json

WORLDS = ("bounce", "drums")


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m avgen_eval.harness.speed", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="clips (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each (%(default)s)")
    parser.add_argument("--size", type=int, default=256, help="pixels (%(default)s)")
    parser.add_argument("--suite", default="sync,timing,quality", help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    console = Console()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        clips = Path(folder) / "clips"
        _write_clips(clips, options.count, options.seconds, options.size)
        for count in (options.count // 2, options.count):
            row = _evaluate(Path(folder), clips, count, options.suite, options.workers)
            console.print(
                f"{count} clips: {row['seconds']:.0f} s, {row['clips_per_second']:.2f} clips per second, "
                f"{row['cpu_seconds']:.0f} s of processor time, peak {row['peak_mb']:.0f} MB in a process"
            )
            rows.append(row)
    if options.json:
        settings = {
            key: value if isinstance(value, (int, float, str)) else str(value)
            for key, value in vars(options).items()
            if key != "json"
        }
        write_json(options.json, {"provenance": provenance(), "settings": settings, "runs": rows})
    return 0


def _write_clips(folder: Path, count: int, seconds: float, size: int) -> None:
    folder.mkdir()
    for index in range(count):
        world = get_world(WORLDS[index % len(WORLDS)])
        example = world.render(
            HELD_OUT_SEED + index, duration=seconds, fps=25, size=size, sample_rate=16_000
        )
        example.clip.save(folder / f"{index:04d}.mp4")


def _evaluate(folder: Path, clips: Path, count: int, suite: str, workers: int) -> dict[str, Any]:
    """Time, processor time (which other programs hardly change) and peak memory without a cache."""
    command = [sys.executable, "-m", "avgen.cli", "eval", "run", str(clips), "--suite", suite]
    command += ["--cache", str(folder / f"cache{count}"), "--out", str(folder / f"out{count}")]
    command += ["--workers", str(workers), "--limit", str(count)]
    started, used = time.perf_counter(), _cpu_seconds()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    # The largest of all children so far: the runs go from few clips to many, so growth would show.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "count": count,
        "seconds": seconds,
        "clips_per_second": count / seconds,
        "cpu_seconds": _cpu_seconds() - used,
        "peak_mb": peak,
    }


def _cpu_seconds() -> float:
    """Of all processes started so far that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
