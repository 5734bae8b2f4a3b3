"""Known-answer listening: when did something start to sound, at which pitch, and like what.

Made for clips with few, distinct sounds over silence, clean or as models generate them. Shapes:
S audio samples, N analysis steps, K frequency bands.
"""

import numpy as np
from scipy.ndimage import maximum_filter1d

HOP = 0.0025
WINDOW = 0.016
LOWEST, HIGHEST = 50.0, 7_600.0
NUM_BANDS = 14
FLOOR_DB = -42.0
SILENCE = 1e-3
RISE_DB = 4.5
QUIETEST_DB = -26.0
REFINE = 0.02
STEP = 0.006


def band_edges(sample_rate: int, num_bands: int = NUM_BANDS) -> np.ndarray:
    """Edges in Hz of bands that are equally wide in logarithm above 200 Hz, ``(K + 1,)``."""
    low, high = np.log(LOWEST + 200.0), np.log(min(HIGHEST, 0.48 * sample_rate) + 200.0)
    return np.exp(np.linspace(low, high, num_bands + 1)) - 200.0


def band_energies(
    waveform: np.ndarray, sample_rate: int, hop: float = HOP, window: float = WINDOW
) -> np.ndarray:
    """Energy in each band around each multiple of ``hop`` seconds, ``(N, K)``.

    Windows that would pass an end are moved inside, so that ends do not sound like clicks.
    """
    length = max(8, round(window * sample_rate))
    times = np.arange(0.0, len(waveform) / sample_rate, hop)
    waveform = np.pad(waveform, (0, max(0, length - len(waveform))))
    starts = np.rint(times * sample_rate).astype(int) - length // 2
    starts = np.clip(starts, 0, len(waveform) - length)
    pieces = np.lib.stride_tricks.sliding_window_view(waveform, length)[starts]
    size = 2 ** int(np.ceil(np.log2(4 * length)))
    spectrum = np.abs(np.fft.rfft(pieces * np.hanning(length), size)) ** 2
    bins = np.searchsorted(np.fft.rfftfreq(size, 1 / sample_rate), band_edges(sample_rate))
    sums = np.concatenate([np.zeros((len(times), 1)), np.cumsum(spectrum, axis=1)], axis=1)
    return np.diff(sums[:, bins], axis=1) / (np.square(np.hanning(length)).sum() * size)


def novelty(energies: np.ndarray, lag: int) -> np.ndarray:
    """Rise in decibels over ``2 * lag`` steps, mean of bands weighted by level: ``(N,)``."""
    loudest = max(float(energies.sum(axis=1).max()), SILENCE**2)
    level = 10.0 * np.log10(energies + loudest * 10.0 ** (FLOOR_DB / 10.0) / energies.shape[1])
    after = np.concatenate([level[lag:], np.repeat(level[-1:], lag, axis=0)])
    before = np.concatenate([np.repeat(level[:1], lag, axis=0), level[:-lag]])
    weight = 10.0 ** (after / 20.0)
    rise = np.maximum(after - before, 0.0)
    return (weight * rise).sum(axis=1) / weight.sum(axis=1)


def onsets(waveform: np.ndarray, sample_rate: int, min_gap: float = 0.07) -> list[float]:
    """Seconds at which sounds start in a mono waveform ``(S,)``, to about 5 ms.

    A start is a peak of the loudness-weighted rise of band energies that is loud enough next to the
    loudest moment; its time is where the short-time level steps up most.
    """
    energies = band_energies(waveform, sample_rate)
    total = energies.sum(axis=1)
    if total.max() < SILENCE**2:
        return []
    lag = 4
    rise = novelty(energies, lag)
    loud = 10.0 * np.log10(maximum_filter1d(total, 2 * lag + 1, origin=-lag) / total.max() + 1e-12)
    peak = rise == maximum_filter1d(rise, 2 * round(0.5 * min_gap / HOP) + 1)
    found = np.flatnonzero(peak & (rise > RISE_DB) & (loud > QUIETEST_DB))
    times = [refine(waveform, sample_rate, step * HOP) for step in found]
    return thin(times, [float(rise[step]) for step in found], min_gap)


