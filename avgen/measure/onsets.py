"""When sounds begin: onset strength of a waveform and the times of its peaks, in seconds.

The strength at time t compares the spectrum of the window that begins at t with the one that ends
at t. Peaks of it find the sounds; the sharpest rise of energy near each peak says when, to about 2
ms for impacts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import maximum_filter1d
from scipy.signal import find_peaks

WINDOW = 0.020
HOP = 0.002
NUM_BANDS = 32
RANGE_DB = 50.0
SILENCE_DB = -60.0
MIN_RISE_DB = 3.0
MIN_SHARE = 0.12
REFRACTORY = 0.05
TOP_BANDS = 11
BLOCK = 4096
NOISE_FACTOR = 5.0
EDGE = 0.005
SEARCH = (0.006, 0.020)


@dataclass(frozen=True)
class Curve:
    """Values at evenly spaced times: ``values[i]`` belongs to ``start + i * step`` seconds."""

    values: np.ndarray
    step: float
    start: float = 0.0

    @property
    def times(self) -> np.ndarray:
        """Seconds of each value."""
        return self.start + self.step * np.arange(len(self.values))


def onset_strength(waveform: np.ndarray, sample_rate: int) -> Curve:
    """Rise of the spectrum in decibels, one value every 2 ms.

    ``strength(t) = mean of the largest third over mel bands of max(0, L_b[t, t + w] - max L_b[t - w
    - d, t])``, where ``L_b`` is the power of band b in decibels in a Hann window of w = 20 ms,
    clipped to the top 50 dB of the clip. The maximum over the recent past (d = 10 ms) keeps the
    beating of steady tones from counting as onsets. Before the clip begins, each band is taken to
    have had its median level: what sounds all the time has no onset at 0 s, a knock there has.

    Args:
        waveform: ``(C, S)`` or ``(S,)`` in [-1, 1]; channels are averaged.
        sample_rate: Samples per second.

    Returns:
        The strength, from 0 s to the end; zero in the last 20 ms, and throughout a clip whose level
        is below -60 dB of full scale.

    Raises:
        ValueError: The waveform has a wrong shape or values that are not finite.
    """
    mono = to_mono(waveform)
    hop, width = max(1, round(HOP * sample_rate)), max(8, round(WINDOW * sample_rate))
    steps = max(1, -(-len(mono) // hop))
    if not len(mono) or np.sqrt(np.mean(mono**2)) < 10 ** (SILENCE_DB / 20):
        return Curve(np.zeros(steps), hop / sample_rate)
    power = _windowed_power(mono, sample_rate, hop, width, steps)
    level = 10 * np.log10(power + 1e-12)
    level = np.maximum(level, level.max() - RANGE_DB)
    lag = round(width / hop)
    level[:lag] = np.median(level[lag:], axis=0)
    past = _recent_maximum(level, max(1, lag // 2))
    rise = np.maximum(0.0, level[lag:] - past[:-lag])
    strength = np.sort(rise, axis=1)[:, -TOP_BANDS:].mean(axis=1)
    # A window that runs past the end sees the sound cut off, which looks like a click.
    strength[max(0, (len(mono) - width) // hop + 1) :] = 0
    return Curve(strength, hop / sample_rate)


def find_onsets(waveform: np.ndarray, sample_rate: int) -> tuple[list[float], list[float]]:
    """Times in seconds at which sounds begin, in order, and the strength of each in decibels.

    Peaks of `onset_strength` that rise at least 3 dB, 12% of the clip's largest rise and 5 robust
    deviations above the median, at least 50 ms apart, each moved to the instant between 6 ms before
    and 20 ms after it at which the energy of the differenced waveform rises most from the 5 ms
    before to the 5 ms after.

    Fails on: slow attacks (over about 50 ms), notes of equal timbre tied without a dip, and sounds
    more than 40 dB below a louder one that still rings.
    """
    curve = onset_strength(waveform, sample_rate)
    height = max(
        MIN_RISE_DB, MIN_SHARE * float(curve.values.max()), noise_level(curve, NOISE_FACTOR)
    )
    padded = np.concatenate([[0.0], curve.values, [0.0]])
    peaks, _ = find_peaks(padded, height=height, distance=max(1, round(REFRACTORY / curve.step)))
    energy = _cumulative_energy(to_mono(waveform), sample_rate)
    times = [_sharpest_rise(energy, sample_rate, curve.step * float(peak - 1)) for peak in peaks]
    return times, padded[peaks].tolist()


def sound_onsets(waveform: np.ndarray, sample_rate: int) -> list[float]:
    """Times only; see `find_onsets`."""
    return find_onsets(waveform, sample_rate)[0]


def onset_train(times: Sequence[float], strengths: Sequence[float], duration: float) -> Curve:
    """Onsets as pulses on a 2 ms grid, shared between neighbours so that their times are kept."""
    values = np.zeros(max(2, round(duration / HOP) + 1))
    for time, strength in zip(times, strengths, strict=True):
        index, share = divmod(time / HOP, 1.0)
        for place, weight in ((int(index), 1 - share), (int(index) + 1, share)):
            if 0 <= place < len(values):
                values[place] += strength * weight
    return Curve(values, HOP)


def noise_level(curve: Curve, factor: float) -> float:
    """``median + factor * 1.4826 * MAD``: what the noise of a curve rarely exceeds."""
    median = float(np.median(curve.values))
    return median + factor * 1.4826 * float(np.median(np.abs(curve.values - median)))


def _cumulative_energy(mono: np.ndarray, sample_rate: int) -> np.ndarray:
    """Running energy of the differenced waveform, with silence before and after it."""
    pad = round(2 * EDGE * sample_rate)
    return np.concatenate([np.zeros(pad + 1), np.cumsum(np.diff(mono, prepend=mono[:1]) ** 2)])


def _sharpest_rise(energy: np.ndarray, sample_rate: int, time: float) -> float:
    """Seconds near ``time`` at which the energy rises most in proportion."""
    pad, side = round(2 * EDGE * sample_rate), round(EDGE * sample_rate)
    first = max(0, round((time - SEARCH[0]) * sample_rate))
    last = min(len(energy) - pad - 1 - side, round((time + SEARCH[1]) * sample_rate))
    if last <= first:
        return time
    centre = np.arange(first, last + 1) + pad
    before, after = energy[centre] - energy[centre - side], energy[centre + side] - energy[centre]
    floor = 1e-3 * max(float(after.max()), 1e-12)
    return (first + int(np.argmax((after + floor) / (before + floor)))) / sample_rate


def to_mono(waveform: np.ndarray) -> np.ndarray:
    """Mean of the channels, ``(S,)`` float64; ValueError if that is not possible."""
    array = np.asarray(waveform, dtype=np.float64)
    if array.ndim not in (1, 2):
        raise ValueError(
            f"waveform of shape {array.shape} must be (channels, samples) or (samples,)"
        )
    if not np.isfinite(array).all():
        raise ValueError("the waveform holds NaN or infinite values; decode the clip again")
    return array.mean(axis=0) if array.ndim == 2 else array


def _windowed_power(
    mono: np.ndarray, sample_rate: int, hop: int, width: int, steps: int
) -> np.ndarray:
    """Power per band of windows that begin at ``hop * i - width``; silence outside the clip."""
    lag = round(width / hop)
    padded = np.pad(mono, (lag * hop, hop * (steps + lag) + width - len(mono)))
    filters = mel_filters(sample_rate, fft_size(width, sample_rate // 30), NUM_BANDS)
    return band_power(padded, np.hanning(width), hop, filters)[: steps + lag]


def band_power(padded: np.ndarray, taper: np.ndarray, hop: int, filters: np.ndarray) -> np.ndarray:
    """Power in each band of each window, ``(windows, bands)``; a full-scale sine has about -6 dB.

    Args:
        padded: Samples ``(S,)``; windows begin at every multiple of ``hop`` and lie inside.
        taper: Window function.
        hop: Samples between windows.
        filters: ``(bands, bins)``; the bins decide the size of the Fourier transform.
    """
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(taper))[::hop]
    size = 2 * (filters.shape[1] - 1)
    power = np.empty((len(windows), len(filters)))
    for start in range(0, len(windows), BLOCK):
        block = np.fft.rfft(windows[start : start + BLOCK] * (taper / taper.sum()), size)
        power[start : start + BLOCK] = np.abs(block) ** 2 @ filters.T
    return power


def fft_size(*lengths: int) -> int:
    """The smallest power of two that none of the lengths exceeds."""
    return 1 << (max(lengths) - 1).bit_length()


@lru_cache(maxsize=8)
def mel_filters(sample_rate: int, size: int, num_bands: int) -> np.ndarray:
    """Triangular mel filters from 60 Hz up, ``(bands, size / 2 + 1)``."""
    from librosa.filters import mel

    return mel(sr=sample_rate, n_fft=size, n_mels=num_bands, fmin=60.0, norm=None).astype(
        np.float64
    )


def _recent_maximum(level: np.ndarray, steps: int) -> np.ndarray:
    """Maximum over each value and the ``steps`` before it."""
    return maximum_filter1d(level, steps + 1, axis=0, origin=steps // 2, mode="nearest")
