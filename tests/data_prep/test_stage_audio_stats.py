from pathlib import Path

import numpy as np
import pytest
from avgen_data_prep.stages.audio_stats import AudioStats, noise
from stage_clips import RATE, measured, silent, sounding, world


def tone(seconds: float, db: float, hz: float = 1000) -> np.ndarray:
    """A sine of a level (root mean square) in dB of full scale."""
    at = np.arange(round(seconds * RATE)) / RATE
    return 2**0.5 * 10 ** (db / 20) * np.sin(2 * np.pi * hz * at)


def hiss(seconds: float, db: float, seed: int = 0) -> np.ndarray:
    level = 10 ** (db / 20)
    return np.random.default_rng(seed).normal(0, level, round(seconds * RATE))


@pytest.mark.parametrize(("floor", "loud"), [(-60, -20), (-45, -12), (-80, -30)])
def test_noise_is_what_is_left_in_pauses(floor: float, loud: float) -> None:
    wave = hiss(4, floor)
    wave[RATE : 3 * RATE] += tone(2, loud)
    found = noise(wave[None].astype(np.float32), RATE)
    assert found[0] == pytest.approx(floor, abs=1)
    assert found[1] == pytest.approx(loud - floor, abs=1)


def test_noise_of_silence_and_of_a_constant() -> None:
    assert noise(np.zeros((1, RATE), np.float32), RATE) == (-120, None)
    assert noise(np.full((2, RATE), 0.5, np.float32), RATE) == (-120, None)
    assert noise(np.ones((1, 7), np.float32), RATE) == (-120, None)
    wave = np.concatenate([np.zeros(RATE), tone(1, -20)])[None].astype(np.float32)
    assert noise(wave, RATE) == pytest.approx((-120, 100), abs=0.1)


def test_all_columns_of_a_clip(tmp_path: Path) -> None:
    wave = np.concatenate([hiss(2, -23), 0.001 * hiss(1, -23)])
    found = measured(AudioStats(), sounding(np.stack([wave, wave])), tmp_path)
    assert set(found) == set(AudioStats.writes.names)
    assert found["silence_share"] == pytest.approx(1 / 3, abs=0.04)
    assert found["stereo_correlation"] == pytest.approx(1, abs=0.01)
    assert found["bandwidth_hz"] > 15_000
    assert -14 < found["true_peak_dbtp"] < -5
    assert found["clipping_share"] == 0
    assert found["loudness_lufs"] == pytest.approx(-17, abs=3)


def test_a_tone_has_its_loudness_and_bandwidth(tmp_path: Path) -> None:
    wave = tone(2, -26)
    found = measured(AudioStats(), sounding(np.stack([wave, wave])), tmp_path)
    assert found["loudness_lufs"] == pytest.approx(-23, abs=0.2)
    assert found["true_peak_dbtp"] == pytest.approx(-23, abs=0.5)
    assert found["bandwidth_hz"] == pytest.approx(1000, abs=60)


def test_what_cannot_be_said_is_null(tmp_path: Path) -> None:
    still = measured(AudioStats(), sounding(np.zeros(RATE)), tmp_path / "still")
    nothing = ("loudness_lufs", "true_peak_dbtp", "snr_db", "bandwidth_hz", "stereo_correlation")
    assert {still[name] for name in nothing} == {None}
    assert still["silence_share"] == 1
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    assert measured(AudioStats(), silent(frames), tmp_path / "silent") == {}


def test_worlds_are_clean(tmp_path: Path) -> None:
    found = measured(AudioStats(), world("talker", 1), tmp_path)
    assert found["clipping_share"] == 0
    assert found["snr_db"] > 40
    assert found["stereo_correlation"] is None


def test_a_share_of_all_the_energy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bandwidth_share is 1\.0; give a share between 0 and 1"):
        AudioStats(bandwidth_share=1.0)
