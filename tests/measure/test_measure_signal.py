import math
from collections.abc import Sequence

import numpy as np
import pyloudnorm
import pytest
import torch
from torchaudio.functional import loudness

from avgen.measure.loudness import integrated_loudness, k_weighting, loudness_range
from avgen.measure.signal import (
    bandwidth,
    clipping_share,
    crest_factor,
    dc_offset,
    silence_share,
    stereo_correlation,
    stereo_width,
    true_peak,
)

RATE = 48_000


def tone(
    parts: Sequence[tuple[float, float]], rate: int = RATE, channels: int = 2, hz: float = 1000
) -> np.ndarray:
    """A sine that steps through (dBFS of its peak, seconds)."""
    levels = [np.full(round(seconds * rate), 10 ** (db / 20)) for db, seconds in parts]
    level = np.concatenate(levels)
    wave = level * np.sin(2 * np.pi * hz * np.arange(len(level)) / rate)
    return np.tile(wave, (channels, 1)).astype(np.float32)


def noise(channels: int = 1, seconds: float = 2, seed: int = 0) -> np.ndarray:
    shape = (channels, round(seconds * RATE))
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("db", [-23.0, -33.0, 0.0])
def test_stereo_tone_has_its_level(rate: int, db: float) -> None:
    assert integrated_loudness(tone([(db, 2)], rate), rate) == pytest.approx(db, abs=0.1)


def test_k_weighting_is_the_one_of_the_standard() -> None:
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1]
    shelf += [-1.69065929318241, 0.73248077421585]
    high_pass = [1, -2, 1, 1, -1.99004745483398, 0.99007225036621]
    np.testing.assert_allclose(k_weighting(48_000), [shelf, high_pass], atol=1e-12)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(-36, 2), (-23, 12), (-36, 2)], -23),
        ([(-72, 2), (-36, 2), (-23, 12), (-36, 2), (-72, 2)], -23),
        ([(-26, 4), (-20, 4.02), (-26, 4)], -23),
    ],
)
def test_gates_of_ebu_tech_3341(parts: list[tuple[float, float]], expected: float) -> None:
    """The standard's cases 3 to 5 with shorter parts in the same proportions."""
    assert integrated_loudness(tone(parts), RATE) == pytest.approx(expected, abs=0.1)


def test_channels_weigh_as_in_the_standard() -> None:
    mono = tone([(-20, 1)], channels=1)
    levels = np.array([-28, -28, -24, -30, -30])
    surround = mono * 10 ** ((levels[:, None] + 20) / 20)
    assert integrated_loudness(surround, RATE) == pytest.approx(-23, abs=0.1)
    with_low = np.insert(surround, 3, 1.0, axis=0)
    assert integrated_loudness(with_low, RATE) == integrated_loudness(surround, RATE)
    assert integrated_loudness(mono, RATE) == pytest.approx(-23, abs=0.1)
    with pytest.raises(ValueError, match="not 4"):
        integrated_loudness(np.ones((4, RATE)), RATE)


