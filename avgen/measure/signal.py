"""Level, dynamics and stereo image of a waveform: what can be said of a sound without a reference."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import resample_poly

from avgen.clock import count
from avgen.measure.loudness import check_waveform

OVERSAMPLING, MARGIN, PEAK_CHUNK = 4, 64, 1 << 16
FULL_SCALE, CLIPPED_RUN = 1 - 1 / 32768, 3
SILENCE_WINDOW, SILENCE_DBFS = 0.050, -60.0
SPECTRUM_SIZE, SPECTRA_AT_ONCE = 4096, 64


def true_peak(waveform: np.ndarray) -> float | None:
    """Largest absolute value of the waveform oversampled four times, dBTP (BS.1770-4 annex 2).

    Never below the largest sample. May read up to about 0.6 dB too low for a tone near half of the
    sample rate, as the standard allows.

    Returns:
        None in digital silence.

    Raises:
        ValueError: A bad waveform.
    """
    samples = check_waveform(waveform)
    peak, end = float(np.abs(samples).max()), samples.shape[1]
    for start in range(0, end, PEAK_CHUNK):
        left = min(start, MARGIN)
        piece = samples[:, start - left : start + PEAK_CHUNK + MARGIN]
        dense = np.asarray(resample_poly(piece, OVERSAMPLING, 1, axis=1))
        inside = dense[:, OVERSAMPLING * left : OVERSAMPLING * (left + PEAK_CHUNK)]
        peak = max(peak, float(np.abs(inside).max()))
    return _decibels(peak)


def clipping_share(waveform: np.ndarray) -> float:
    """Share of samples in runs of at least three at full scale, where a channel is cut off.

    Full scale is the largest value of 16 bits.

    Fails on: clipping before a lossy codec or a change of gain (not flat at full scale any more),
    and tones of full scale below about 40 Hz, whose tops are flat.

    Raises:
        ValueError: A bad waveform.
    """
    full = np.abs(check_waveform(waveform)) >= FULL_SCALE
    clipped = 0
    for channel in full:
        edges = np.flatnonzero(np.diff(np.pad(channel.astype(np.int8), 1)))
        runs = edges[1::2] - edges[::2]
        clipped += int(runs[runs >= CLIPPED_RUN].sum())
    return clipped / full.size


def silence_share(waveform: np.ndarray, sample_rate: int) -> float:
    """Share of windows of 50 ms whose level is below -60 dBFS (RMS over all channels; 1.0 is 0 dB).

    A rest shorter than a window at the end does not count; a clip shorter than one is one window.

    Raises:
        ValueError: A bad waveform.
    """
    samples = check_waveform(waveform)
    channels, total = samples.shape
    size = min(total, count(SILENCE_WINDOW, sample_rate))
    windows = samples[:, : total // size * size].reshape(channels, -1, size)
    power = np.einsum("cnw,cnw->n", windows, windows) / (channels * size)
    return float((power < 10 ** (SILENCE_DBFS / 10)).mean())


def bandwidth(waveform: np.ndarray, sample_rate: int, share: float = 0.95) -> float | None:
    """Frequency in Hz below which ``share`` of the clip's energy lies.

    The power spectra of Hann windows of 4096 samples (half overlapping, freed of their mean) are
    summed over time and channels before the share is taken, so that each moment counts by its
    energy. The frequency is interpolated within a bin.

    Fails on: clips of few events (the loudest decides), and tells nothing of the quality of what is
    above: it is a description, which shows an old sample rate or a low-pass filter.

    Returns:
        None where there is no energy but a constant.

    Raises:
        ValueError: A bad waveform, or a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"share {share} must lie between 0 and 1")
    samples = check_waveform(waveform)
    power = _mean_spectrum(samples, min(SPECTRUM_SIZE, samples.shape[1]))
    energy = np.concatenate([[0.0], np.cumsum(power)])
    if energy[-1] <= 1e-20:
        return None
    edges = (np.arange(len(energy)) - 0.5).clip(0) / max(1, len(power) - 1)
    return float(np.interp(share * energy[-1], energy, edges.clip(max=1)) * sample_rate / 2)


def crest_factor(waveform: np.ndarray) -> float | None:
    """Peak over RMS of all channels, decibels: 3.01 for a sine; None in digital silence.

    Raises:
        ValueError: A bad waveform.
    """
    samples = check_waveform(waveform)
    peak, power = float(np.abs(samples).max()), float(np.mean(samples.astype(np.float64) ** 2))
    return _decibels(peak / power**0.5) if power > 0 else None


def dc_offset(waveform: np.ndarray) -> float:
    """Largest absolute mean of a channel, in shares of full scale; ValueError for a bad waveform."""
    return float(np.abs(check_waveform(waveform).mean(axis=1, dtype=np.float64)).max())


def stereo_correlation(waveform: np.ndarray) -> float | None:
    """Correlation of left and right: 1 for mono in two channels, 0 unrelated, -1 in antiphase.

    Returns:
        None unless there are two channels that both vary.

    Raises:
        ValueError: A bad waveform.
    """
    left, right, both = _stereo_moments(waveform)
    return float(np.clip(both / (left * right) ** 0.5, -1, 1)) if left * right > 0 else None


def stereo_width(waveform: np.ndarray) -> float | None:
    """Share of the energy in the side signal: ``|L - R|^2 / (|L - R|^2 + |L + R|^2)``.

    0 for mono in two channels, 0.5 for unrelated channels of any level, 1 in antiphase.

    Returns:
        None unless there are two channels of which one varies.

    Raises:
        ValueError: A bad waveform.
    """
    left, right, both = _stereo_moments(waveform)
    total = left + right
    return float((total - 2 * both) / (2 * total)) if total > 0 else None


def _mean_spectrum(samples: np.ndarray, size: int) -> np.ndarray:
    """Sum of the power spectra of all windows, ``(size // 2 + 1,)``."""
    windows = sliding_window_view(samples, size, axis=1)[:, :: max(1, size // 2)]
    taper = np.hanning(size + 2)[1:-1]
    power = np.zeros(size // 2 + 1)
    for first in range(0, windows.shape[1], SPECTRA_AT_ONCE):
        piece = windows[:, first : first + SPECTRA_AT_ONCE].astype(np.float64)
        spectra = np.fft.rfft((piece - piece.mean(axis=-1, keepdims=True)) * taper)
        power += (np.abs(spectra) ** 2).sum(axis=(0, 1))
    return power


def _stereo_moments(waveform: np.ndarray) -> tuple[float, float, float]:
    """Energies of left and right freed of their means, and their product; zeros unless stereo."""
    samples = check_waveform(waveform)
    if len(samples) != 2:
        return 0.0, 0.0, 0.0
    left, right = samples.astype(np.float64)
    left, right = left - left.mean(), right - right.mean()
    return float(left @ left), float(right @ right), float(left @ right)


def _decibels(amplitude: float) -> float | None:
    return 20 * float(np.log10(amplitude)) if amplitude > 0 else None
