"""The state of a run, its filter, its funnel; and the errors of a pipeline file."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from avgen_data_prep.pipeline.select import select
from avgen_data_prep.pipeline.spec import PipelineError, load, parse
from avgen_data_prep.pipeline.status import Status, funnel_svg, read_status
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
    counts = [
        f"{n:,} {'clips' if label.startswith('clips') else 'files'}" for label, n in status.funnel
    ]
    labels = [label for label, _ in status.funnel]
    told = zip(labels, counts, strict=True)
    assert texts == ["From files to clips", *(word for pair in told for word in pair)]


def test_the_funnel_scales_files_and_clips_apart() -> None:
    steps = [("media files", 12), ("files with clips", 1), ("clips cut", 3600), ("clips kept", 900)]
    drawn = ElementTree.fromstring(funnel_svg(Status(funnel=steps)))
    bars = [float(e.get("width", "")) for e in drawn.iter() if e.get("rx")]
    assert [width / bars[0] for width in bars] == pytest.approx([1, 1 / 12, 1, 1 / 4], abs=1e-3)
    tops = [float(e.get("y", "")) for e in drawn.iter() if e.get("rx")]
    (divider,) = [e.get("d", "") for e in drawn.iter() if e.tag.endswith("path")]
    height = float(divider.split("M16 ")[1].split("H")[0])
    assert tops[1] < height < tops[2]
    words = [e.text for e in drawn.iter() if e.tag.endswith("text")]
    assert {"12 files", "1 file", "3,600 clips", "900 clips"} <= set(words)
    for empty in ([], [("media files", 0), ("clips cut", 0)]):
        ElementTree.fromstring(funnel_svg(Status(funnel=empty)))


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
        ("wrods > 2", 'column "wrods" not found.*did you mean one of "words"'),
        ("words >", "syntax error.*columns are id, source, source_sha256"),
        (
            "id IN (SELECT content FROM read_text('/etc/hostname'))",
            "file system operations.*columns are id, source",
        ),
    ],
)
def test_wrong_filters_name_the_columns(run: Path, where: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        select(run, where)


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
