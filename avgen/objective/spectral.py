"""How far apart two waveforms sound: samples, spectra at several windows, mel bands and how they rise and fall.

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
FLUX_WINDOW, FLUX_BANDS = 256, 24
MOST_WEIGHT = 8.0
"""Largest weight of a band and moment, next to 1 for those of average loudness in the clip."""
FLOOR = 3e-3
"""Amplitude, relative to a full-scale sine, below which spectra count as silent (-50 dB)."""
NEGLIGIBLE = 1e-3
"""Share of a waveform's energy that a difference is weighed against (-30 dB)."""


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
        ``mel``: log-mel differences; ``timbre``, ``flux``, ``signal``: see `timbre_distance`, `flux_distance`
        and `signal_distance`.
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
        "flux": flux_distance(decoded, waveform, sample_rate),
        "signal": signal_distance(decoded, waveform),
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


def flux_distance(
    decoded: Float[Tensor, "b a s"], waveform: Float[Tensor, "b a s"], sample_rate: int
) -> Float[Tensor, ""]:
    """Difference of the rises and falls of log-mel amplitudes over 4 and 8 hops of 64 samples, weighted by loudness.

    The weight is the root of the amplitude in ``waveform`` next to its mean over the clip, at most `MOST_WEIGHT`.
    Rises of single bands are what onset detectors hear (spectral flux: Bello et al., 2005,
    doi:10.1109/TSA.2005.851998). `onset_distance` takes all frequencies together, where silent ones hide that
    a ringing tone dips, and weighs silence like sound.
    """
    ours, theirs = (
        _mel(sound, sample_rate, FLUX_WINDOW, FLUX_BANDS) for sound in (decoded, waveform)
    )
    loud = theirs.sqrt()
    average = loud.mean(dim=(1, 2), keepdim=True).clamp(min=1e-2)  # of a silent clip
    loud = (loud / average).clamp(max=MOST_WEIGHT)
    away = torch.log(ours + FLOOR) - torch.log(theirs + FLOOR)
    sizes = []
    for lag in (4, 8):
        weight = torch.maximum(loud[..., lag:], loud[..., :-lag])
        sizes.append(_size(away[..., lag:] - away[..., :-lag], weight))
    return torch.stack(sizes).mean()


def signal_distance(
    decoded: Float[Tensor, "b a s"], waveform: Float[Tensor, "b a s"]
) -> Float[Tensor, ""]:
    """``ln(1 + share / NEGLIGIBLE)`` of the difference's share of the energy, mean over clips.

    It is 0 for the same sound, 6.9 for silence, and 2.3 less for each 10 dB of signal to distortion (the
    negative ratio with a threshold: Wisdom et al., 2020, arXiv:2006.12701). Samples are not companded, so that
    strong partials count most; and phases count.
    """
    away = (decoded - waveform).square().mean(dim=(1, 2))
    share = away / waveform.square().mean(dim=(1, 2)).clamp(
        min=1e-6
    )  # -60 dB of a full-scale square
    return torch.log1p(share / NEGLIGIBLE).mean()


def spectral_distance(decoded: Tensor, target: Tensor) -> Tensor:
    """Spectral convergence plus the size of the difference of logarithms."""
    convergence = (decoded - target).norm() / target.norm().clamp(min=1e-3)
    return convergence + _size(torch.log(decoded + FLOOR) - torch.log(target + FLOOR))


def compand(waveform: Tensor, strength: float = 100.0) -> Tensor:
    """Compress loud samples logarithmically to [-1, 1]."""
    return waveform.sign() * torch.log1p(strength * waveform.abs()) / math.log1p(strength)


def _size(difference: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    return 0.5 * (weight * (difference.abs() + difference.square())).mean()


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
