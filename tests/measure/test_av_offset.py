import numpy as np
import pytest
from eval_media import DURATION, FPS, RATE, bouncing, flash_and_beep, flashes, knocks

from avgen.measure.motion import measure_motion
from avgen.measure.offset import NOT_MEASURABLE, Offset, measure_offset
from avgen.measure.onsets import Curve, find_onsets, onset_train


def offset_of(waveform: np.ndarray, frames: np.ndarray) -> Offset:
    sound = onset_train(*find_onsets(waveform, RATE), DURATION)
    return measure_offset(sound, measure_motion(frames, FPS).strength)


@pytest.mark.parametrize("late", [-0.2, -0.04, 0.0, 0.04, 0.12])
def test_shifted_beeps_give_the_shift(late: float) -> None:
    clip = flash_and_beep((8, 21, 38), late)
    assert clip.waveform is not None
    assert clip.frames is not None
    measured = offset_of(clip.waveform, clip.frames)
    assert measured.offset_ms == pytest.approx(1000 * late, abs=5)
    assert measured.confidence > 0.8


@pytest.mark.parametrize("late", [-0.04, 0.04])
def test_shifted_knocks_of_a_bouncing_ball_give_the_shift(late: float) -> None:
    hits = np.array([0.38, 0.78, 1.26, 1.6])
    frames = bouncing(hits)
    reference = offset_of(knocks(hits), frames).offset_ms
    shifted = offset_of(knocks(hits + late), frames).offset_ms
    assert reference == pytest.approx(0, abs=10)
    assert shifted is not None
    assert reference is not None
    assert shifted - reference == pytest.approx(1000 * late, abs=2)


def test_unrelated_sound_and_picture_have_no_offset() -> None:
    confidences = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        seen = np.sort(rng.choice(np.arange(3, 46, 5), 5, replace=False))
        heard = np.cumsum(rng.uniform(0.2, 0.5, 5))
        measured = offset_of(knocks(heard[heard < 1.9], seed), flashes(seen.tolist()))
        confidences.append(measured.confidence)
        assert (measured.offset_ms is None) == (measured.confidence < 0.68)
    assert np.mean(np.array(confidences) < 0.68) >= 5 / 6


def test_a_regular_rhythm_is_less_certain_than_an_irregular_one() -> None:
    regular, irregular = (8, 16, 24, 32, 40), (5, 13, 24, 30, 43)
    known = []
    for frames in (regular, irregular):
        clip = flash_and_beep(frames)
        assert clip.waveform is not None
        assert clip.frames is not None
        known.append(offset_of(clip.waveform, clip.frames))
    assert known[0].distinctness < 0.3 < known[1].distinctness
    assert known[0].confidence < known[1].confidence


def test_nothing_to_compare_is_not_measurable() -> None:
    still = Curve(np.zeros(49), 1 / FPS)
    pulse = onset_train([0.5], [10.0], DURATION)
    assert measure_offset(pulse, still) == NOT_MEASURABLE
    assert measure_offset(onset_train([], [], DURATION), Curve(np.ones(49), 1 / FPS)) == (
        NOT_MEASURABLE
    )
    assert measure_offset(pulse, Curve(np.ones(1), 1 / FPS)) == NOT_MEASURABLE
