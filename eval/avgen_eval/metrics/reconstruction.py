"""What a codec keeps of a clip: decoded pictures and sounds against their originals, with no weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure as multiscale_ssim,
)
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

from avgen.measure.loudness import check_waveform
from avgen_eval.codec import MAX_PSNR_DB, PEAK, log_mel_distance
from avgen_eval.metrics.base import ClipMetric, Field, Values

PIXELS_AT_ONCE = 1 << 20
SSIM_MIN_SIDE, MS_SSIM_MIN_SIDE = 11, 176
MAX_SI_SDR_DB = 100.0
STFT_SIZES = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))
MIN_MAGNITUDE = 10**-3.5
SPECTRA_AT_ONCE = 2048


@dataclass(frozen=True, kw_only=True)
class PictureFidelity:
    """Decoded frames against the original ones.

    Attributes:
        psnr_db: ``10 log10(255^2 / mean squared error)`` over all pixels of the clip, at most 100 dB,
            which stands for equal pictures.
        ssim: Structural similarity (Z. Wang and others, IEEE TIP 2004), mean over frames and colours;
            None where a side is shorter than its window of 11 pixels.
        ms_ssim: The same over five scales (Z. Wang and others, Asilomar 2003); None where a side is
            shorter than 176 pixels.
    """

    psnr_db: float
    ssim: float | None
    ms_ssim: float | None


@dataclass(frozen=True, kw_only=True)
class StftDistance:
    """Distance of magnitude spectra, mean over three sizes of window.

    Attributes:
        convergence: ``|S - S'| / |S|`` (Frobenius norms); None for a silent original.
        log_magnitude: Mean of ``|ln S - ln S'|``, with magnitudes of at least 10^-3.5.
    """

    convergence: float | None
    log_magnitude: float


def picture_fidelity(original: np.ndarray, decoded: np.ndarray) -> PictureFidelity:
    """PSNR, SSIM and MS-SSIM of frames, a few at a time so that memory does not grow with the clip.

    PSNR is that of `avgen_eval.codec.psnr`, with the squared error summed exactly. The similarities
    are those of torchmetrics in single precision, which is off by up to 5e-4 in flat pictures (a
    variance there is a small difference of large squares); double precision takes about 18 times longer.

    Fails on: a shift of a pixel or a frame, which all three punish more than an eye does, and blur,
    which PSNR and SSIM punish less.

    Args:
        original: ``(F, H, W, 3)`` uint8.
        decoded: The same shape, uint8.

    Raises:
        ValueError: Shapes or types differ from that, or there is no frame.
    """
    _check_frames(original, decoded)
    count, height, width, _ = original.shape
    side, step = min(height, width), max(1, PIXELS_AT_ONCE // (height * width))
    squared, similar, multiscale = 0, 0.0, 0.0
    for first in range(0, count, step):
        pair = original[first : first + step], decoded[first : first + step]
        squared += _squared_error(*pair)
        images = [_images(frames) for frames in pair]
        if side >= SSIM_MIN_SIDE:
            similar += _similarity(ssim(images[1], images[0], data_range=PEAK, reduction="sum"))
        if side >= MS_SSIM_MIN_SIDE:
            multiscale += _similarity(
                multiscale_ssim(images[1], images[0], data_range=PEAK, reduction="sum")
            )
    error = squared / original.size
    return PictureFidelity(
        psnr_db=min(MAX_PSNR_DB, 10 * float(np.log10(PEAK**2 / max(error, 1e-12)))),
        ssim=similar / count if side >= SSIM_MIN_SIDE else None,
        ms_ssim=multiscale / count if side >= MS_SSIM_MIN_SIDE else None,
    )


def si_sdr(original: np.ndarray, decoded: np.ndarray) -> float | None:
    """Scale-invariant signal-to-distortion ratio in dB, mean over channels (J. Le Roux, ICASSP 2019).

    ``10 log10(|a s|^2 / |a s - d|^2)`` with ``a = <d, s> / |s|^2``, of signals freed of their means.
    Clipped to +-100 dB; 100 stands for equal up to a factor.

    Fails on: a delay (a few samples cost everything), codecs that make up phase, and a decoder that
    returns silence, whose scale is not defined: the other distances of this module show that.

    Args:
        original: ``(C, S)``.
        decoded: The same shape.

    Returns:
        None where in every channel the original or the decoded one is constant.

    Raises:
        ValueError: Shapes differ, or a bad waveform.
    """
    _check_waveforms(original, decoded)
    values: list[float] = []
    for pair in zip(original, decoded, strict=True):
        target, estimate = (torch.from_numpy(x.astype(np.float64)) for x in pair)
        if target.var(correction=0) > 0 and estimate.var(correction=0) > 0:
            ratio = scale_invariant_signal_distortion_ratio(estimate, target, zero_mean=True)
            values.append(float(ratio.clamp(-MAX_SI_SDR_DB, MAX_SI_SDR_DB)))
    return float(np.mean(values)) if values else None


def stft_distance(original: np.ndarray, decoded: np.ndarray) -> StftDistance:
    """Multi-resolution STFT distance, with the sizes of R. Yamamoto and others, ICASSP 2020.

    Hann windows of 240, 600 and 1200 samples every 50, 120 and 240, in transforms of 512, 1024 and
    2048; channels count alike. The sum of both parts is the distance of the paper.

    Fails on: nothing audible in particular, but its windows are samples, not seconds: compare at one
    sample rate only.

    Args:
        original: ``(C, S)`` in [-1, 1].
        decoded: The same shape.

    Raises:
        ValueError: Shapes differ, or a bad waveform.
    """
    _check_waveforms(original, decoded)
    parts = [_stft_parts(original, decoded, *sizes) for sizes in STFT_SIZES]
    convergence = [part[0] for part in parts if part[0] is not None]
    return StftDistance(
        convergence=float(np.mean(convergence)) if len(convergence) == len(parts) else None,
        log_magnitude=float(np.mean([part[1] for part in parts])),
    )


class ReconstructionMetric(ClipMetric):
    """What a codec keeps of pictures and sounds.

    ``update`` takes frames ``(F, H, W, 3)`` uint8, waveforms ``(C, S)`` and their sample rate, by
    keyword; either pair may be left out, and its values are then None.
    """

    fields: ClassVar = {
        "psnr_db": Field(unit="dB", better="higher"),
        "ssim": Field(better="higher"),
        "ms_ssim": Field(better="higher"),
        "si_sdr_db": Field(unit="dB", better="higher"),
        "stft_convergence": Field(better="lower"),
        "stft_log_magnitude": Field(unit="nepers", better="lower"),
        "log_mel_db": Field(unit="dB", better="lower"),
    }

    def measure(
        self,
        *,
        original_frames: np.ndarray | None = None,
        decoded_frames: np.ndarray | None = None,
        original_waveform: np.ndarray | None = None,
        decoded_waveform: np.ndarray | None = None,
        sample_rate: int | None = None,
    ) -> Values:
        """All values of one clip; ValueError where one of a pair is missing."""
        values: dict[str, float | None] = dict.fromkeys(self.fields)
        if original_frames is not None and decoded_frames is not None:
            values |= vars(picture_fidelity(original_frames, decoded_frames))
        elif original_frames is not None or decoded_frames is not None:
            raise ValueError("give both original_frames and decoded_frames, or neither")
        if original_waveform is None and decoded_waveform is None:
            return values
        if original_waveform is None or decoded_waveform is None or sample_rate is None:
            raise ValueError(
                "give original_waveform, decoded_waveform and sample_rate, or no waveform"
            )
        distance = stft_distance(original_waveform, decoded_waveform)
        return values | {
            "si_sdr_db": si_sdr(original_waveform, decoded_waveform),
            "stft_convergence": distance.convergence,
            "stft_log_magnitude": distance.log_magnitude,
            "log_mel_db": log_mel_distance(original_waveform, decoded_waveform, sample_rate),
        }


def _check_frames(original: np.ndarray, decoded: np.ndarray) -> None:
    shapes = original.shape == decoded.shape and original.ndim == 4 and original.shape[-1] == 3
    if not shapes or original.dtype != np.uint8 or decoded.dtype != np.uint8 or not original.size:
        raise ValueError(
            f"frames must be two uint8 arrays (F, H, W, 3) of one shape with at least one frame, not "
            f"{original.dtype} {original.shape} and {decoded.dtype} {decoded.shape}; clamp, round "
            "and crop first"
        )


def _check_waveforms(original: np.ndarray, decoded: np.ndarray) -> None:
    if check_waveform(original).shape != check_waveform(decoded).shape:
        raise ValueError(
            f"waveforms of shape {original.shape} and {decoded.shape} differ; bring both to one "
            "number of channels and cut them to the shorter one"
        )


def _squared_error(original: np.ndarray, decoded: np.ndarray) -> int:
    difference = original.astype(np.int32) - decoded
    return int((difference**2).sum(dtype=np.int64))


def _images(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float()


def _similarity(value: Tensor | tuple[Tensor, ...]) -> float:
    assert isinstance(value, Tensor)
    return float(value)


def _stft_parts(
    original: np.ndarray, decoded: np.ndarray, size: int, hop: int, window: int
) -> tuple[float | None, float]:
    """Spectral convergence and log-magnitude distance for one size of window."""
    difference = energy = logarithms = 0.0
    values = 0
    pairs = zip(
        _magnitudes(original, size, hop, window),
        _magnitudes(decoded, size, hop, window),
        strict=True,
    )
    for first, second in pairs:
        difference += float(((first - second) ** 2).sum())
        energy += float((first**2).sum())
        low = np.maximum(first, MIN_MAGNITUDE), np.maximum(second, MIN_MAGNITUDE)
        logarithms += float(np.abs(np.log(low[0] / low[1])).sum())
        values += first.size
    return (difference / energy) ** 0.5 if energy > 0 else None, logarithms / values


def _magnitudes(waveform: np.ndarray, size: int, hop: int, window: int) -> Iterator[np.ndarray]:
    """Magnitudes ``(steps, bins)`` of centred windows, a piece of a channel at a time."""
    taper = np.hanning(window + 1)[:-1]
    for channel in waveform:
        padded = np.pad(channel.astype(np.float64), window // 2)
        windows = sliding_window_view(padded, window)[::hop]
        for first in range(0, len(windows), SPECTRA_AT_ONCE):
            piece = windows[first : first + SPECTRA_AT_ONCE] * taper
            yield np.abs(np.fft.rfft(piece, size))
