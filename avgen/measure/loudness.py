"""Loudness as broadcasters measure it: ITU-R BS.1770-4, EBU R128 and EBU Tech 3342."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import sosfilt

TICK = 0.1
BLOCK_TICKS, SHORT_TICKS = 4, 30
TICKS_AT_ONCE = 100
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU, RANGE_GATE_LU = 10.0, 20.0
CHANNEL_WEIGHTS: Mapping[int, tuple[float, ...]] = {
    1: (1.0,),
    2: (1.0, 1.0),
    3: (1.0, 1.0, 1.0),
    5: (1.0, 1.0, 1.0, 1.41, 1.41),
    6: (1.0, 1.0, 1.0, 0.0, 1.41, 1.41),
}


def check_waveform(waveform: np.ndarray) -> np.ndarray:
    """The waveform as an array ``(C, S)``.

    Raises:
        ValueError: It has another shape, no samples, or values that are not finite.
    """
    array = np.asarray(waveform)
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"waveform of shape {array.shape} must be (channels, samples) with at least one sample"
        )
    if not np.isfinite(array).all():
        raise ValueError("the waveform holds NaN or infinite values; decode the clip again")
    return array


def integrated_loudness(waveform: np.ndarray, sample_rate: int) -> float | None:
    """Loudness of the whole clip in LUFS (ITU-R BS.1770-4, EBU R128).

    ``-0.691 + 10 log10(sum_c G_c z_c)``, with z_c the mean square of the K-weighted channel over
    blocks of 400 ms (75% overlap) that are above -70 LUFS and above the loudness of those minus
    10 LU. G is 1, and 1.41 for the surrounds of five channels (left, right, centre, surrounds) or
    six (the fourth is the low-frequency channel, which does not count).

    ``torchaudio.functional.loudness`` is not used: its filters clamp to [-1, 1], which reads a
    stereo 1 kHz sine of full scale 0.25 LU too quiet, and it gives NaN for silence.

    Fails on: nothing known; one channel reads 3 LU below the same sound in two, as in the standard.

    Returns:
        None below 0.4 s, and where no block is above -70 LUFS.

    Raises:
        ValueError: A bad waveform, or a number of channels other than 1, 2, 3, 5 and 6.
    """
    power = _block_power(waveform, sample_rate, BLOCK_TICKS)
    gated = _gate(power, RELATIVE_GATE_LU)
    return float(_lufs(gated.mean())) if gated.size else None


def loudness_range(waveform: np.ndarray, sample_rate: int) -> float | None:
    """Loudness range in LU (EBU Tech 3342).

    Difference of the 95th and the 10th percentile of the short-term loudness (windows of 3 s, every
    100 ms) above -70 LUFS and above the mean of those minus 20 LU.

    Fails on: clips below about a minute, for which the standard calls it unsure.

    Returns:
        None below 3 s and in silence.

    Raises:
        ValueError: As `integrated_loudness`.
    """
    gated = _gate(_block_power(waveform, sample_rate, SHORT_TICKS), RANGE_GATE_LU)
    if not gated.size:
        return None
    low, high = np.percentile(_lufs(gated), [10, 95])
    return float(high - low)


@lru_cache
def k_weighting(sample_rate: int) -> np.ndarray:
    """K-weighting of BS.1770-4 as two second-order sections ``(2, 6)`` for any sample rate.

    The standard prints coefficients for 48 kHz only. Their analogue prototypes (a shelf of 4 dB at
    1682 Hz and a high-pass at 38 Hz; B. De Man, "Evaluation of implementations of the EBU R128
    loudness measurement", AES 145, 2018) are brought to other rates by the bilinear transform.
    """
    gain, q = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    terms = (gain, gain**0.4996667741545416 / q, 1.0)
    shelf = _second_order(terms, 1681.974450955533, q, sample_rate)
    high_pass = _high_pass(sample_rate)
    # The printed high-pass is not normalised: 0.04 dB that belong to the standard at every rate.
    high_pass[:3] /= _high_pass(48_000)[0]
    return np.stack([shelf, high_pass])


def _high_pass(sample_rate: int) -> np.ndarray:
    return _second_order((1.0, 0.0, 0.0), 38.13547087602444, 0.5003270373238773, sample_rate)


def _second_order(
    terms: tuple[float, float, float], frequency: float, q: float, sample_rate: int
) -> np.ndarray:
    """Section of ``(h s^2 + m s w + l w^2) / (s^2 + s w / q + w^2)``; ``terms`` are h, m and l."""
    high, middle, low = terms
    k = np.tan(np.pi * frequency / sample_rate)
    numerator = [high + middle * k + low * k * k, 2 * (low * k * k - high)]
    numerator.append(high - middle * k + low * k * k)
    denominator = [1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k]
    return np.array([*numerator, *denominator]) / denominator[0]


def _block_power(waveform: np.ndarray, sample_rate: int, ticks: int) -> np.ndarray:
    """Weighted power of the K-weighted channels in blocks of so many 100 ms, one every 100 ms."""
    samples = check_waveform(waveform)
    weights = CHANNEL_WEIGHTS.get(len(samples))
    if weights is None:
        raise ValueError(
            f"loudness is defined for {sorted(CHANNEL_WEIGHTS)} channels, not {len(samples)}: mix "
            "down first, or pass (channels, samples)"
        )
    power = _tick_power(samples, sample_rate, np.array(weights))
    return sliding_window_view(power, ticks).mean(axis=1) if len(power) >= ticks else power[:0]


def _tick_power(samples: np.ndarray, sample_rate: int, weights: np.ndarray) -> np.ndarray:
    """Weighted power of each 100 ms, filtered piece by piece so that memory stays flat."""
    ticks = int(samples.shape[1] / sample_rate / TICK + 1e-9)
    edges = np.round(np.arange(ticks + 1) * (TICK * sample_rate)).astype(int)
    sections = k_weighting(sample_rate)
    state = np.zeros((len(sections), len(samples), 2))
    power = np.empty(ticks)
    for first in range(0, ticks, TICKS_AT_ONCE):
        cuts = edges[first : first + TICKS_AT_ONCE + 1]
        piece = samples[:, cuts[0] : cuts[-1]].astype(np.float64)
        heard, state = sosfilt(sections, piece, axis=1, zi=state)
        sums = np.add.reduceat(weights @ heard**2, cuts[:-1] - cuts[0])
        power[first : first + len(sums)] = sums / np.diff(cuts)
    return power


def _lufs(power: np.ndarray) -> np.ndarray:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-30))


def _gate(power: np.ndarray, relative_lu: float) -> np.ndarray:
    """Blocks above the absolute gate and above the mean of those minus ``relative_lu``."""
    loud = power[_lufs(power) > ABSOLUTE_GATE_LUFS]
    return loud[_lufs(loud) > _lufs(loud.mean()) - relative_lu] if loud.size else loud
