import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from avgen_eval.cli import main
from avgen_eval.harness.compare import compare_runs
from avgen_eval.harness.result import ResultError, read_result
from avgen_eval.harness.suite import SuiteError, list_suites, load_suite, read_suite
from eval_media import flash_and_beep
from strange_files import kinds, write_at_another_rate, write_strange_files


def make_clips(folder: Path, late: float = 0.0, count: int = 12) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        frames = (4 + i % 3, 15 + i % 4, 30 + i % 5)
        flash_and_beep(frames, late=late).save(folder / f"{i:02d}.mp4")
    return folder


def evaluate(folder: Path, out: Path, *options: str, suite: str = "t2av") -> int:
    cache = str(folder.parent / "cache")
    return main(
        ["run", str(folder), "--suite", suite, "--cache", cache, "--out", str(out), *options]
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips in sync, and the same 80 ms late, evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    for name, late in (("good", 0.0), ("late", 0.08)):
        assert evaluate(make_clips(folder / name, late), folder / f"{name}-out") == 0
    return folder


def test_figures_are_those_of_the_clips(runs: Path) -> None:
    good, late = (read_result(runs / f"{name}-out") for name in ("good", "late"))
    assert good.figures["sync.f1_60ms"].value == pytest.approx(1)
    assert late.figures["sync.f1_60ms"].value == pytest.approx(0)
    offset = late.figures["sync.offset_ms"]
    assert offset.value == pytest.approx(80, abs=5)
    assert offset.unit == "ms"
    assert offset.low is not None
    assert offset.low <= 80 <= offset.high + 5  # type: ignore[operator]
    assert late.figures["timing.sound_bias_ms"].value == pytest.approx(80, abs=3)
    assert late.figures["timing.picture_error_median_ms"].value == pytest.approx(0, abs=3)
    assert good.figures["shuffle_gap.f1_gap"].value > 0.2  # type: ignore[operator]


def test_result_says_where_it_comes_from(runs: Path) -> None:
    content = json.loads((runs / "good-out" / "result.json").read_text())
    assert content["data"]["num_expected"] == content["data"]["num_scored"] == 12
    assert content["data"]["conditions"]["fps"] == [25]
    assert content["environment"]["versions"]["torch"]
    signature = next(f["signature"] for f in content["figures"] if f["id"] == "sync.f1_60ms")
    assert signature.startswith("sync-v1+sound_events-v1+picture_events-v4|fps=25|size=64x64|")
    skipped = next(f for f in content["figures"] if f["id"] == "distribution.logmel.frechet")
    assert skipped["status"] == "skipped"
    assert skipped["value"] is None
    assert "--ref" in skipped["reason"]
    assert "mp4" not in json.dumps(content["figures"])


def test_comparison_is_paired_and_finds_the_difference(runs: Path) -> None:
    good, late = (read_result(runs / f"{name}-out") for name in ("good", "late"))
    rows = {row.id: row for row in compare_runs(good, late, only=["sync"])}
    worse = rows["sync.f1_60ms"]
    assert worse.comparison is not None
    assert worse.comparison.difference == pytest.approx(-1)
    assert worse.comparison.losses == 12
    assert worse.p_corrected is not None
    assert worse.p_corrected < 0.05
    same = {row.id: row for row in compare_runs(good, good, only=["sync"])}["sync.f1_60ms"]
    assert same.comparison is not None
    assert (same.comparison.difference, same.p_corrected) == (0, 1)
    assert "sync.f1_chance_60ms" not in rows  # a description, neither better nor worse


def test_other_signatures_are_refused(runs: Path, tmp_path: Path) -> None:
    clip = flash_and_beep()
    assert clip.frames is not None
    folder = tmp_path / "small"
    folder.mkdir()
    for i in range(12):
        clip.replace(frames=clip.frames[:, :48, :48]).save(folder / f"{i:02d}.mp4")
    assert evaluate(folder, tmp_path / "small-out", suite="sync") == 0
    good, small = read_result(runs / "good-out"), read_result(tmp_path / "small-out")
    with pytest.raises(ResultError, match=r"size=48x48.*size=64x64|size=64x64.*size=48x48"):
        compare_runs(good, small, only=["sync"])


def test_clips_that_were_given_another_rate_do_not_compare(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    for path in sorted((runs / "good").glob("*.mp4"))[:4]:
        write_at_another_rate(path, folder / path.name, 12.5)
    assert evaluate(folder, tmp_path / "half-out", suite="sync") == 0
    good, half = read_result(runs / "good-out"), read_result(tmp_path / "half-out")
    assert half.content["data"]["conditions"]["fps"] == [12.5]
    with pytest.raises(ResultError, match=r"fps=25\b.*fps=12\.5"):
        compare_runs(good, half, only=["sync"])


def test_results_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"kind": "avgen.eval.run/9"}')
    with pytest.raises(ResultError, match=r"avgen\.eval\.run/9"):
        read_result(tmp_path)
    with pytest.raises(ResultError, match="cannot be read as JSON"):
        read_result(tmp_path / "none.json")


def test_second_run_reads_the_cache(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(item: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("avgen_eval.harness.extract.decode", refuse)
    assert evaluate(runs / "good", runs / "again-out") == 0
    first, again = (read_result(runs / f"{name}-out") for name in ("good", "again"))
    assert first.figures == again.figures
    assert first.records == again.records


def test_score_without_extraction_says_so(tmp_path: Path) -> None:
    folder = make_clips(tmp_path / "clips", count=2)
    options = ["--cache", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]
    assert main(["score", str(folder), "--suite", "sync", *options]) == 0
    result = read_result(tmp_path / "out")
    assert result.content["data"]["num_failed"] == 2
    assert "avgen eval extract" in result.records[0].failed


def test_references_give_distances_and_their_floor(runs: Path, tmp_path: Path) -> None:
    options = ("--ref", str(runs / "late"))
    assert evaluate(runs / "good", tmp_path / "out", *options, suite="quality") == 0
    result = read_result(tmp_path / "out")
    kernel = result.figures["distribution.logmel.kernel"]
    assert kernel.status == "ok"
    assert kernel.num == 12
    frechet = result.figures["distribution.logmel.frechet"]
    assert frechet.status == "skipped"  # 12 clips say nothing about 96 features


def test_strange_files_are_all_accounted_for(tmp_path: Path) -> None:
    paths = write_strange_files(tmp_path / "strange", 56)
    assert evaluate(tmp_path / "strange", tmp_path / "out", "--workers", "2") == 0
    result = read_result(tmp_path / "out")
    data = result.content["data"]
    assert data["num_expected"] == len(paths) == len(result.records)
    assert data["num_scored"] + data["num_failed"] == len(paths)
    by_id = {record.id: record for record in result.records}
    for path, kind in zip(paths, kinds(paths), strict=True):
        record = by_id[path.stem]
        if kind in ("empty", "text", "noise"):
            assert record.failed
        if kind in ("odd_size", "slow_mono", "one_frame"):
            assert not record.failed
            assert record.values["signal.true_peak_dbtp"] is not None
        if kind in ("silent", "sound_only", "surround", "variable_rate"):
            assert record.findings
            assert record.skipped["sync"] == "needs picture and sound"
    assert evaluate(tmp_path / "strange", tmp_path / "out", "--strict") == 1


def test_two_processes_give_the_result_of_one(runs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", "29613", "-m", "avgen.cli", "eval", "run", str(runs / "good")]
    command += ["--suite", "t2av", "--cache", str(tmp_path / "c"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    one, two = read_result(runs / "good-out"), read_result(tmp_path / "out")
    assert one.figures == two.figures
    assert one.records == two.records


def test_suites_that_come_along_can_be_read() -> None:
    names = {suite.name for suite in list_suites()}
    assert {"smoke", "sync", "timing", "quality", "t2av", "v2a", "a2v", "extend"} <= names
    joined = load_suite("sync,quality")
    assert set(joined.clips) == {"sync", "learned_sync", "signal", "temporal"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x", "measures nothing"),
        ("clips: [sync]", "needs a `name`"),
        ("{name: x, clips: [sink]}", "scorer 'sink' does not exist"),
        ("{name: x, clips: [sync], extra: 1}", "unknown field 'extra'"),
        ("{", "cannot be read as YAML"),
    ],
)
def test_bad_suites_are_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SuiteError, match=told):
        read_suite(path)


def test_unknown_suite_lists_the_known() -> None:
    with pytest.raises(SuiteError, match="smoke"):
        load_suite("none")


def test_ls_and_validate(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    assert "shuffle_gap" in capsys.readouterr().out
    assert main(["validate", str(runs / "good")]) == 0
    assert "12 clips" in capsys.readouterr().out
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"id": "x", "video": "gone.mp4"}\n')
    assert main(["validate", str(manifest)]) == 1
    assert "missing" in capsys.readouterr().out
    (tmp_path / "clip.mp4").write_bytes((runs / "good" / "00.mp4").read_bytes())
    (tmp_path / "clip.json").write_text('[{"text": "a ball"}]')
    assert main(["validate", str(tmp_path / "clip.mp4")]) == 1
    told = capsys.readouterr().out
    assert "caption cannot be used" in told
    assert 'write "schema"' in told
    assert "1 clips, 0 with a caption" in told


def test_report_of_two_runs_compares_and_plays(runs: Path) -> None:
    page = runs / "report.html"
    out = [str(runs / f"{name}-out") for name in ("good", "late")]
    assert main(["report", *out, "--html", str(page), "--clips", "1"]) == 0
    text = page.read_text()
    assert "late against good" in text
    assert text.count("<video") == 4
    assert "best, sync.f1_graded_corrected" in text
    assert "+78" in text or "+79" in text  # milliseconds of median offset, later
    assert "http" not in text.split("<script>")[0].replace("http-equiv", "")
    with pytest.raises(ResultError, match="--order-by"):
        main(["report", out[0], "--html", str(page), "--order-by", "sync.none"])


def test_metric_without_weights_says_what_it_needs(runs: Path, tmp_path: Path) -> None:
    options = ("--metric", "clap_score", "--metric", "imagebind")
    assert evaluate(runs / "good", tmp_path / "out", *options, suite="smoke") == 0
    figures = read_result(tmp_path / "out").figures
    clap, imagebind = figures["clap_score.clap"], figures["imagebind.imagebind"]
    assert (clap.status, clap.value) == ("skipped", None)
    assert "clap-htsat-unfused" in clap.reason
    assert "--non-commercial" in imagebind.reason
    with pytest.raises(ValueError, match="choose from"):
        evaluate(runs / "good", tmp_path / "out", "--metric", "fvd2", suite="smoke")
