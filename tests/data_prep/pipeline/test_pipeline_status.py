"""The state of a run, its filter, its funnel; and the errors of a pipeline file."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from avgen_data_prep.pipeline.select import select
from avgen_data_prep.pipeline.spec import PipelineError, load, parse
from avgen_data_prep.pipeline.status import funnel_svg, read_status
from data_prep.pipeline.test_pipeline_runs import HERE, execute, make_sources


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    execute(make_sources(tmp_path / "in"), tmp_path / "out")
    return tmp_path / "out"


def test_status_counts_rows_and_reasons(run: Path) -> None:
    status = read_status(run, "words > 3")
    clips = select(run).num_rows
    assert status.stages["size"] == {"done": 12, "failed": 1, "left": 0}
    assert status.stages["words"] == {"done": clips, "failed": 1, "left": 0}
    assert status.reasons["words", "asks something"] == 1
    assert status.reasons["scan", "same contents as another file"] == 1
    assert dict(status.funnel) == {
        "media files": 14,
        "without exact copies": 13,
        "files with clips": 12,
        "clips cut": clips + 1,
        "clips through all stages": clips,
        "clips that pass the filter": select(run, "words > 3").num_rows,
    }


def test_status_shows_what_is_left(run: Path) -> None:
    execute(run.parent / "in", run, factor=2, limit=3)
    left = read_status(run).stages["letters"]
    assert left["left"] == 0
    assert (left["done"], left["failed"]) == (select(run).num_rows, 0)
    execute(run.parent / "in", run, only="words", factor=3)
    assert read_status(run).stages["letters"]["left"] > 0


def test_the_funnel_is_a_picture_with_its_numbers(run: Path) -> None:
    status = read_status(run)
    drawn = ElementTree.fromstring(funnel_svg(status))
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert texts == [word for label, n in status.funnel for word in (label, f"{n:,}")]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"holds no pipeline.yaml; give the folder of a run"):
        read_status(tmp_path)
    with pytest.raises(PipelineError, match="run `avgen prep run` first"):
        select(tmp_path)


def test_filters_are_expressions_over_the_columns(run: Path) -> None:
    rows = select(run, "words BETWEEN 2 AND 4 AND source LIKE '00%'").to_pylist()
    assert rows
    assert all(2 <= row["words"] <= 4 for row in rows)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("wrods > 2", 'column "wrods" not found'),
        ("words >", "syntax error"),
        ("id IN (SELECT content FROM read_text('/etc/hostname'))", "file system operations"),
    ],
)
def test_wrong_filters_name_the_columns(run: Path, where: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as caught:
        select(run, where)
    assert "columns are id, source, source_sha256" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [", "pipeline: not YAML"),
        ("[probe]", "give a mapping with a list `stages`"),
        ("stages: [prob]", "no stage 'prob'; there are probe, .*; did you mean 'probe'?"),
        ("stages: [{probe: {packet: 3}}]", "probe has no parameter 'packet'"),
        ("stages: [probe]", "a pipeline is measures of sources, one that cuts clips"),
        ("stages: [{class_path: os.path.join}]", "is not a stage"),
        ("stages: [{class_path: nowhere.Stage}]", "cannot be imported"),
        ("stages: [{class_path: text_stages.Lines}]", r"lines reads \['size'\], which no stage"),
        (
            "stages: [{class_path: text_stages.Size}, {class_path: text_stages.Size}, "
            "{class_path: text_stages.Lines}]",
            r"size writes \['size'\], which are there already",
        ),
        ("stages: [probe, shots, {cut: {seconds_min: -1}}]", "cut: seconds_min is -1"),
    ],
)
def test_wrong_pipelines_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        parse(text)


def test_packaged_pipelines_load_and_survive_their_own_yaml() -> None:
    for name in ("default", "tiny"):
        pipeline = load(name)
        assert parse(pipeline.to_yaml()).keys == pipeline.keys
    with pytest.raises(PipelineError, match="give a YAML file, or one of default, tiny"):
        load("tyni")


def test_parameters_can_be_changed_by_name() -> None:
    changed = load("tiny", ["cut.size=96", "cut.square=false"])
    assert (changed.split.size, changed.split.square) == (96, False)  # type: ignore[attr-defined]
    assert changed.keys["probe"] == load("tiny").keys["probe"]
    assert changed.keys["cut"] != load("tiny").keys["cut"]
    for wrong in ("cut.size", "cat.size=3", "size=3"):
        with pytest.raises(PipelineError, match=r"give STAGE.NAME=VALUE with a stage of probe"):
            load("tiny", [wrong])
    with pytest.raises(PipelineError, match="did you mean 'size'"):
        load("tiny", ["cut.sise=3"])
