import json
from pathlib import Path

import pytest
from avgen_data_prep.worlds import WORLDS
from avgen_eval.cli import main
from avgen_eval.harness.manifest import Item
from avgen_eval.harness.measured import measure_item
from avgen_eval.harness.result import Result, read_result
from avgen_eval.known import Truth, read_truth
from avgen_eval.requested import requested_moments
from avgen_eval.results import revision, write_json
from eval_media import caption, flash_and_beep

from avgen.cli import main as avgen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good clip, one with a world's truth, one in a subfolder with a sidecar, and two broken."""
    folder = tmp_path_factory.mktemp("clips")
    good = flash_and_beep().save(folder / "good.mp4")
    example = WORLDS["bounce"].render(1_000_001)
    known = example.clip.save(folder / "known.mp4")
    Truth(world="bounce", content=example.truth).save(known)
    (folder / "sub").mkdir()
    flash_and_beep().replace(caption=None).save(folder / "sub" / "beside.mp4")
    caption([0.24, 0.8]).save(folder / "sub" / "beside.vtt")
    (folder / "cut.mp4").write_bytes(good.read_bytes()[:2000])
    (folder / "empty.mp4").write_bytes(b"")
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in a folder of their own, with the cache of the module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVGEN_EVAL_CACHE", str(folder.parent / "cache"))
    return tmp_path


def values(result: Result, name: str, *, scorer: str = "timing") -> dict[str, float | None]:
    record = next(record for record in result.records if record.id == name)
    return {
        key.removeprefix(f"{scorer}."): value
        for key, value in record.values.items()
        if key.startswith(f"{scorer}.")
    }


def test_folder_with_broken_files_is_measured(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    arguments = [str(folder), "--suite", "smoke,worlds", "--out", "out", "--report", str(page)]
    assert main(arguments) == 0
    result = read_result(tmp_path / "out")
    data = result.content["data"]
    assert (data["num_expected"], data["num_failed"]) == (5, 2)
    assert values(result, "good")["sound_f1_50ms"] == 1
    assert values(result, "known", scorer="world")["objects_visible"] == 1
    assert values(result, "known", scorer="world")["attribute_colour"] == 1
    assert values(result, "good", scorer="world")["objects_visible"] is None
    assert result.figures["world.sound_f1_60ms"].value == 1
    beside = next(record for record in result.records if record.id == "sub/beside")
    assert beside.events["timing"]["picture"].requested == pytest.approx((0.24, 0.8))
    assert len(beside.events["timing"]["sound"].found) == 3
    for record in result.records:
        assert bool(record.failed) == (record.id in ("cut", "empty"))
        assert str(folder) not in record.failed
    assert page.read_text().count("<video") == 3
    assert "Objects as described" in page.read_text()
    printed = capsys.readouterr().out
    assert "2 failed" in printed
    assert "cut: is cut off" in printed


def test_one_clip_without_a_verb_is_the_suite_smoke(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = flash_and_beep((6, 20, 37), late=0.05).save(tmp_path / "late.mp4")
    assert main([str(late)]) == 0
    printed = capsys.readouterr().out
    result = read_result(tmp_path / "eval_late")
    assert result.content["suite"]["name"] == "smoke"
    assert set(result.items()) == {"late"}
    rows = [line.split() for line in printed.splitlines() if line.startswith(" sound ")]
    asked = [float(row[1]) for row in rows]
    clip = flash_and_beep((6, 20, 37))
    assert clip.caption is not None
    assert asked == pytest.approx(requested_moments(clip.caption).sound)
    assert [float(row[3]) for row in rows] == pytest.approx([t + 0.05 for t in asked], abs=0.005)
    assert all(row[5].startswith("+") for row in rows)
    assert main(["run", str(late), "--suite", "smoke", "--out", "again"]) == 0
    assert read_result(tmp_path / "again").figures == result.figures


def test_files_of_several_folders_are_one_run(folder: Path, tmp_path: Path) -> None:
    files = [str(folder / "good.mp4"), str(folder / "sub")]
    assert main(files) == 0
    result = read_result(tmp_path / "eval_good_and_1_more")
    assert [record.id for record in result.records] == ["good", "sub/beside"]


def test_a_result_of_other_clips_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    clip = flash_and_beep().save(tmp_path / "good.mp4")
    assert main([str(folder / "good.mp4")]) == 0
    assert main([str(folder / "good.mp4")]) == 0
    with pytest.raises(ValueError, match=r"eval_good holds the result of .*; name .* --out"):
        main([str(clip)])
    assert main([str(clip), "--out", "eval_good"]) == 0


def test_strict_turns_findings_into_a_status(folder: Path) -> None:
    broken, good = str(folder / "cut.mp4"), str(folder / "good.mp4")
    assert main([broken, "--strict"]) == 1
    assert main([broken]) == 0
    assert main([good, "--strict"]) == 0


def test_report_of_clips_that_nothing_orders(folder: Path, tmp_path: Path) -> None:
    assert main([str(folder / "cut.mp4"), "--report", "page.html"]) == 0
    assert "could not be shown" in (tmp_path / "page.html").read_text()


def test_the_verb_is_reached_from_avgen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").mkdir()
    assert avgen(["eval", "none"]) == 1
    assert "holds no clips" in capsys.readouterr().err
    assert avgen(["eval", "missing"]) == 1
    assert "no such file or folder" in capsys.readouterr().err
    assert avgen(["eval"]) == 2
    assert "usage: avgen eval CLIPS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not json", "not JSON"),
        ("[]", "an object with `world`"),
        ('{"world": "atlantis", "truth": {}}', "'atlantis' does not exist"),
        ('{"world": "bounce"}', "an object with `world`"),
    ],
)
def test_bad_truth_is_a_finding(tmp_path: Path, text: str, told: str) -> None:
    path = flash_and_beep().save(tmp_path / "a.mp4")
    truth = tmp_path / "a.truth.json"
    truth.write_text(text)
    with pytest.raises(ValueError, match=told):
        read_truth(truth)
    record = measure_item(Item(id="a", prompt="a", video=path, truth=truth)).record
    assert any("truth cannot be used" in found and told in found for found in record.findings)
    assert record.detector == "generic"
    assert record.sound_scores[0].f1 == 1


def test_truth_that_the_detector_refuses_is_told(tmp_path: Path) -> None:
    path = flash_and_beep().save(tmp_path / "a.mp4")
    truth = Truth(world="bounce", content={"world": "drums"}).save(path)
    record = measure_item(Item(id="a", prompt="a", video=path, truth=truth)).record
    assert any("detector of world 'bounce'" in finding for finding in record.findings)
    assert not record.failed
    assert main([str(path), "--suite", "worlds"]) == 0
    figure = read_result(tmp_path / "eval_a").figures["world.objects_visible"]
    assert (figure.status, figure.value) == ("skipped", None)
    assert "detector of world 'bounce'" in figure.reason


def test_bad_caption_sidecar_is_a_finding(tmp_path: Path) -> None:
    path = flash_and_beep().save(tmp_path / "a.mp4")
    path.with_suffix(".json").write_text("{}")
    assert main([str(path)]) == 0
    (record,) = read_result(tmp_path / "eval_a").records
    assert any("caption cannot be used" in finding for finding in record.findings)


def test_json_has_no_numbers_that_are_not_finite(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", {"x": float("nan"), "y": [float("inf"), 1.5]})
    assert json.loads(path.read_text()) == {"schema": "avgen.eval/1", "x": None, "y": [None, 1.5]}


def test_revision_is_short_or_nothing() -> None:
    known = revision()
    assert known is None or len(known.rstrip("+")) == 12
