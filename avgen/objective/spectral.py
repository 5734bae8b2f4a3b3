"""How far apart two waveforms sound: companded samples, spectra at several windows, log-mel.

Shapes: B batch, A audio channels, S waveform samples, N clips and channels, F frequencies, M mel bands,
L spectrum steps.
"""

import math
from functools import cache

import torch
import torchaudio
from jaxtyping import Float
from torch import Tensor

WINDOWS = (64, 256, 1024)
"""STFT windows in samples: short ones place onsets, long ones place pitches."""
MEL_WINDOW, MEL_HOP, MEL_BANDS = 1024, 160, 64
TIMBRE_WINDOW, TIMBRE_BANDS = 512, 40
FLOOR = 3e-3
"""Amplitude, relative to a full-scale sine, below which spectra count as silent (-50 dB)."""


def reconstruction_losses(
    decoded: Float[Tensor, "b a s"], waveform: Float[Tensor, "b a s"], sample_rate: int
) -> dict[str, Tensor]:
    """Distances of two waveforms.

    Squares as well as absolute values of logarithms, because worlds are mostly silent: absolute values
    alone have a minimum at silence.

    Returns:
        ``waveform``: mean absolute difference of companded samples; ``spectrum``: over several windows,
        spectral convergence (Yamamoto et al., 2020, arXiv:1910.11480) and log-magnitude differences;
        ``onset``: see `onset_distance`;
        ``mel``: log-mel differences; ``timbre``: see `timbre_distance`.
    """
    spectra = [
        spectral_distance(magnitudes(decoded, window), magnitudes(waveform, window))
        for window in WINDOWS
    ]
    return {
        "waveform": 5 * (compand(decoded) - compand(waveform)).abs().mean(),
        "spectrum": torch.stack(spectra).mean(),
        "onset": onset_distance(decoded, waveform),
        "mel": _size(log_mel(decoded, sample_rate) - log_mel(waveform, sample_rate)),
        "timbre": timbre_distance(decoded, waveform, sample_rate),
    }


def onset_distance(
    decoded: Float[Tensor, "b a s"], waveform: Float[Tensor, "b a s"]
) -> Float[Tensor, ""]:
    """Difference of the rises and falls of loudness over 4 and 12 windows of a quarter of 64 samples."""
    loudness = [
        torch.log1p(magnitudes(sound, WINDOWS[0]) / FLOOR).mean(dim=1)
        for sound in (decoded, waveform)
    ]
    sizes = []
    for lag in (4, 12):
        ours, theirs = (rise[:, lag:] - rise[:, :-lag] for rise in loudness)
        sizes.append(_size(ours - theirs))
    return torch.stack(sizes).mean()


def timbre_distance(
    decoded: Float[Tensor, "b a s"], waveform: Float[Tensor, "b a s"], sample_rate: int
) -> Float[Tensor, ""]:
    """Square of the spectral convergence of the roots of mel amplitudes, windows of 512 samples.

    Logarithms count every band above `FLOOR` alike; roots count the strong ones, which make a vowel, more
    (power-law compression: Braun and Tashev, 2021, arXiv:2009.12286).
    """
    ours, theirs = (
        torch.sqrt(_mel(sound, sample_rate, TIMBRE_WINDOW, TIMBRE_BANDS) + 1e-6)
        for sound in (decoded, waveform)
    )
    away = (ours - theirs).square().sum(dim=(1, 2))
    return (away / theirs.square().sum(dim=(1, 2)).clamp(min=1e-6)).mean()


def spectral_distance(decoded: Tensor, target: Tensor) -> Tensor:
    """Spectral convergence plus the size of the difference of logarithms."""
    convergence = (decoded - target).norm() / target.norm().clamp(min=1e-3)
    return convergence + _size(torch.log(decoded + FLOOR) - torch.log(target + FLOOR))


def compand(waveform: Tensor, strength: float = 100.0) -> Tensor:
    """Compress loud samples logarithmically to [-1, 1]."""
    return waveform.sign() * torch.log1p(strength * waveform.abs()) / math.log1p(strength)


def _size(difference: Tensor) -> Tensor:
    return 0.5 * (difference.abs().mean() + difference.square().mean())


def log_mel_distance(
    decoded: Float[Tensor, "b a s"], waveform: Float[Tensor, "b a s"], sample_rate: int
) -> Tensor:
    """Mean absolute difference of natural log-mel amplitudes (64 bands, 10 ms hop, floor -50 dB)."""
    return (log_mel(decoded, sample_rate) - log_mel(waveform, sample_rate)).abs().mean()


def log_mel(waveform: Float[Tensor, "b a s"], sample_rate: int) -> Float[Tensor, "n m l"]:
    """Natural logarithm of mel amplitudes, one row per clip and channel."""
    return torch.log(_mel(waveform, sample_rate, MEL_WINDOW, MEL_BANDS, MEL_HOP) + FLOOR)


def magnitudes(
    waveform: Float[Tensor, "b a s"], window: int, hop: int | None = None
) -> Float[Tensor, "n f l"]:
    """STFT magnitudes scaled so that a full-scale sine has about 1."""
    spectrum = torch.stft(
        waveform.flatten(0, 1),
        window,
        hop or window // 4,
        window=torch.hann_window(window, device=waveform.device),
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.sqrt(power + 1e-12) * (4 / window)


def _mel(
    waveform: Tensor, sample_rate: int, window: int, bands: int, hop: int | None = None
) -> Tensor:
    spectrum = magnitudes(waveform, window, hop)
    return _mel_bank(sample_rate, window, bands).to(spectrum) @ spectrum


@cache
def _mel_bank(sample_rate: int, window: int, bands: int) -> Tensor:
    # A tensor made in inference mode could not be used in training later.
    with torch.inference_mode(False):
        bank = torchaudio.functional.melscale_fbanks(
            window // 2 + 1, 20.0, sample_rate / 2, bands, sample_rate, mel_scale="htk"
        )
        return bank.t().contiguous()
