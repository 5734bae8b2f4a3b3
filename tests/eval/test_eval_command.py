import json
from pathlib import Path

import pytest
from avgen_data_prep.worlds import WORLDS
from avgen_eval.cli import main
from avgen_eval.folder import find_clips, measure_file, write_truth
from avgen_eval.results import revision, write_json
from eval_media import caption, flash_and_beep

from avgen.cli import main as avgen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good clip, one with a world's truth, one in a subfolder with a sidecar, and two broken."""
    folder = tmp_path_factory.mktemp("clips")
    good = flash_and_beep().save(folder / "good.mp4")
    example = WORLDS["bounce"].render(1_000_001)
    write_truth(example.clip.save(folder / "known.mp4"), "bounce", example.truth)
    (folder / "sub").mkdir()
    flash_and_beep().replace(caption=None).save(folder / "sub" / "beside.mp4")
    caption([0.24, 0.8]).save(folder / "sub" / "beside.vtt")
    (folder / "cut.mp4").write_bytes(good.read_bytes()[:2000])
    (folder / "empty.mp4").write_bytes(b"")
    return folder


def test_folder_with_broken_files_is_measured(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    assert main([str(folder), "--report", str(page)]) == 0
    result = json.loads((folder / "figures.json").read_text())
    assert (result["schema"], result["num_clips"], result["num_failed"]) == ("avgen.eval/1", 5, 2)
    clips = {clip["name"]: clip for clip in result["clips"]}
    assert clips["good.mp4"]["scores"]["sound"]["60ms"]["f1"] == 1
    assert clips["known.mp4"]["detector"] == "bounce"
    assert clips["known.mp4"]["objects_visible"] == 1
    assert clips["beside.mp4"]["scores"]["picture"]["60ms"]["requested"] == 2
    for name in ("cut.mp4", "empty.mp4"):
        assert clips[name]["failed"]
        assert "cannot be decoded" in clips[name]["findings"][0]
        assert str(folder) not in clips[name]["findings"][0]
    assert result["provenance"]["hardware"]
    assert page.read_text().count("<article") == 5
    printed = capsys.readouterr().out
    assert "2 unusable" in printed
    assert "cut.mp4" in printed


def test_strict_turns_findings_into_a_status(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "figures.json"
    broken, good = str(folder / "cut.mp4"), str(folder / "good.mp4")
    assert main([broken, "--strict", "--json", str(target)]) == 1
    assert main([broken, "--json", str(target)]) == 0
    assert main([good, "--strict", "--json", str(target)]) == 0
    assert json.loads(target.read_text())["num_clips"] == 1


def test_the_verb_is_reached_from_avgen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert avgen(["eval", str(tmp_path)]) == 1
    assert "no clips" in capsys.readouterr().err
    assert avgen(["eval", str(tmp_path / "missing")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_find_clips_takes_files_and_folders(folder: Path) -> None:
    assert [path.name for path in find_clips([folder / "sub", folder / "good.mp4"])] == [
        "beside.mp4",
        "good.mp4",
    ]


@pytest.mark.parametrize(
    "text", ["not json", "[]", '{"world": "atlantis", "truth": {}}', '{"world": "bounce"}']
)
def test_bad_truth_is_a_finding(tmp_path: Path, text: str) -> None:
    path = flash_and_beep().save(tmp_path / "a.mp4")
    path.with_suffix(".truth.json").write_text(text)
    record = measure_file(path).record
    assert any("truth beside it" in finding for finding in record.findings)
    assert record.detector == "generic"
    assert record.sound_scores[0].f1 == 1


def test_truth_that_the_detector_refuses_is_a_finding(tmp_path: Path) -> None:
    path = flash_and_beep().save(tmp_path / "a.mp4")
    write_truth(path, "bounce", {"world": "drums"})
    record = measure_file(path).record
    assert any("detector" in finding for finding in record.findings)
    assert not record.failed


def test_bad_caption_sidecar_is_a_finding(tmp_path: Path) -> None:
    path = flash_and_beep().save(tmp_path / "a.mp4")
    path.with_suffix(".json").write_text("{}")
    record = measure_file(path).record
    assert any("caption beside it" in finding for finding in record.findings)


def test_json_has_no_numbers_that_are_not_finite(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", {"x": float("nan"), "y": [float("inf"), 1.5]})
    assert json.loads(path.read_text()) == {"schema": "avgen.eval/1", "x": None, "y": [None, 1.5]}


def test_revision_is_short_or_nothing() -> None:
    known = revision()
    assert known is None or len(known.rstrip("+")) == 12
