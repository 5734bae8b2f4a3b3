"""Runs of a pipeline: what is kept, what is done again, what is reported, and what a kill changes: nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from avgen_data_prep.pipeline.executors import Executor, InProcess, Processes
from avgen_data_prep.pipeline.manifest import FAILED, MANIFEST
from avgen_data_prep.pipeline.runner import Report, Run
from avgen_data_prep.pipeline.spec import PipelineError, parse

from avgen.data.schema import DatasetError

HERE = Path(__file__).parent
STAGES = """
stages:
  - class_path: text_stages.Size
    init_args: {seconds: SECONDS}
  - class_path: text_stages.Lines
  - class_path: text_stages.Words
    init_args: {log: LOG}
  - class_path: text_stages.Letters
    init_args: {factor: FACTOR}
  - class_path: text_stages.Rank
"""


def pipeline(*, log: Path | str = "", factor: int = 1, seconds: float = 0.0):
    text = STAGES.replace("LOG", repr(str(log))).replace("FACTOR", str(factor))
    return parse(text.replace("SECONDS", str(seconds)))


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def make_sources(folder: Path, count: int = 12) -> Path:
    folder.mkdir()
    generator = random.Random(0)
    for number in range(count):
        lines = [
            " ".join(["word"] * generator.randint(1, 9)) for _ in range(generator.randint(1, 6))
        ]
        (folder / f"{number:03d}.mp4").write_text(f"file {number}\n" + "\n".join(lines))
    (folder / "001.mp4").write_text("fine\nis it?\nyes\n")
    (folder / "bad.mp4").write_bytes(b"bad to the bone")
    (folder / "copy.mp4").write_bytes((folder / "002.mp4").read_bytes())
    return folder


def execute(sources: Path, folder: Path, executor: Executor | None = None, **options) -> Report:
    rest = {k: options.pop(k) for k in ("limit", "only", "retry_failed") if k in options}
    run = Run(sources=sources, folder=folder, pipeline=pipeline(**options), **rest)
    return run.execute(executor or InProcess())


def tables(folder: Path) -> tuple[bytes, bytes]:
    return (folder / MANIFEST).read_bytes(), (folder / FAILED).read_bytes()


def rows(folder: Path, name: str = MANIFEST) -> list[dict]:
    return pq.ParquetFile(folder / name).read().to_pylist()


def test_every_source_is_a_clip_or_a_reason(tmp_path: Path) -> None:
    sources = make_sources(tmp_path / "in")
    report = execute(sources, tmp_path / "out")
    clips, failed = rows(tmp_path / "out"), rows(tmp_path / "out", FAILED)
    lines = [line for p in sorted(sources.glob("0*.mp4")) for line in p.read_text().splitlines()]
    assert len(clips) == report.clips == len(lines) - 1
    assert [c["id"] for c in clips] == sorted({c["id"] for c in clips})
    assert sorted(c["rank"] for c in clips) == list(range(len(clips)))
    assert {(f["source"], f["stage"], f["outcome"], f["reason"]) for f in failed} == {
        ("001.mp4", "words", "failed", "asks something"),
        ("bad.mp4", "size", "failed", "holds bad bytes; write better ones"),
        ("copy.mp4", None, "duplicate", "same contents as 002.mp4"),
    }


def test_only_what_a_change_touches_is_done_again(tmp_path: Path) -> None:
    sources, out, log = make_sources(tmp_path / "in"), tmp_path / "out", tmp_path / "log"
    execute(sources, out, log=log)
    first = log.read_text().splitlines()
    assert execute(sources, out, log=log).kept == 13
    execute(sources, out, log=log, factor=2)
    assert log.read_text().splitlines() == first
    assert all(c["letters"] % 2 == 0 for c in rows(out))
    (sources / "new.mp4").write_text("one more\n")
    (sources / "000.mp4").rename(sources / "moved.mp4")
    report = execute(sources, out, log=log, factor=2)
    assert (report.kept, len(log.read_text().splitlines())) == (13, len(first) + 1)
    assert {"new.mp4", "moved.mp4"} <= {c["source"] for c in rows(out)}
    execute(sources, tmp_path / "fresh", factor=2)
    assert tables(out) == tables(tmp_path / "fresh")


def test_a_lost_clip_file_is_made_again(tmp_path: Path) -> None:
    sources, out = make_sources(tmp_path / "in"), tmp_path / "out"
    execute(sources, out)
    before = tables(out)
    lost = next((out / "clips").rglob("*.mp4"))
    lost.unlink()
    execute(sources, out)
    assert lost.is_file()
    assert tables(out) == before


def test_one_stage_only_and_a_limit(tmp_path: Path) -> None:
    sources, out = make_sources(tmp_path / "in"), tmp_path / "out"
    execute(sources, out, only="words", limit=3)
    clips = rows(out)
    assert {c["source"] for c in clips} == {"000.mp4", "001.mp4", "002.mp4"}
    assert all(c["words"] and c["letters"] is None for c in clips)
    with pytest.raises(PipelineError, match="no stage 'wrods' here; there are size, lines"):
        execute(sources, out, only="wrods")


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    sources, out = make_sources(tmp_path / "in"), tmp_path / "out"
    run = Run(sources=sources, folder=out, pipeline=pipeline())
    assert run.plan()["letters"] == 13
    assert not out.exists()
    run.execute(InProcess())
    assert not run.plan()
    assert set(Run(sources=sources, folder=out, pipeline=pipeline(factor=3)).plan()) == {"letters"}


def test_failures_are_kept_until_asked_again(tmp_path: Path) -> None:
    sources, out, log = make_sources(tmp_path / "in"), tmp_path / "out", tmp_path / "log"
    execute(sources, out, log=log)
    before = len(log.read_text().splitlines())
    execute(sources, out, log=log, retry_failed=True)
    assert len(log.read_text().splitlines()) == before + 1


@pytest.mark.parametrize("word", ["deadly", "endless"])
def test_a_file_that_takes_its_process_down_takes_only_itself(tmp_path: Path, word: str) -> None:
    sources, out = make_sources(tmp_path / "in", 4), tmp_path / "out"
    (sources / "poison.mp4").write_text(f"{word} indeed")
    execute(sources, out, Processes(workers=2, timeout=3 if word == "endless" else 60))
    (told,) = [f for f in rows(out, FAILED) if f["source"] == "poison.mp4"]
    expected = {
        "deadly": r"ends the process that works on it (SIGSEGV)",
        "endless": "took longer than 3 s; raise --timeout and add --retry-failed, or leave it out",
    }
    assert told["stage"] == "worker"
    assert told["reason"].startswith(expected[word])
    assert {c["source"] for c in rows(out)} == {f"{n:03d}.mp4" for n in range(4)}


def test_a_worker_that_cannot_start_ends_the_run_and_rejects_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = make_sources(tmp_path / "in", 3)
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(PipelineError, match=r"does not start \(exit status 1\).*text_stages"):
        execute(sources, tmp_path / "out", Processes(workers=2, timeout=60))
    monkeypatch.undo()
    execute(sources, tmp_path / "out")
    execute(sources, tmp_path / "other")
    assert tables(tmp_path / "out") == tables(tmp_path / "other")


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    sources, out = make_sources(tmp_path / "in", 4), tmp_path / "out"
    errors = []

    def intrude(*_: int) -> None:
        try:
            execute(sources, out)
        except DatasetError as error:
            errors.append(str(error))

    Run(sources=sources, folder=out, pipeline=pipeline()).execute(InProcess(), intrude)
    assert errors
    assert "another process is writing here" in errors[0]


def run_in_process(sources: Path, out: Path, executor: str) -> "subprocess.Popen[bytes]":
    code = (
        "import sys; from pathlib import Path\n"
        "from test_pipeline_runs import execute\n"
        "from avgen_data_prep.pipeline.executors import InProcess, Processes, Ray\n"
        f"execute(Path({str(sources)!r}), Path({str(out)!r}), {executor}, seconds=0.05)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


@pytest.mark.parametrize("executor", ["InProcess()", "Processes(workers=2, timeout=60)"])
def test_killed_at_any_point_the_rerun_ends_alike(tmp_path: Path, executor: str) -> None:
    sources = make_sources(tmp_path / "in", 24)
    execute(sources, tmp_path / "whole", seconds=0.05)
    generator = random.Random(executor)
    out = tmp_path / "out"
    for _ in range(3):
        process = run_in_process(sources, out, executor)
        begun = time.monotonic()
        while not (out / "ledger").exists() and time.monotonic() - begun < 60:
            time.sleep(0.02)
        time.sleep(generator.uniform(0, 0.8))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    execute(sources, out, seconds=0.05)
    assert tables(out) == tables(tmp_path / "whole")


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_gives_the_same_manifest(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    sources = make_sources(tmp_path / "in", 6)
    (sources / "poison.mp4").write_text("deadly indeed")
    execute(sources, tmp_path / "one", Processes(workers=1, timeout=60))
    code = (
        "from pathlib import Path\n"
        "import logging, ray\n"
        "from ray.cluster_utils import Cluster\n"
        "from avgen_data_prep.pipeline.executors import Ray\n"
        "from test_pipeline_runs import execute\n"
        "cluster = Cluster()\n"
        "for _ in range(2):\n"
        "    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)\n"
        "ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)\n"
        "assert len(ray.nodes()) == 2\n"
        f"execute(Path({str(sources)!r}), Path({str(tmp_path / 'two')!r}), Ray(workers=2, timeout=60))\n"
        "ray.shutdown()\n"
        "cluster.shutdown()\n"
    )
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=280, env=environment)
    assert tables(tmp_path / "one") == tables(tmp_path / "two")


def test_rates_add_up_over_runs_with_the_same_parameters(tmp_path: Path) -> None:
    sources, out = make_sources(tmp_path / "in", 3), tmp_path / "out"
    execute(sources, out, limit=1)
    execute(sources, out)
    execute(sources, out, factor=2)
    rates = json.loads((out / "rates.json").read_text())
    clips = len(rows(out))
    assert (rates["words"]["rows"], rates["letters"]["rows"]) == (clips + 1, clips)
