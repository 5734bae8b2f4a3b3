from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from avgen_eval.metrics.features import (
    FeatureExtractor,
    LogMelStatistics,
    RandomConv3d,
    extract_all,
    feature_matrix,
    feature_pair,
    network_input,
    random_weights,
)

from avgen.clip import Clip

RATE = 16_000


def pattern(frames: int = 20, height: int = 48, width: int = 80) -> np.ndarray:
    """A picture made of whole numbers only, the same on every machine."""
    f, y, x, c = np.indices((frames, height, width, 3))
    return ((3 * x + 5 * y + 11 * f + 40 * c + (x * y) // 7) % 256).astype(np.uint8)


def chirp(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    s = np.arange(round(rate * seconds))
    tone = np.sin(2 * np.pi * (200 + 400 * s / rate) * s / rate)
    return (0.3 * tone * np.exp(-(s % (rate // 4)) / (rate / 8))).astype(np.float32)[None]


def test_values_are_pinned() -> None:
    """A change of these values needs a new version in the name of the extractor."""
    clip = Clip(frames=pattern(), waveform=chirp(), sample_rate=RATE)
    picture, sound = RandomConv3d().extract(clip)[0], LogMelStatistics().extract(clip)[0]
    expected = [0.246157, 0.112683, 0.327534, 0.219045, 0.160554, 0.118461, 0.220449]
    assert picture[[0, 31, 32, 63, 64, 200, 319]] == pytest.approx(expected, abs=1e-4)
    expected = [-71.150798, -71.801584, -79.627934, 16.867754, 4.089461, 8.733555, 2.354620]
    assert sound[[0, 10, 31, 32, 50, 64, 95]] == pytest.approx(expected, abs=1e-4)


def test_weights_come_from_raw_bits_of_the_seed() -> None:
    first, again, other = random_weights(0), random_weights(0), random_weights(1)
    assert [tuple(kernel.shape[:2]) for kernel in first] == [(16, 3), (32, 16), (32, 32)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert first[2].var().item() == pytest.approx(2 / (27 * 32), rel=0.02)
    sums = first[0].sum(dim=(1, 2, 3, 4)).abs()
    assert sums[4:].max() < 1e-5 < sums[:4].min()


@pytest.mark.parametrize("extractor", [RandomConv3d(), LogMelStatistics()])
def test_a_clip_has_its_vector_whatever_comes_with_it(extractor: FeatureExtractor) -> None:
    clips = [Clip(frames=pattern(n), waveform=chirp(n / 25), sample_rate=RATE) for n in (4, 20, 33)]
    together = extract_all(extractor, clips)
    assert together.shape == (3, extractor.dim)
    assert together.dtype == np.float64
    for row, clip in zip(together, clips, strict=True):
        assert np.array_equal(extractor.extract(clip)[0], row)
    assert extract_all(extractor, []).shape == (0, extractor.dim)


@pytest.mark.parametrize("frames", [1, 2, 16, 60])
def test_clips_of_any_length_and_size_are_described(frames: int) -> None:
    extractor = RandomConv3d(seeds=(0, 1))
    vector = extractor.extract(Clip(frames=pattern(frames, 30, 20)))
    assert vector.shape == (1, 128)
    assert np.isfinite(vector).all()


def test_sixteen_frames_of_the_right_size_come_through_unchanged() -> None:
    frames = pattern(16, 64, 64)
    video = network_input(frames)[0].permute(1, 2, 3, 0).numpy()
    assert video == pytest.approx(frames / 127.5 - 1, abs=1e-5)


def test_resizing_does_not_alias() -> None:
    stripes = np.zeros((16, 256, 256, 3), np.uint8)
    stripes[:, :, ::2] = 255
    assert network_input(stripes)[..., 8:-8].abs().max() < 0.01


def test_motion_changes_the_vector_of_the_picture() -> None:
    moving, extractor = pattern(16), RandomConv3d()
    frozen, shuffled = np.repeat(moving[:1], 16, axis=0), moving[np.arange(16) * 5 % 16]
    vectors = extract_all(extractor, [Clip(frames=f) for f in (moving, frozen, shuffled)])
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01
    assert np.abs(vectors[0] - vectors[2]).max() > 0.01


def test_statistics_of_steady_and_changing_sound() -> None:
    s = np.arange(RATE)
    steady = (0.5 * np.sin(2 * np.pi * 1000 * s / RATE)).astype(np.float32)[None]
    extractor = LogMelStatistics()
    mean, deviation, change = extractor.extract(Clip(frames=None, waveform=steady))[0].reshape(
        3, -1
    )
    assert mean.max() == pytest.approx(-12, abs=2.5)
    assert mean.argmax() not in (0, 31)
    loud = mean > -60
    assert deviation[loud].max() < 0.1
    beeping = steady * (s // 800 % 2)
    _, deviation, change = extractor.extract(
        Clip(frames=None, waveform=beeping.astype(np.float32))
    )[0].reshape(3, -1)
    assert deviation[loud].min() > 5
    assert change[loud].min() > 2


def test_gain_moves_the_means_only() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (1, RATE)).astype(np.float32)
    extractor = LogMelStatistics()
    one, half = (extractor.extract(Clip(frames=None, waveform=w))[0] for w in (noise, noise / 2))
    assert (one - half)[:32] == pytest.approx(20 * np.log10(2), abs=1e-4)
    assert (one - half)[32:] == pytest.approx(0, abs=1e-4)


def test_sample_rate_of_the_clip_does_not_matter_much() -> None:
    extractor = LogMelStatistics()
    low = extractor.extract(Clip(frames=None, waveform=chirp(), sample_rate=RATE))[0]
    high = extractor.extract(Clip(frames=None, waveform=chirp(1.0, 48_000), sample_rate=48_000))[0]
    assert np.abs(low - high)[:10].max() < 1.0


def test_windows_give_one_vector_each() -> None:
    wave = np.concatenate([chirp(1.0), chirp(1.5)], axis=1)
    clip = Clip(frames=pattern(62), fps=Fraction(25), waveform=wave, sample_rate=RATE)
    sound = LogMelStatistics(window=1.0).extract(clip)
    assert sound.shape == (2, 96)
    whole = LogMelStatistics().extract(Clip(frames=None, waveform=chirp()))
    assert sound[0] == pytest.approx(whole[0])
    picture = RandomConv3d(window=1.0).extract(clip)
    assert picture.shape == (2, 320)
    first = RandomConv3d().extract(Clip(frames=clip.frames[:25]))  # pyright: ignore[reportOptionalSubscript]
    assert np.array_equal(picture[:1], first)
    assert len(LogMelStatistics(window=60.0).extract(clip)) == 1


def test_signatures_name_what_the_values_depend_on() -> None:
    made = [
        LogMelStatistics(),
        LogMelStatistics(num_bands=24),
        LogMelStatistics(8_000),
        LogMelStatistics(window=1.0),
        RandomConv3d(),
        RandomConv3d(seeds=(7,)),
        RandomConv3d(window=0.5),
    ]
    signatures = [extractor.signature for extractor in made]
    assert len(set(signatures)) == len(made)
    assert signatures[4] == "rand3d-v1|seeds:0,1,2,3,4|input:16x64x64|window:clip"
    assert RandomConv3d().groups == 5
    assert not any(word in text.lower() for text in signatures for word in ("fvd", "fad"))


def test_missing_streams_and_wrong_options_are_explained() -> None:
    sound, picture = Clip(frames=None, waveform=chirp()), Clip(frames=pattern(2))
    with pytest.raises(ValueError, match="no picture, which rand3d-v1"):
        RandomConv3d().extract(sound)
    with pytest.raises(ValueError, match="no sound, which logmel-stats-v1"):
        LogMelStatistics().extract(picture)
    with pytest.raises(ValueError, match="100 samples at 16000 Hz are too short"):
        LogMelStatistics().extract(Clip(frames=None, waveform=chirp()[:, :100]))
    with pytest.raises(ValueError, match="window is 0"):
        RandomConv3d(window=0)
    with pytest.raises(ValueError, match=r"seeds are \(1, 1\)"):
        RandomConv3d(seeds=(1, 1))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros(3), r"shape \(3,\)"),
        (np.zeros((2, 0)), r"shape \(2, 0\)"),
        ([[1.0, 2.0], [np.nan, 0.0]], "1 vectors hold NaN or infinite values, first row 1"),
    ],
)
def test_wrong_matrices_are_refused(bad: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        feature_matrix(bad)


def test_sets_must_fit_each_other() -> None:
    with pytest.raises(ValueError, match="features have 3 dimensions and the reference 2"):
        feature_pair(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="sets of 1 and 4 vectors; give at least 2"):
        feature_pair(np.zeros((1, 3)), torch.zeros(4, 3), least=2)
