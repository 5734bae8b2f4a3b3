import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from avgen_data_prep.pipeline.executors import InProcess
from avgen_data_prep.pipeline.manifest import FAILED, MANIFEST
from avgen_data_prep.pipeline.runner import Report, Run
from avgen_data_prep.pipeline.spec import Pipeline
from avgen_data_prep.pipeline.stage import Row, Split, StageError, clip_id
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.scan import MediaFile, scan
from avgen_data_prep.stages.rights import Rights


@dataclass(frozen=True, kw_only=True)
class Whole(Split):
    """One clip: the bytes of the source."""

    name: ClassVar[str] = "whole"
    writes: ClassVar = pa.schema([("size", pa.int64())])

    def split(self, row: Row, work: Work) -> list[Row]:
        data = work.source(row).read_bytes()
        name = clip_id(row["source_sha256"], 0, 1, work.key)
        work.clip_file(name).parent.mkdir(parents=True, exist_ok=True)
        work.clip_file(name).write_bytes(data)
        return [{"id": name, "size": len(data)}]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Films in two folders, one below the other."""
    folder = tmp_path / "sources"
    (folder / "talks").mkdir(parents=True)
    for name in ("a.mp4", "talks/b.mp4", "talks/c.mp4"):
        (folder / name).write_bytes(name.encode())
    return folder


def said(sources: Path) -> dict[str, Row]:
    """Rights by source."""
    files, _ = scan(sources, sources / "none")
    work = Work(sources, sources / "none")
    return {file.name: Rights().measure(file.row(), work) for file in files}


def test_nothing_is_guessed(sources: Path) -> None:
    assert said(sources) == {"a.mp4": {}, "talks/b.mp4": {}, "talks/c.mp4": {}}


def test_the_nearest_file_that_says_it_wins(sources: Path) -> None:
    (sources / "rights.yaml").write_text("licence: CC0-1.0\nfaces: false\n")
    (sources / "talks/rights.yaml").write_text("licence: CC-BY-4.0\nconsent: forms/talks.pdf\n")
    (sources / "talks/b.rights.json").write_text(json.dumps({"faces": True, "licence": None}))
    (sources / "talks/c.rights.yaml").write_text("consent: forms/c.pdf")
    (sources / "talks/c.rights.json").write_text('{"consent": "forms/json.pdf"}')
    by = {"licence": "CC-BY-4.0", "consent": "forms/talks.pdf"}
    assert said(sources) == {
        "a.mp4": {"licence": "CC0-1.0", "faces": False},
        "talks/b.mp4": {**by, "faces": True},
        "talks/c.mp4": {**by, "consent": "forms/json.pdf", "faces": False},
    }
    _, records = scan(sources, sources / "none")
    assert {record["outcome"] for record in records} == {"sidecar"}


def test_a_row_tells_its_file_again(sources: Path) -> None:
    (sources / "talks/rights.yaml").write_text("faces: true")
    (sources / "talks/b.txt").write_text("somebody talks")
    files, _ = scan(sources, sources / "none")
    assert [MediaFile.of_row(file.row()) for file in files] == files
    assert [len(file.rights) for file in files] == [0, 1, 1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("license: MIT", "rights.yaml: says 'license'; give any of licence, consent, faces"),
        ("licence: no", "rights.yaml: licence is False; give a text, best an SPDX identifier"),
        ("licence: ''", "rights.yaml: licence is ''; give a text"),
        ("faces: 'true'", "rights.yaml: faces is 'true'; give true or false"),
        ("- MIT", "rights.yaml: is no mapping; give any of"),
        ("", "rights.yaml: is no mapping"),
        ("licence: [", "rights.yaml: cannot be read (while parsing"),
        (
            "licence: !!python/object:os.system x",
            "rights.yaml: cannot be read (could not determine",
        ),
    ],
)
def test_what_is_not_understood_fails(sources: Path, text: str, problem: str) -> None:
    (sources / "rights.yaml").write_text(text)
    with pytest.raises(StageError) as error:
        said(sources)
    assert str(error.value).startswith(problem)


def test_bytes_that_are_no_text_fail(sources: Path) -> None:
    (sources / "rights.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StageError, match=r"rights\.yaml: cannot be read \('utf-8' codec"):
        said(sources)


def test_only_what_a_changed_file_is_about_is_done_again(sources: Path, tmp_path: Path) -> None:
    def run() -> tuple[Report, list[str | None], list[str]]:
        whole = Run(
            sources=sources, folder=tmp_path / "run", pipeline=Pipeline((Whole(), Rights()))
        )
        report = whole.execute(InProcess())
        clips = pq.read_table(whole.folder / MANIFEST).sort_by("source")
        failed = pq.read_table(whole.folder / FAILED)
        return report, clips["licence"].to_pylist(), failed["reason"].to_pylist()

    assert run()[1:] == ([None] * 3, [])
    (sources / "talks/rights.yaml").write_text("licence: MIT")
    report, licences, _ = run()
    assert (report.kept, licences) == (1, [None, "MIT", "MIT"])
    (sources / "talks/rights.yaml").write_text("license: MIT")
    report, licences, reasons = run()
    assert (report.kept, licences, len(reasons)) == (1, [None], 2)
    (sources / "talks/rights.yaml").write_text("licence: MIT-0")
    report, licences, reasons = run()
    assert (report.kept, licences, reasons) == (1, [None, "MIT-0", "MIT-0"], [])
    assert run()[0].kept == 3
