"""Is there a jump at a place: change of picture, motion and sound from frame to frame.

Shapes: F frames, H, W, S samples.
"""

from dataclasses import dataclass

import numpy as np

from avgen.clip import Clip
from avgen.measure.flow import measure_flow
from avgen.measure.onsets import band_power, fft_size, mel_filters, to_mono

NUM_BANDS = 32
FLOOR = 1e-8


@dataclass(frozen=True, kw_only=True)
class Jumps:
    """How much changes at each boundary between frames; value ``i`` belongs to ``(i + 1) / fps`` seconds.

    Attributes:
        picture: Mean absolute difference of the frames on either side, levels, ``(F - 1,)``.
        motion: Mean change of the optical flow around the boundary, pixels per frame, ``(F - 1,)``.
        sound: Mean absolute difference of the log-mel spectra of the half frames on either side, dB, ``(F - 1,)``.
    """

    picture: np.ndarray
    motion: np.ndarray
    sound: np.ndarray


STREAMS = ("picture", "motion", "sound")


def measure_jumps(clip: Clip) -> Jumps:
    """The jumps of a clip with picture and sound.

    Raises:
        ValueError: The clip lacks a stream, or has fewer than three frames.
    """
    if clip.frames is None or clip.waveform is None or len(clip.frames) < 3:
        raise ValueError(f"{clip} needs picture and sound and at least 3 frames")
    levels = clip.frames.astype(np.float32)
    spectra = half_frame_spectra(clip)
    turn = np.abs(np.diff(measure_flow(clip.frames).flow, axis=0)).sum(axis=1).mean(axis=(1, 2))
    around = np.concatenate([turn[:1], turn, turn[-1:]])
    return Jumps(
        picture=np.abs(np.diff(levels, axis=0)).mean(axis=(1, 2, 3)),
        motion=(around[:-1] + around[1:]) / 2,
        sound=np.abs(spectra[2:-1:2] - spectra[1:-2:2]).mean(axis=1),
    )


def half_frame_spectra(clip: Clip) -> np.ndarray:
    """Log-mel spectra of both halves of every frame, decibels, ``(2 F, bands)``."""
    assert clip.waveform is not None
    width = round(clip.sample_rate / clip.fps / 2)
    mono = to_mono(clip.waveform)
    needed = 2 * clip.num_frames * width
    padded = np.pad(mono, (0, max(0, needed - len(mono))))[:needed]
    filters = mel_filters(clip.sample_rate, fft_size(width, clip.sample_rate // 30), NUM_BANDS)
    return 10 * np.log10(band_power(padded, np.hanning(width), width, filters) + FLOOR)


def boundary(clip: Clip, seconds: float) -> int:
    """Index into `Jumps` of the boundary at a time.

    Raises:
        ValueError: The time is not inside the clip.
    """
    index = round(seconds * clip.fps) - 1
    if not 0 <= index < clip.num_frames - 1:
        raise ValueError(f"{seconds} s is not between two frames of {clip}; give a time inside")
    return index


def rank(values: np.ndarray, index: int) -> float:
    """Share of the other values that are smaller, equal ones by half: 0.5 where a place is like any other."""
    others = np.delete(values, index)
    return float((others < values[index]).mean() + (others == values[index]).mean() / 2)


def ratio_to_median(values: np.ndarray, index: int, floor: float = 1e-3) -> float:
    """Value over the median of the others."""
    return float(values[index] / max(float(np.median(np.delete(values, index))), floor))
