"""Energy in bands of a sound over time, for measures that need no more.

Shapes: C channels, S samples, N frames, M bands.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray

from avgen.media import resample

RATE = 16_000
HOP, WINDOW = 160, 400
_SPECTRUM = 512


def mono(waveform: Float32[ndarray, "c s"], sample_rate: int) -> Float32[ndarray, "n"]:
    """The mean of the channels at 16 kHz."""
    mean = waveform.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
    return resample(mean, sample_rate, RATE)[0]


def spectra(wave: Float32[ndarray, "s"]) -> Float[ndarray, "n k"]:
    """Power spectra of Hann windows of 25 ms every 10 ms; window ``n`` starts at ``n * 0.01`` s.

    A wave shorter than a window is one window.
    """
    padded = np.pad(wave, (0, max(0, WINDOW - len(wave))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    tapered = windows * np.hanning(WINDOW).astype(np.float32)
    return np.square(np.abs(np.fft.rfft(tapered, _SPECTRUM, axis=1)))


@lru_cache
def bands(count: int, low: float = 60.0, high: float = 7600.0) -> Float[ndarray, "k m"]:
    """Triangular filters, evenly spaced on the mel scale, each with a sum of one."""
    edges = 700 * (10 ** (np.linspace(_mel(low), _mel(high), count + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(_SPECTRUM, 1 / RATE)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling))
    sums = filters.sum(axis=0)
    nearest = np.abs(bins - edges[1:-1]).argmin(axis=0)
    filters[nearest[sums == 0], np.flatnonzero(sums == 0)] = 1
    return filters / filters.sum(axis=0)


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))
