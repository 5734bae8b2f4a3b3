"""Features that tell speech, music and other sounds apart, without a model.

Shapes: S samples, N frames of 10 ms, K bins.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from numpy import ndarray

from avgen_data_prep.stages.mel import HOP, RATE, bands, spectra

_SILENT_DB, _BELOW_LOUD_DB = -65.0, 35.0
_LONG, _LONG_HOP = 4096, 1024
_LINE_DB, _LINE_SIDE = 12.0, 12
_PITCH_WINDOW = 640
_PITCH_HERTZ = (70.0, 450.0)
_VOICED = 0.6
_SYLLABLES, _MODULATION = (2.5, 8.0), (0.4, 20.0)
_FLAT_DB = 1.0


@dataclass(frozen=True, kw_only=True)
class SoundFeatures:
    """What is measured of a sound.

    Attributes:
        active: Share of frames of 10 ms above -65 dB of full scale and within 35 dB of the loudest
            twentieth.
        voiced: Share of active frames that repeat with a pitch of 70 to 450 Hz (normalised
            autocorrelation above 0.6): high in speech and in low notes.
        glide: Median change of the pitch from one voiced frame to the next, cents: speech glides,
            notes do not.
        syllables: Share of the modulation of the level between 0.4 and 20 Hz that lies at 2.5 to 8
            Hz, where syllables are (Scheirer and Slaney 1997); 0 below a second, and near 0 where
            the level deviates by less than a decibel.
        lines: Share of the energy in spectral lines that stay where they are for 0.2 s: high in
            music and machines.
        notes: Share of such lines that are new after 0.25 s: 0 for a steady tone.
        abrupt: Share of the rises of the level (6 dB and more) that take no longer than 20 ms:
            impacts.
    """

    active: float
    voiced: float
    glide: float
    syllables: float
    lines: float
    notes: float
    abrupt: float


def features(wave: Float32[ndarray, "s"]) -> SoundFeatures | None:
    """Features of a mono sound at 16 kHz; None where it is silent throughout."""
    power = spectra(wave) @ bands(24)
    level = 10 * np.log10(power.sum(axis=1) / power.shape[1] + 1e-12) + _calibration()
    active = level > max(_SILENT_DB, float(np.percentile(level, 95)) - _BELOW_LOUD_DB)
    if not active.any():
        return None
    strength, pitch = _pitch(wave, len(level))
    voiced = active & (strength > _VOICED)
    lines, notes = _lines(wave)
    return SoundFeatures(
        active=float(active.mean()),
        voiced=float(voiced.sum() / active.sum()),
        glide=_glide(pitch, voiced),
        syllables=_syllables(level),
        lines=lines,
        notes=notes,
        abrupt=_abrupt(level),
    )


def _calibration() -> float:
    """Decibels that bring white noise of full scale to about 0."""
    return float(-10 * np.log10(np.square(np.hanning(400)).sum()))


def _pitch(wave: Float32[ndarray, "s"], count: int) -> tuple[ndarray, ndarray]:
    """Strength of the best repetition, and its frequency, of windows of 40 ms ``(N,)``."""
    padded = np.pad(wave, (0, _PITCH_WINDOW + HOP))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _PITCH_WINDOW)[: count * HOP : HOP]
    shortest, longest = (round(RATE / hertz) for hertz in _PITCH_HERTZ[::-1])
    taper = np.hanning(_PITCH_WINDOW)
    shape = _autocorrelation(taper[None])[0]
    freed = windows - windows.mean(axis=1, keepdims=True)
    correlation = _autocorrelation(freed * taper)
    correlation = correlation / (correlation[:, :1] + 1e-9) / (shape / shape[0] + 1e-9)
    inside = correlation[:, shortest : longest + 1]
    best = inside.max(axis=1)
    # The shortest repetition that is nearly as good is the pitch; the others are its multiples.
    peak = np.pad(inside, ((0, 0), (1, 1)), constant_values=-1)
    local = (inside >= peak[:, :-2]) & (inside >= peak[:, 2:]) & (inside >= 0.9 * best[:, None])
    lag = local.argmax(axis=1)
    return best, RATE / (shortest + lag + _between(inside, lag))


def _autocorrelation(windows: ndarray) -> ndarray:
    size = 2 * _PITCH_WINDOW
    spectrum = np.square(np.abs(np.fft.rfft(windows, size, axis=1)))
    return np.fft.irfft(spectrum, axis=1)[:, :_PITCH_WINDOW]


def _between(curve: Float[ndarray, "n k"], index: ndarray) -> ndarray:
    """Offset of the peak of a parabola through the three values around an index, ``(N,)``."""
    inner = index.clip(1, curve.shape[1] - 2)
    left, middle, right = (curve[np.arange(len(curve)), inner + o] for o in (-1, 0, 1))
    bend = left - 2 * middle + right
    offset = np.where(bend < -1e-9, (left - right) / (2 * np.minimum(bend, -1e-9)), 0)
    return np.where(inner == index, offset.clip(-0.5, 0.5), 0)


def _glide(pitch: Float[ndarray, "n"], voiced: Bool[ndarray, "n"]) -> float:
    both = voiced[1:] & voiced[:-1]
    cents = np.abs(1200 * np.diff(np.log2(pitch)))[both]
    cents = cents[cents < 200]
    return float(np.median(cents)) if cents.size else 0.0


def _syllables(level: Float[ndarray, "n"]) -> float:
    if len(level) < 100:
        return 0.0
    floor = float(np.percentile(level, 95)) - _BELOW_LOUD_DB
    curve = np.maximum(level, floor)
    spectrum = np.square(np.abs(np.fft.rfft((curve - curve.mean()) * np.hanning(len(curve)))))
    hertz = np.fft.rfftfreq(len(curve), HOP / RATE)
    inside, around = (
        spectrum[(hertz >= low) & (hertz < high)].sum() for low, high in (_SYLLABLES, _MODULATION)
    )
    return float(inside / (around + _FLAT_DB**2 * len(curve) ** 2 * 3 / 16))


def _lines(wave: Float32[ndarray, "s"]) -> tuple[float, float]:
    """Share of the energy in lasting spectral lines, and of lines that are new after 0.25 s."""
    padded = np.pad(wave, (0, max(0, _LONG - len(wave))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _LONG)[::_LONG_HOP]
    power = np.square(np.abs(np.fft.rfft(windows * np.hanning(_LONG), axis=1)))
    width = 2 * _LINE_SIDE + 1
    sides = np.pad(power, ((0, 0), (_LINE_SIDE, _LINE_SIDE)), mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(sides, width, axis=1), axis=-1)
    strong = power > 10 ** (_LINE_DB / 10) * around
    strong &= power > 1e-4 * power.max()
    if len(strong) < 5:
        return 0.0, 0.0
    lasting = strong[3:] & strong[:-3]
    share = float((power[3:] * lasting).sum() / (power[3:].sum() + 1e-12))
    later = strong[4:] & ~_widened(strong[:-4])
    notes = float((power[4:] * later).sum() / ((power[4:] * strong[4:]).sum() + 1e-12))
    return share, notes


def _widened(mask: Bool[ndarray, "n k"]) -> Bool[ndarray, "n k"]:
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    return wide


def _abrupt(level: Float[ndarray, "n"]) -> float:
    """Share of rises that are quick."""
    floor = float(np.percentile(level, 95)) - _BELOW_LOUD_DB
    curve = np.maximum(level, floor)
    if len(curve) < 12:
        return 0.0
    slow = curve[10:] - curve[:-10]
    risen = [
        i
        for i in range(1, len(slow) - 1)
        if slow[i] >= 6 and slow[i] == slow[max(0, i - 5) : i + 6].max()
    ]
    quick = [np.diff(curve[i : i + 11]).clip(0) for i in risen]
    shares = [(q[:-2] + q[1:-1] + q[2:]).max() / max(q.sum(), 1e-9) for q in quick]
    return float(np.mean([share > 0.9 for share in shares])) if shares else 0.0
