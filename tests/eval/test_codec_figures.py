import numpy as np
import pytest
from avgen_eval.codec import audio_fidelity, log_mel_distance, psnr
from eval_media import RATE, knocks

TIMES = (0.3, 0.75, 1.4)


def test_psnr_matches_its_formula() -> None:
    original = np.full((2, 8, 8, 3), 100, np.uint8)
    assert psnr(original, original + 5) == pytest.approx(10 * np.log10(255**2 / 25))
    assert psnr(original, original) == 100
    assert psnr(np.zeros_like(original), np.full_like(original, 255)) == pytest.approx(0, abs=1e-6)


def test_psnr_refuses_what_it_cannot_compare() -> None:
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="shape"):
        psnr(frames, frames[:1])
    with pytest.raises(ValueError, match="uint8"):
        psnr(frames, frames.astype(np.float32))


def test_log_mel_distance_is_the_change_of_level() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (1, RATE))
    assert log_mel_distance(sound, sound, RATE) == 0
    assert log_mel_distance(sound, sound / 2, RATE) == pytest.approx(20 * np.log10(2), abs=0.05)
    with pytest.raises(ValueError, match="samples"):
        log_mel_distance(sound, sound[:, :-1], RATE)


@pytest.mark.parametrize("samples", [-240, 160])
def test_onset_shift_is_the_delay(samples: int) -> None:
    sound = knocks(TIMES)
    fidelity = audio_fidelity(sound, np.roll(sound, samples, axis=1), RATE)
    assert fidelity.num_onsets == 3
    assert fidelity.onset_f1 == 1
    assert fidelity.onset_shift_ms == pytest.approx(1000 * samples / RATE, abs=1)
    assert fidelity.onset_error_p90_ms == pytest.approx(1000 * abs(samples) / RATE, abs=1)


def test_lost_onsets_are_counted() -> None:
    lost = audio_fidelity(knocks(TIMES), knocks(TIMES[:1]), RATE)
    assert lost.onset_f1 == pytest.approx(2 / 4)
    silence = audio_fidelity(knocks(TIMES), np.zeros((1, knocks(TIMES).shape[1])), RATE)
    assert (silence.onset_f1, silence.onset_shift_ms) == (0, None)
