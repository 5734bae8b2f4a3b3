"""What a codec keeps: PSNR of pictures, log-mel distance and onset shift of sounds."""

from dataclasses import dataclass

import numpy as np

from avgen.measure.onsets import band_power, fft_size, mel_filters, sound_onsets, to_mono
from avgen_eval.events import score_events, timing_error

PEAK = 255.0
MAX_PSNR_DB = 100.0
NUM_MELS = 64
RANGE_DB = 80.0
ONSET_WINDOW_MS = 60.0


@dataclass(frozen=True, kw_only=True)
class AudioFidelity:
    """A decoded sound against its original.

    Attributes:
        log_mel_db: Mean absolute difference of the mel spectra, decibels.
        onset_f1: F1 of the decoded onsets against the original ones at 60 ms; None if neither has
            any.
        onset_shift_ms: Median signed shift of the matched onsets, positive = late; None without a
            match.
        onset_error_p90_ms: 90th percentile of the absolute shift; None without a match.
        num_onsets: Onsets of the original.
    """

    log_mel_db: float
    onset_f1: float | None
    onset_shift_ms: float | None
    onset_error_p90_ms: float | None
    num_onsets: int


def psnr(original: np.ndarray, decoded: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels: ``10 log10(255^2 / mean squared error)``.

    Args:
        original: uint8 frames ``(F, H, W, 3)``, or any uint8 array.
        decoded: The same shape, uint8.

    Returns:
        At most 100 dB, which stands for equal pictures.

    Raises:
        ValueError: Shapes or types differ from that.
    """
    if original.shape != decoded.shape or original.dtype != np.uint8 or decoded.dtype != np.uint8:
        raise ValueError(
            f"PSNR needs two uint8 arrays of one shape, not {original.dtype} {original.shape} and "
            f"{decoded.dtype} {decoded.shape}; clamp, round and crop first"
        )
    error = float(np.mean((original.astype(np.float32) - decoded.astype(np.float32)) ** 2))
    return min(MAX_PSNR_DB, 10 * float(np.log10(PEAK**2 / max(error, 1e-12))))


def added_flicker(original: np.ndarray, decoded: np.ndarray) -> float:
    """Change from frame to frame that the original does not have: mean absolute value, grey levels of 255.

    Args:
        original: uint8 frames ``(F, H, W, 3)``, at least two.
        decoded: The same shape.
    """
    change, made = (np.diff(x.astype(np.float32), axis=0) for x in (original, decoded))
    return float(np.abs(made - change).mean())


def mel_spectrum(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mel spectrum in decibels, ``(steps, 64)``: Hann windows of 32 ms every 8 ms."""
    mono = to_mono(waveform)
    width, hop = max(64, round(0.032 * sample_rate)), max(1, round(0.008 * sample_rate))
    padded = np.pad(mono, width // 2)
    filters = mel_filters(sample_rate, fft_size(width, sample_rate // 15), NUM_MELS)
    return 10 * np.log10(band_power(padded, np.hanning(width), hop, filters) + 1e-10)


def log_mel_distance(original: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """Mean absolute difference of two mel spectra in decibels.

    Both are clipped to the top 80 dB of the original, so that what nobody hears does not count.

    Args:
        original: ``(C, S)`` in [-1, 1].
        decoded: The same length at the same rate.
        sample_rate: Samples per second.

    Raises:
        ValueError: The lengths differ.
    """
    if original.shape[-1] != decoded.shape[-1]:
        raise ValueError(
            f"waveforms of {original.shape[-1]} and {decoded.shape[-1]} samples differ; "
            "cut both to the shorter one"
        )
    first, second = mel_spectrum(original, sample_rate), mel_spectrum(decoded, sample_rate)
    floor = max(float(first.max()) - RANGE_DB, -100.0)
    return float(np.abs(np.maximum(first, floor) - np.maximum(second, floor)).mean())


def audio_fidelity(original: np.ndarray, decoded: np.ndarray, sample_rate: int) -> AudioFidelity:
    """Log-mel distance and onsets kept; see `AudioFidelity` for the fields and their units."""
    onsets = sound_onsets(original, sample_rate)
    score = score_events(onsets, sound_onsets(decoded, sample_rate), ONSET_WINDOW_MS)
    errors = timing_error(score.errors_ms)
    return AudioFidelity(
        log_mel_db=log_mel_distance(original, decoded, sample_rate),
        onset_f1=score.f1,
        onset_shift_ms=float(np.median(score.errors_ms)) if errors else None,
        onset_error_p90_ms=errors.p90_ms if errors else None,
        num_onsets=len(onsets),
    )
