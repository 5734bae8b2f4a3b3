import numpy as np
import pytest
from avgen_eval.events import score_events
from eval_media import DURATION, FPS, RATE, bouncing, flashes, knocks
from scipy.ndimage import gaussian_filter, zoom

from avgen.measure.flow import (
    _stretch,
    measure_flow,
    optical_flow,
    reduce_frames,
    steady_flow,
    warp,
)
from avgen.measure.motion import measure_motion, picture_impacts
from avgen.measure.offset import measure_offset
from avgen.measure.onsets import find_onsets, onset_strength, onset_train, sound_onsets

TIMES = (0.31, 0.62, 0.9, 1.37, 1.7)


@pytest.mark.parametrize("noise", [0.0, 1e-3, 1e-2])
def test_knocks_are_found_to_the_millisecond(noise: float) -> None:
    score = score_events(TIMES, sound_onsets(knocks(TIMES, noise=noise), RATE), 60)
    assert score.f1 == 1
    assert max(map(abs, score.errors_ms)) < 3


def test_a_knock_at_zero_counts_and_a_steady_tone_does_not() -> None:
    assert sound_onsets(knocks([0.0, 0.8]), RATE) == pytest.approx([0, 0.8], abs=0.003)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    assert sound_onsets(tone, RATE) == []


def test_rate_channels_and_loudness_do_not_matter() -> None:
    mono = knocks(TIMES)
    stereo = np.concatenate([mono, mono]) * 0.05
    assert sound_onsets(stereo, RATE) == pytest.approx(sound_onsets(mono, RATE), abs=0.002)
    double = np.repeat(mono, 3, axis=1)
    assert sound_onsets(double, 3 * RATE) == pytest.approx(sound_onsets(mono, RATE), abs=0.003)


def test_silence_and_noise_have_no_onsets() -> None:
    assert sound_onsets(np.zeros((1, RATE)), RATE) == []
    assert onset_strength(np.zeros((1, RATE)), RATE).values.max() == 0
    hiss = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    assert len(sound_onsets(hiss, RATE)) <= 1


def test_bad_waveforms_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        sound_onsets(np.zeros((1, 2, 3)), RATE)
    with pytest.raises(ValueError, match="NaN"):
        sound_onsets(np.array([0.0, np.nan]), RATE)


def test_onset_train_keeps_the_centre_of_each_pulse() -> None:
    train = onset_train([0.5013], [2.0], 1.0)
    assert float((train.values * train.times).sum() / train.values.sum()) == pytest.approx(0.5013)


@pytest.mark.parametrize("seed", range(3))
def test_impacts_are_found_between_frames(seed: int) -> None:
    hits = np.cumsum(np.random.default_rng(seed).uniform(0.3, 0.55, 3))
    score = score_events(
        hits.tolist(), picture_impacts(measure_motion(bouncing(hits, seed), FPS)), 60
    )
    assert score.recall == 1
    assert score.num_detected <= len(hits) + 1
    assert np.mean(np.abs(score.errors_ms)) < 15


def test_a_light_is_dated_half_way_to_the_frame_that_first_shows_it() -> None:
    found = picture_impacts(measure_motion(flashes([6, 20, 37]), FPS))
    assert found == pytest.approx([5.5 / FPS, 19.5 / FPS, 36.5 / FPS], abs=0.002)


@pytest.mark.parametrize("fps", [12, 25, 60])
def test_lights_at_any_time_are_dated_without_bias(fps: int) -> None:
    rng = np.random.default_rng(fps)
    errors = []
    for _ in range(30):
        times = np.cumsum(rng.uniform(0.35, 0.6, 3))
        shown = np.arange(round(2 * fps)) / fps
        lit = ((shown[:, None] >= times) & (shown[:, None] < times + 0.2)).any(axis=1)
        frames = np.full((len(shown), 32, 32, 3), 30, np.uint8)
        frames[lit, 8:24, 8:24] = 230
        score = score_events(times.tolist(), picture_impacts(measure_motion(frames, fps)), 60)
        assert score.f1 == 1
        errors += score.errors_ms
    # Uniform within half a frame on either side.
    spread = 1000 / fps / 12**0.5
    assert abs(np.mean(errors)) < 3 * spread / len(errors) ** 0.5
    assert np.std(errors) == pytest.approx(spread, rel=0.25)
    assert max(map(abs, errors)) < 500 / fps + 2


def test_flow_that_is_at_hand_gives_the_same_motion() -> None:
    frames = bouncing([0.5, 0.9, 1.4])
    first, second = (measure_motion(frames, FPS, flow) for flow in (None, measure_flow(frames)))
    assert np.array_equal(first.strength.values, second.strength.values)
    assert np.array_equal(first.speed.values, second.speed.values)


def test_a_still_picture_has_no_events() -> None:
    motion = measure_motion(np.full((20, 48, 48, 3), 90, np.uint8), FPS)
    assert picture_impacts(motion) == []
    assert motion.strength.values.max() == 0
    assert picture_impacts(measure_motion(np.zeros((1, 48, 48, 3), np.uint8), FPS)) == []