def refine(waveform: np.ndarray, sample_rate: int, near: float) -> float:
    """The second within `REFINE` of ``near`` where the level of 6 ms steps up most."""
    step = max(2, round(STEP * sample_rate))
    reach = round(REFINE * sample_rate)
    centre = round(near * sample_rate)
    first = max(0, centre - reach)
    last = max(first + 1, min(len(waveform), centre + reach))
    padded = np.pad(waveform[max(0, first - step) : last + step], (max(0, step - first), step))
    power = np.concatenate([[0.0], np.cumsum(np.square(padded, dtype=np.float64))])
    level = np.sqrt(np.maximum(power[step:] - power[:-step], 0.0))
    rise = level[step : step + last - first] - level[: last - first]
    return (first + int(np.argmax(rise))) / sample_rate


def thin(times: list[float], strengths: list[float], min_gap: float) -> list[float]:
    """Times in order, of those closer than ``min_gap`` only the strongest."""
    kept: list[float] = []
    for _, time in sorted(zip(strengths, times, strict=True), reverse=True):
        if all(abs(time - other) >= min_gap for other in kept):
            kept.append(time)
    return sorted(kept)


def fingerprint(waveform: np.ndarray, sample_rate: int, start: float, length: float) -> np.ndarray:
    """What ``length`` seconds from ``start`` on sound like: band levels over time, unit norm."""
    first = max(0, round(start * sample_rate))
    piece = waveform[first : first + round(length * sample_rate)]
    piece = np.pad(piece, (0, max(0, round(length * sample_rate) - len(piece))))
    features = band_energies(piece, sample_rate, hop=0.01, window=0.02) ** 0.25
    return (features / max(float(np.linalg.norm(features)), 1e-9)).ravel()


def nearest(print_: np.ndarray, candidates: dict[str, np.ndarray]) -> str:
    """The name of the candidate fingerprint most like ``print_``."""
    return max(candidates, key=lambda name: float(candidates[name] @ print_))


def envelope(waveform: np.ndarray, sample_rate: int, times: np.ndarray, width: float) -> np.ndarray:
    """Root mean square of ``width`` seconds centred on each time, ``(N,)``."""
    power = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    first = np.clip(np.rint((times - width / 2) * sample_rate).astype(int), 0, len(waveform))
    last = np.clip(np.rint((times + width / 2) * sample_rate).astype(int), 0, len(waveform))
    return np.sqrt((power[last] - power[first]) / np.maximum(last - first, 1))


def pitch(
    waveform: np.ndarray, sample_rate: int, times: np.ndarray, low: float, high: float
) -> np.ndarray:
    """Fundamental in Hz around each time by autocorrelation, NaN where unvoiced: ``(N,)``."""
    length = round(4.0 / low * sample_rate)
    padded = np.pad(waveform.astype(np.float64), (length, length))
    lags = np.arange(int(sample_rate / high), int(np.ceil(sample_rate / low)) + 1)
    result = np.full(len(times), np.nan)
    for index, time in enumerate(times):
        first = round(time * sample_rate) + length // 2
        piece = padded[first : first + length]
        result[index] = piece_pitch(piece, lags, sample_rate)
    return result


def piece_pitch(piece: np.ndarray, lags: np.ndarray, sample_rate: int) -> float:
    """Fundamental of one piece: the shortest lag almost as self-similar as the best, refined."""
    size = 2 ** int(np.ceil(np.log2(2 * len(piece))))
    power = np.abs(np.fft.rfft(piece, size)) ** 2
    correlation = np.fft.irfft(power)[: lags[-1] + 2]
    squares = np.concatenate([[0.0], np.cumsum(piece**2)])
    shifts = np.arange(len(correlation))
    head, tail = squares[len(piece) - shifts], squares[-1] - squares[shifts]
    similarity = correlation / np.sqrt(np.maximum(head * tail, 1e-12))
    inner = similarity[lags]
    if squares[-1] / len(piece) < SILENCE**2 or inner.max() < 0.5:
        return np.nan
    peaks = (inner >= similarity[lags - 1]) & (inner >= similarity[lags + 1])
    good = lags[peaks & (inner > 0.9 * inner.max())]
    best = int(good[0]) if len(good) else int(lags[np.argmax(inner)])
    left, middle, right = similarity[best - 1 : best + 2]
    bend = left - 2.0 * middle + right
    offset = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return sample_rate / (best + offset)