def programme(name: str, rate: int, channels: int) -> np.ndarray:
    """Four seconds of a sound, ``(channels, samples)``."""
    clock = np.arange(4 * rate) / rate
    hiss = np.random.default_rng(0).normal(0, 0.1, (channels, len(clock)))
    if name == "noise":
        return hiss
    if name == "pink":
        bins = np.maximum(1, np.arange(len(clock) // 2 + 1))
        return np.fft.irfft(np.fft.rfft(hiss) / np.sqrt(bins / 100), axis=1)
    if name == "gated":
        return hiss * np.where(clock % 2 < 1, 3, 0.03)
    if name == "knocks":
        since = [(clock - start, hz) for start, hz in ((0.3, 150), (1.7, 900), (3.1, 2400))]
        rings = [
            np.exp(-s.clip(0) / 0.05) * np.sin(2 * np.pi * hz * s) * (s >= 0) for s, hz in since
        ]
        return np.tile(0.5 * np.sum(rings, axis=0), (channels, 1))
    tones = 0.3 * np.sin(2 * np.pi * np.array([[440], [5000]]) * clock)
    return tones[:channels] * np.array([[1.0], [0.1]])[:channels]


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", ["noise", "pink", "gated", "knocks", "panned"])
def test_loudness_is_that_of_pyloudnorm(name: str, channels: int, rate: int) -> None:
    sound = programme(name, rate, channels)
    value = integrated_loudness(sound, rate)
    for filters in ("K-weighting", "DeMan"):
        meter = pyloudnorm.Meter(rate, filter_class=filters)
        assert value == pytest.approx(meter.integrated_loudness(sound.T), abs=0.1)
    if rate == 48_000:  # those of De Man are the standard's there
        assert value == pytest.approx(meter.integrated_loudness(sound.T), abs=0.001)


def test_where_pyloudnorm_differs_the_standard_decides() -> None:
    # EBU Tech 3341, case 1: a stereo sine of 1 kHz at -23 dBFS has -23 LUFS.
    sound = tone([(-23, 4)])
    ours, theirs = (
        integrated_loudness(sound, RATE),
        pyloudnorm.Meter(RATE).integrated_loudness(sound.T.astype(np.float64)),
    )
    assert ours == pytest.approx(-23, abs=0.01)
    assert 0.03 < -23 - theirs < 0.06


def test_loudness_equals_torchaudio_where_it_does_not_clamp() -> None:
    sound = noise(2, 3) * np.linspace(0.01, 1, 3 * RATE)
    assert integrated_loudness(sound, RATE) == pytest.approx(
        float(loudness(torch.tensor(sound), RATE)), abs=0.1
    )


def test_what_cannot_be_gated_is_none() -> None:
    assert integrated_loudness(tone([(-20, 0.399)]), RATE) is None
    assert integrated_loudness(tone([(-20, 0.4)]), RATE) is not None
    assert integrated_loudness(np.zeros((2, RATE)), RATE) is None
    assert integrated_loudness(tone([(-75, 1)]), RATE) is None


@pytest.mark.parametrize(
    ("levels", "expected"), [([-20, -30], 10), ([-20, -15], 5), ([-50, -35, -20, -35, -50], 15)]
)
def test_loudness_range_of_ebu_tech_3342(levels: list[float], expected: float) -> None:
    sound = tone([(db, 20) for db in levels], rate=8000)
    assert loudness_range(sound, 8000) == pytest.approx(expected, abs=1)
    assert loudness_range(sound[:, : 8000 * 2], 8000) is None


def test_long_sound_is_filtered_as_one() -> None:
    sound = noise(1, 25)
    whole, part = integrated_loudness(sound, RATE), integrated_loudness(sound[:, : 8 * RATE], RATE)
    assert whole == pytest.approx(part, abs=0.03)


def test_true_peak_lies_between_the_samples() -> None:
    clock = np.arange(2 * RATE)
    fade = np.minimum(1, np.minimum(clock, clock[::-1]) / 2000)
    sound = (0.5 * fade * np.sin(np.pi / 2 * clock + np.pi / 4))[None]
    assert np.abs(sound).max() < 0.354
    assert true_peak(sound) == pytest.approx(20 * math.log10(0.5), abs=0.1)
    assert true_peak(np.zeros((1, 9))) is None
    assert true_peak(np.array([[0.0, 1.0, 0.0]])) == pytest.approx(0, abs=0.01)


def test_clipping_is_a_flat_top() -> None:
    sound = tone([(0, 1)], hz=100)
    assert clipping_share(sound) == 0
    share = 1 - 2 / np.pi * np.arcsin(1 / 2)
    assert clipping_share(np.clip(2 * sound, -1, 1)) == pytest.approx(share, abs=0.006)
    assert clipping_share(np.ones((1, 2))) == 0


def test_silence_is_counted_in_windows() -> None:
    sound = tone([(-20, 0.5), (-61, 0.25), (-20, 0.25)])
    assert silence_share(sound, RATE) == 0.25
    assert silence_share(np.zeros((1, 10)), RATE) == 1
    assert silence_share(np.ones((1, 10)), RATE) == 0


def test_bandwidth() -> None:
    assert bandwidth(noise(), RATE) == pytest.approx(0.95 * RATE / 2, rel=0.01)
    assert bandwidth(tone([(-20, 1)]), RATE) == pytest.approx(1000, abs=24)
    assert bandwidth(tone([(-20, 1)]) + 0.5, RATE) == pytest.approx(1000, abs=24)
    assert bandwidth(noise(), RATE, share=0.5) == pytest.approx(RATE / 4, rel=0.01)
    assert bandwidth(np.full((1, RATE), 0.3), RATE) is None
    assert bandwidth(np.zeros((1, 1)), RATE) is None


def test_bandwidth_counts_each_moment_by_its_energy() -> None:
    loud, quiet = tone([(-10, 1)], hz=500), tone([(-40, 9)], hz=15_000)
    assert bandwidth(np.concatenate([loud, quiet], axis=1), RATE) == pytest.approx(500, abs=24)


def test_crest_and_offset() -> None:
    assert crest_factor(tone([(-7, 1)])) == pytest.approx(20 * math.log10(math.sqrt(2)), abs=1e-3)
    assert crest_factor(np.zeros((1, 8))) is None
    assert dc_offset(np.array([[0.1, 0.1], [-0.3, -0.1]])) == pytest.approx(0.2)


def test_stereo_image() -> None:
    left, right = noise(2)
    same, against = np.stack([left, left]), np.stack([left, -left])
    assert stereo_correlation(same) == pytest.approx(1)
    assert stereo_correlation(against) == pytest.approx(-1)
    assert stereo_correlation(np.stack([left, right])) == pytest.approx(0, abs=0.02)
    assert stereo_correlation(np.stack([left + 0.5, right + 0.5])) == pytest.approx(0, abs=0.02)
    assert stereo_width(same) == pytest.approx(0)
    assert stereo_width(against) == pytest.approx(1)
    assert stereo_width(np.stack([left, right])) == pytest.approx(0.5, abs=0.01)


def test_stereo_image_needs_two_channels() -> None:
    mono, half = noise(1), np.concatenate([noise(1), np.zeros((1, 2 * RATE))])
    assert (stereo_correlation(mono), stereo_width(mono)) == (None, None)
    assert (stereo_correlation(half), stereo_width(half)) == (None, pytest.approx(0.5))
    assert stereo_width(np.zeros((2, 9))) is None


@pytest.mark.parametrize("shape", [(0,), (100,), (1, 0), (1, 2, 3)])
def test_waveforms_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    for function in (true_peak, clipping_share, crest_factor, dc_offset, stereo_width):
        with pytest.raises(ValueError, match="must be \\(channels, samples\\)"):
            function(np.zeros(shape))


def test_damaged_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        integrated_loudness(np.array([[0.0, np.nan]]), RATE)
