"""Runs that are killed again and again, with each executor, and must end like one that was not."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from avgen_data_prep.pipeline.ledger import LEDGER
from avgen_data_prep.pipeline.manifest import FAILED, MANIFEST
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.pipeline.work import CLIPS

SAME = "same"
EXECUTORS = ("inprocess", "process", "ray")
_WORKERS = 2
_TWO_NODES = """
import logging, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from avgen_data_prep.pipeline.executors import Ray
from avgen_data_prep.pipeline.runner import Run
from avgen_data_prep.pipeline.spec import load

sources, folder, pipeline = sys.argv[1:]
cluster = Cluster()
for _ in range(2):
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
assert len(ray.nodes()) == 2
run = Run(sources=Path(sources), folder=Path(folder), pipeline=load(pipeline))
run.execute(Ray(workers=2, timeout=3600))
ray.shutdown()
cluster.shutdown()
"""


class _Pace(NamedTuple):
    """Seconds until a run sets to work, seconds of work, and the sources it takes them for."""

    start: float
    work: float
    sources: int


def kill_and_resume(
    sources: Path,
    out: Path,
    pipeline: str,
    *,
    kills: int,
    executors: Sequence[str] = EXECUTORS,
    two_nodes: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, str]:
    """Compare manifests of killed and resumed runs with those of an undisturbed one, byte by byte.

    Each run is killed ``kills`` times by SIGKILL, all its processes at once, each time when a random
    number of sources is done and a random while after; then it runs to its end.

    Args:
        sources: Folder of media files.
        out: Folder for the runs, each of which is made anew.
        pipeline: YAML file, or a name.
        kills: Of each run.
        executors: Of `EXECUTORS`.
        two_nodes: Also run, undisturbed, on a Ray cluster of two nodes on this machine.
        say: Told how it goes on.

    Returns:
        ``same``, or what differs, by executor and for ``ray of two nodes``.

    Raises:
        PipelineError: A run that was not killed ends with an error.
    """
    whole, verdicts = fresh(out / "kill-whole"), {}
    undisturbed = _command(sources, whole, pipeline, "inprocess")
    work, start = _finish(undisturbed, whole), _finish([*undisturbed, "--dry-run"], whole)
    pace = _Pace(start, max(0.0, work - start), _done(whole))
    say(f"undisturbed: {work:.0f} s, of which {start:.0f} s to set to work")
    for executor in executors:
        folder = fresh(out / f"kill-{executor}")
        command = _command(sources, folder, pipeline, executor)
        points = _killed_runs(command, folder, kills, pace, random.Random(executor))
        _finish(command, folder)
        verdicts[executor] = differences(whole, folder)
        say(f"{executor}: killed with {points} sources done; {verdicts[executor]}")
    if two_nodes:
        folder = fresh(out / "two-nodes")
        _finish([sys.executable, "-c", _TWO_NODES, str(sources), str(folder), pipeline], folder)
        verdicts["ray of two nodes"] = differences(whole, folder)
        say(f"ray of two nodes: {verdicts['ray of two nodes']}")
    return verdicts


def differences(one: Path, other: Path) -> str:
    """``same``, or which files of two runs differ: manifests and clips."""
    names = (MANIFEST, FAILED)
    wrong = [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()]
    clips = [sorted(p.name for p in (folder / CLIPS).rglob("*.mp4")) for folder in (one, other)]
    if clips[0] != clips[1]:
        wrong.append(f"clips ({len(clips[0])} and {len(clips[1])} files)")
    return f"{', '.join(wrong)} differ" if wrong else SAME


def fresh(folder: Path) -> Path:
    """A folder that is not there (any more)."""
    if folder.exists():
        shutil.rmtree(folder)
    return folder


def _command(sources: Path, folder: Path, pipeline: str, executor: str) -> list[str]:
    run = [sys.executable, "-m", "avgen.cli", "prep", "run", str(sources), str(folder)]
    return [*run, "--pipeline", pipeline, "--executor", executor, "--workers", str(_WORKERS)]


def _started(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(
        command,
        start_new_session=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _finish(command: Sequence[str], folder: Path) -> float:
    """Run to the end; seconds it took."""
    start = time.monotonic()
    process = _started(command)
    said = process.communicate()[1].decode(errors="replace").strip()
    if process.returncode:
        raise PipelineError(f"{folder.name}: ended with {process.returncode}: {said[-2000:]}")
    return time.monotonic() - start


def _killed_runs(
    command: Sequence[str], folder: Path, kills: int, pace: "_Pace", rng: random.Random
) -> list[int]:
    """How many sources were done at each kill."""
    points = []
    for wanted in sorted(rng.randrange(pace.sources) for _ in range(kills)):
        process = _started(command)
        while _done(folder) < wanted and process.poll() is None:
            time.sleep(0.02)
        start = 0.0 if wanted > max([0, *points]) else pace.start
        time.sleep(rng.uniform(0, start + pace.work / pace.sources))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        points.append(_done(folder))
    return points


def _done(folder: Path) -> int:
    return sum(1 for _ in (folder / LEDGER).rglob("*.parquet"))
