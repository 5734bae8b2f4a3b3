"""Sound as networks want it: mono, at one rate, in windows."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avgen.clip import Clip
from avgen.media.resample import resample
from avgen_eval.weighted.base import NotMeasurableError, require_waveform


def mono(clip: Clip, sample_rate: int, shortest: float = 0) -> Tensor:
    """Mean of the channels at a sample rate, ``(S,)`` float32.

    Raises:
        NotMeasurableError: There is no sound, or less than ``shortest`` seconds of it.
    """
    waveform = require_waveform(clip).mean(axis=0, keepdims=True, dtype=np.float64)
    converted = resample(waveform.astype(np.float32), clip.sample_rate, sample_rate)
    samples = torch.from_numpy(np.ascontiguousarray(converted[0]))
    if len(samples) < shortest * sample_rate:
        raise NotMeasurableError(f"the sound is shorter than {shortest:g} s")
    return samples


def fitted(samples: Tensor, length: int) -> Tensor:
    """The first ``length`` values of the last axis; zeros follow where there are fewer."""
    missing = max(0, length - samples.shape[-1])
    return F.pad(samples, (0, missing))[..., :length]


def kaldi_fbank(samples: Tensor, sample_rate: int, num_bands: int) -> Tensor:
    """Log-mel spectrum ``(bands, steps)`` of mono samples: 25 ms Hann windows every 10 ms, mean removed."""
    from torchaudio.compliance import kaldi

    return kaldi.fbank(
        (samples - samples.mean())[None],
        htk_compat=True,
        sample_frequency=sample_rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=num_bands,
        dither=0.0,
    ).T
