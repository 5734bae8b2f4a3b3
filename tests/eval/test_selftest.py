from pathlib import Path

import pytest
from avgen_eval.cli import main
from avgen_eval.selftest.analysis import Row, SelfTest, run_selftest
from avgen_eval.selftest.ladder import make_cases


@pytest.fixture(scope="module")
def result() -> SelfTest:
    return run_selftest(make_cases(("drums",), 3, seconds=2.96, size=32))


def row(result: SelfTest, damage: str, value: str) -> Row:
    return next(r for r in result.rows if (r.damage, r.value) == (damage, value))


@pytest.mark.slow
def test_known_damage_is_noticed(result: SelfTest) -> None:
    for damage, value in (
        ("sound of another clip", "sync.f1_corrected_60ms"),
        ("sound of another clip", "timing.sound_f1_50ms"),
        ("sound events dropped (share)", "timing.sound_recall_50ms"),
        ("sound events added", "timing.sound_precision_50ms"),
        ("muted", "signal.silence_share"),
        ("picture frozen", "sync.f1_corrected_60ms"),
        ("noise on picture (levels)", "reconstruction.psnr_db"),
    ):
        assert min(a for a in row(result, damage, value).auc.values() if a is not None) == 1, value
    late = row(result, "sound late (ms)", "timing.sound_error_median_ms")
    assert late.auc[40] == 1
    assert late.monotonic == pytest.approx(1)
    assert result.offset_slope == pytest.approx(1, abs=0.03)
    assert abs(result.offset_bias_ms or 0) < 8


@pytest.mark.slow
def test_values_are_blind_to_what_they_are_not_about(result: SelfTest) -> None:
    for found in result.rows:
        if found.blind:
            assert all(auc is None or 0.2 < auc < 0.8 for auc in found.auc.values()), found


@pytest.mark.slow
def test_command_prints_and_writes_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "selftest.json"
    options = ["--world", "drums", "--count", "1", "--seconds", "1.96", "--json", str(path)]
    assert main(["selftest", *options]) == 0
    assert "sound of another clip" in capsys.readouterr().out
    assert '"offset_slope"' in path.read_text()
