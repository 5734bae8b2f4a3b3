"""What a change of the pipeline, of the files or of the machine does to a run that is there."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from avgen_data_prep.pipeline.executors import InProcess
from avgen_data_prep.pipeline.ledger import Ledger
from avgen_data_prep.pipeline.manifest import FAILED, MANIFEST, stage_keys
from avgen_data_prep.pipeline.runner import Report, Run
from avgen_data_prep.pipeline.sources import SOURCES, read_sources
from avgen_data_prep.pipeline.spec import Pipeline, PipelineError, parse
from avgen_data_prep.pipeline.stage import Measure, Row, StageError
from avgen_data_prep.pipeline.status import read_status
from avgen_data_prep.pipeline.work import Work
from text_stages import Letters, Lines, Size, Words


@dataclass(frozen=True, kw_only=True)
class Choosy(Measure):
    """``chosen``: refuses lines of more than so many words, or is at the mercy of the machine."""

    name: ClassVar[str] = "choosy"
    reads: ClassVar = ("words",)
    writes: ClassVar = pa.schema([("chosen", pa.bool_())])
    most: float = 100
    error: int = 0

    def measure(self, row: Row, work: Work) -> Row:
        if self.error:
            raise StageError("cannot write") from OSError(self.error, os.strerror(self.error))
        if row["words"] > self.most:
            raise StageError("too many words")
        return {"chosen": True}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.mp4").write_text(f"one {number}\ntwo words more\n")
    return folder


def execute(sources: Path, *stages, **options) -> Report:
    run = Run(
        sources=sources, folder=sources.parent / "out", pipeline=Pipeline(tuple(stages)), **options
    )
    return run.execute(InProcess())


def rows(sources: Path, name: str = MANIFEST) -> list[dict]:
    return pq.ParquetFile(sources.parent / "out" / name).read().to_pylist()


def test_a_failure_under_other_parameters_is_forgotten_with_them(sources: Path) -> None:
    base = (Size(), Lines(), Words())
    good = execute(sources, *base, Choosy())
    assert (good.clips, good.failed) == (6, 0)
    strict = execute(sources, *base, Choosy(most=2))
    assert (strict.clips, strict.failed) == (3, 3)
    for stages in ((*base, Choosy()), base):
        again = execute(sources, *stages)
        assert (again.clips, again.failed, rows(sources, FAILED)) == (6, 0, [])
    assert execute(sources, *base, Choosy(most=2)).failed == 3


def test_what_a_stage_wrote_is_there_when_it_comes_back(sources: Path) -> None:
    execute(sources, Size(), Lines(), Words(), Choosy())
    execute(sources, Size(), Lines(), Words(), Letters())  # writes the ledger without Choosy
    report = execute(sources, Size(), Lines(), Words(), Choosy())
    assert report.kept == report.sources
    assert [row["chosen"] for row in rows(sources)] == [True] * 6


def test_a_manifest_holds_results_of_its_own_parameters_only(sources: Path) -> None:
    execute(sources, Size(), Lines(), Words(), Letters())
    execute(sources, Size(), Lines(), Words(), Letters(factor=9), only="words")
    assert {row["letters"] for row in rows(sources)} == {None}
    assert {row["words"] for row in rows(sources)} == {2, 3}
    assert (
        stage_keys(sources.parent / "out")
        == Pipeline((Size(), Lines(), Words(), Letters(factor=9))).keys
    )
    execute(sources, Size(), Lines(step=2), Words(), only="size")
    assert len(rows(sources)) == 3
    status = read_status(sources.parent / "out")
    assert dict(status.funnel)["clips through all stages"] == 0
    assert status.stages["words"] == {"done": 0, "failed": 0, "left": 3}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE])
def test_a_fault_of_the_machine_ends_the_run_and_blames_no_file(sources: Path, code: int) -> None:
    base = (Size(), Lines(), Words())
    with pytest.raises(PipelineError, match=rf"0.mp4 in choosy: {os.strerror(code)}; put that"):
        execute(sources, *base, Choosy(error=code))
    report = execute(sources, *base, Choosy())
    assert (report.clips, report.failed) == (6, 0)


def test_a_file_that_goes_away_ends_the_run_and_the_next_one_goes_on(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self, row, work):
        work.source(row).unlink()
        raise StageError("cannot be opened")

    with monkeypatch.context() as patched:
        patched.setattr(Size, "measure", gone)
        with pytest.raises(PipelineError, match=r"0.mp4 in size: the file is no longer there"):
            execute(sources, Size(), Lines())
    report = execute(sources, Size(), Lines())
    assert (report.sources, report.clips, report.failed) == (2, 4, 0)


def test_a_ledger_that_cannot_be_read_now_is_not_an_empty_one(
    sources: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    execute(sources, Size(), Lines())
    out = sources.parent / "out"
    ledger = Ledger(out, Pipeline((Size(), Lines())))
    sha = read_sources(out)[0]["source_sha256"]

    def stale(self):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", stale)
        with pytest.raises(OSError, match="Stale"):
            ledger.read(sha)
    ledger.path(sha).write_bytes(b"PAR1 and nothing more")
    assert ledger.read(sha).clips == {}
    assert "damaged" in caplog.text
    assert execute(sources, Size(), Lines()).clips == 6


def test_a_limit_forgets_no_hash(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(sources, Size(), Lines())
    assert execute(sources, Size(), Lines(), limit=1).sources == 1
    assert [row["source"] for row in read_sources(sources.parent / "out")] == ["0.mp4"]
    assert pq.ParquetFile(sources.parent / "out" / SOURCES).read().num_rows == 3
    monkeypatch.setattr("avgen_data_prep.scan._sha256", lambda path: pytest.fail(f"hashed {path}"))
    assert execute(sources, Size(), Lines()).kept == 3


def test_whole_numbers_are_the_same_parameters_as_fractions() -> None:
    keys = [
        parse(
            f"stages: [probe, shots, source_sync, {{cut: {{fps: {fps}, seconds_max: {most}}}}}]"
        ).keys
        for fps, most in (("25", "8"), ("25.0", "8.0"))
    ]
    assert keys[0] == keys[1]
    assert parse("stages: [probe, shots, source_sync, {cut: {size: 64}}]").split.size == 64


def test_keys_hang_on_what_the_scan_found_for_the_stages_before() -> None:
    class Beside(Choosy):
        name: ClassVar[str] = "beside"
        reads: ClassVar = ("source_rights",)
        writes: ClassVar = pa.schema([("beside", pa.string())])

    class After(Choosy):
        name: ClassVar[str] = "after"
        reads: ClassVar = ("beside",)
        writes: ClassVar = pa.schema([("after", pa.string())])

    pipeline = Pipeline((Size(), Lines(), Words(), Beside(), After()))
    scanned = dict.fromkeys(
        ("source", "source_sha256", "source_bytes", "source_sidecars", "source_rights"), ""
    )
    for stage in pipeline.stages:
        moved = pipeline.key(stage, scanned) != pipeline.key(
            stage, {**scanned, "source_rights": "x"}
        )
        assert moved == (stage.name in ("beside", "after")), stage.name


def test_an_unreadable_file_is_a_reason(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avgen_data_prep import scan

    real = scan._sha256

    def refuse(path: Path) -> str:
        if path.name == "1.mp4":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path)

    monkeypatch.setattr(scan, "_sha256", refuse)
    report = execute(sources, Size(), Lines())
    assert (report.clips, report.failed) == (4, 1)
    assert rows(sources, FAILED)[0]["reason"] == "cannot be read (Permission denied)"
