"""FAD: Frechet distance of sounds in the features of VGGish (Kilgour et al. 2019; Hershey et al. 2017).

Shapes: N windows, S samples.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from avgen.clip import Clip
from avgen_eval.metrics.base import Field
from avgen_eval.weighted.exported import ExportedModel, Signature, TensorSpec
from avgen_eval.weighted.frechet import FrechetMetric
from avgen_eval.weighted.sounds import mono

SAMPLE_RATE = 16_000
WINDOW, HOP, FOURIER = 400, 160, 512
BANDS, STEPS = 64, 96
LOWEST, HIGHEST, LOG_OFFSET = 125.0, 7500.0, 0.01
BATCH = 64
SHORTEST = (WINDOW + (STEPS - 1) * HOP) / SAMPLE_RATE
SIGNATURE = Signature(
    inputs=(TensorSpec("mel", ("B", 1, STEPS, BANDS)),),
    outputs=(TensorSpec("embedding", ("B", 128)),),
)


def log_mel_windows(samples: Tensor) -> Tensor:
    """Windows of 0.96 s, one after the other, ``(N, 1, 96, 64)``: ``log(mel + 0.01)`` of samples at 16 kHz.

    Magnitudes (not powers) in 25 ms Hann windows every 10 ms, 64 mel bands from 125 Hz to 7.5 kHz whose triangles are
    straight in mel. The end that fills no window is left out.
    """
    if len(samples) < WINDOW:
        return samples.new_empty(0, 1, STEPS, BANDS)
    frames = samples.double().unfold(0, WINDOW, HOP) * torch.hann_window(
        WINDOW, dtype=torch.float64
    )
    mel = torch.fft.rfft(frames, FOURIER).abs() @ _mel_bands()
    level = torch.log(mel + LOG_OFFSET).float()
    count = len(level) // STEPS
    return level[: count * STEPS].reshape(count, 1, STEPS, BANDS)


class FrechetAudioDistance(FrechetMetric):
    """Frechet distance between VGGish features of generated and of reference sounds, one vector per 0.96 s.

    Without PCA. Whether the last ReLU is part of the features is up to the exported file; without it is usual.

    Fails on: few windows (below 256 it is not computed unless ``force``), and minutes of sound rather than clips are
    what counts; sounds above 7.5 kHz; stereo; comparison with other tools, whose resampling and features differ.
    """

    fields: ClassVar = {"fad": Field(better="lower")}
    protocol = "16 kHz mono|windows 0.96 s, no overlap|no PCA|ddof 1"

    @classmethod
    def load(cls, paths: Mapping[str, Path], device: str = "cpu") -> ExportedModel:
        """The exported VGGish."""
        return ExportedModel(paths["vggish"], SIGNATURE, device)

    def describe(self, clip: Clip) -> Tensor:
        """Features ``(N, 128)``."""
        windows = log_mel_windows(mono(clip, SAMPLE_RATE, SHORTEST))
        return self.model.batched(BATCH, mel=windows)["embedding"]


@cache
def _mel_bands() -> Tensor:
    """Weights ``(257, 64)`` float64; Kaldi's bands have the same shape and the same scale."""
    from torchaudio.compliance.kaldi import get_mel_banks

    bands, _ = get_mel_banks(BANDS, FOURIER, SAMPLE_RATE, LOWEST, HIGHEST, 100.0, -500.0, 1.0)
    # Kaldi leaves the bin at half the sample rate out, which lies above the last band.
    return torch.nn.functional.pad(bands, (0, 1)).T.double()