def test_even_motion_is_not_an_impact() -> None:
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (64, 16, 3)).repeat(16, axis=1).astype(np.uint8)
    moving = np.stack([np.roll(wide, 2 * i, axis=1)[:, :64] for i in range(30)])
    motion = measure_motion(moving, FPS)
    middle = motion.strength.values[2:-2]
    # A reversal has twice the speed; what is left are stripes that come in at the edge.
    assert middle.max() < 0.6 * np.median(motion.speed.values)


def test_flow_finds_a_known_displacement() -> None:
    rows, columns = np.mgrid[:64, :64]
    blobs = [np.exp(-((rows - 32) ** 2 + (columns - x) ** 2) / 60) for x in (30, 33)]
    grey = np.stack(blobs).astype(np.float32)
    flow = optical_flow(grey)
    assert flow.shape == (1, 2, 64, 64)
    assert flow[0, :, 30:35, 30:35].mean(axis=(1, 2)) == pytest.approx([0, 3], abs=0.4)
    assert np.abs(warp(grey[:1], flow) - grey[1:]).max() < 0.2 * np.abs(grey[1] - grey[0]).max()


def test_frames_are_reduced_by_area_and_checked() -> None:
    frames = np.zeros((2, 130, 260, 3), np.uint8)
    frames[:, ::2] = 200
    grey = reduce_frames(frames)
    assert grey.shape == (2, 65, 130)
    assert grey == pytest.approx(np.full(grey.shape, 100 / 255), abs=1e-3)
    with pytest.raises(ValueError, match="uint8"):
        reduce_frames(frames.astype(np.float32))


def test_strength_does_not_depend_on_resolution() -> None:
    small = flashes([10])
    large = small.repeat(3, axis=1).repeat(3, axis=2)
    first, second = (measure_motion(frames, FPS).strength.values for frames in (small, large))
    assert second == pytest.approx(first, rel=0.05, abs=0.02)


def test_only_a_change_that_pixels_share_is_taken_for_brightness() -> None:
    texture = gaussian_filter(np.random.default_rng(0).random((64, 96)), 2).astype(np.float32)
    moving = np.stack([texture[:, i : i + 64] for i in range(6)])
    assert np.array_equal(steady_flow(moving), optical_flow(moving))
    fading = texture[:, :64] + 0.02 * np.arange(6, dtype=np.float32)[:, None, None]
    assert np.abs(steady_flow(fading)).max() < 1e-3 < np.abs(optical_flow(fading)).max()


@pytest.mark.parametrize(("old", "new"), [(8, 16), (8, 17), (9, 16), (1, 2), (5, 5), (16, 9)])
@pytest.mark.parametrize("axis", [2, 3])
def test_fields_are_stretched_as_scipy_zooms(old: int, new: int, axis: int) -> None:
    shape = [3, 2, 6, 6]
    shape[axis] = old
    values = np.random.default_rng(old * new).normal(size=shape).astype(np.float32)
    factors = [1.0] * 4
    factors[axis] = new / old
    expected = zoom(values, factors, order=1, mode="nearest", grid_mode=True)
    stretched = _stretch(values, new, axis)
    assert stretched.shape == expected.shape
    np.testing.assert_allclose(stretched, expected, atol=1e-5)


def test_even_times_change_nothing() -> None:
    frames = bouncing(TIMES)
    even, told = (
        measure_motion(frames, FPS, times=times) for times in (None, np.arange(len(frames)) / FPS)
    )
    np.testing.assert_allclose(told.strength.values, even.strength.values, atol=1e-6)
    np.testing.assert_allclose(told.speed.values, even.speed.values, atol=1e-6)
    assert told.speed.start == even.speed.start


def test_an_offset_is_right_where_a_third_of_the_frames_is_missing() -> None:
    """Where the frames before the gaps are repeated instead, what happened in them is late."""
    frames, sound = bouncing(TIMES), onset_train(*find_onsets(knocks(TIMES), RATE), DURATION)
    repeated, told = [], []
    for seed in range(4):
        kept = np.random.default_rng(seed).uniform(size=len(frames)) > 0.3
        kept[[0, -1]] = True
        (times,) = np.nonzero(kept)
        shown = times[np.searchsorted(times, np.arange(len(frames)), side="right") - 1]
        motions = (
            measure_motion(frames[shown], FPS),
            measure_motion(frames[times], FPS, times=times / FPS),
        )
        for motion, found in zip(motions, (repeated, told), strict=True):
            offset = measure_offset(sound, motion.strength, min_confidence=0)
            found.append((abs(offset.offset_ms), offset.confidence))
    assert max(error for error, _ in told) < 8
    assert max(error for error, _ in repeated) > 12
    assert min(confidence for _, confidence in told) > max(c for _, c in repeated)


def test_times_that_do_not_fit_are_refused() -> None:
    frames = bouncing(TIMES)[:5]
    for times in (np.arange(4) / FPS, np.zeros(5)):
        with pytest.raises(ValueError, match="times for 5 frames; give one for each, rising"):
            measure_motion(frames, FPS, times=times)
