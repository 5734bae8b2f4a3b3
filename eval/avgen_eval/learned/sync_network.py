"""A small classifier of the offset between picture and sound.

Two encoders describe every 40 ms of picture and of sound by a vector; the score of a lag is the mean product of what
lies that far apart (the sliding comparison of SyncNet, Chung and Zisserman 2016), and lags are gathered into 21 classes
from -2 to 2 s (Synchformer, Iashin et al. 2024, arXiv 2401.16423). Positive lags mean that the sound is late.
Shapes: B clips, F frames, S waveform samples, M mel bands, L lags, D width.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram

from avgen import checkpoint

KIND = "sync_network"
FPS = 25
SAMPLE_RATE = 16_000
SIZE = 48
NUM_CLASSES = 21
CLASS_SECONDS = 0.2
LAGS_PER_CLASS = 5
MAX_LAG = NUM_CLASSES // 2 * LAGS_PER_CLASS + LAGS_PER_CLASS // 2
MIN_OVERLAP = 12
_HOPS_PER_FRAME = 4
_NUM_MELS = 64


class SyncNetwork(nn.Module):
    """Scores of every lag between -2.08 and 2.08 s, in steps of a frame of 40 ms.

    Args:
        width: Of the vectors that are compared.
        channels: Of the convolutions on the picture.
    """

    def __init__(self, width: int = 64, channels: int = 16) -> None:
        super().__init__()
        self.arguments = {"width": width, "channels": channels}
        self.picture = PictureEncoder(width, channels)
        self.sound = SoundEncoder(width)
        self.scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def forward(
        self, frames: Float[Tensor, "b 3 f h w"], waveform: Float[Tensor, "b 1 s"]
    ) -> Float[Tensor, "b l"]:
        """Score of each lag; minus infinity where fewer than 12 frames overlap.

        Args:
            frames: At 25 per second, in [-1, 1].
            waveform: At 16 kHz, 640 samples for each frame.
        """
        seen = F.normalize(self.picture(frames), dim=1)
        heard = F.normalize(self.sound(waveform)[..., : seen.shape[-1]], dim=1)
        products = self.scale.exp() * torch.einsum("bdi,bdj->bij", seen, heard)
        return lag_means(products)

    def save(self, path: str | Path, **provenance: Any) -> str:
        """Write weights and what they were trained on; return their SHA-256."""
        config = self.arguments | {"provenance": provenance}
        return checkpoint.save(path, self.state_dict(), kind=KIND, config=config)

    @classmethod
    def from_file(cls, path: str | Path) -> tuple["SyncNetwork", str]:
        """Load what `save` wrote, ready for use, and the SHA-256 of the weights.

        Raises:
            CheckpointError: The file is no readable checkpoint of this kind.
        """
        config, tensors = checkpoint.load(path, kind=KIND)
        sha = config.pop("sha256")
        del config["provenance"]
        network = cls(**config)
        network.load_state_dict(tensors)
        return network.eval(), sha


class PictureEncoder(nn.Module):
    """A vector for each frame: 3-D convolutions, then what is strongest and what is common in the picture."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        widths = (3, channels, 2 * channels, 4 * channels)
        self.layers = nn.ModuleList(
            nn.Conv3d(a, b, 3, stride=(1, 2, 2), padding=1) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(4, b) for b in widths[1:])
        self.head = TimeNetwork(2 * widths[-1], width)

    def forward(self, frames: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b d f"]:
        """Vectors of the frames."""
        x = frames
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.silu(norm(layer(x)))
        x = x.flatten(3)
        return self.head(torch.cat((x.mean(-1), x.amax(-1)), dim=1))


class SoundEncoder(nn.Module):
    """A vector for each 40 ms: log-mel spectrum at 100 per second, then convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hop = SAMPLE_RATE // (FPS * _HOPS_PER_FRAME)
        self.mel = MelSpectrogram(
            SAMPLE_RATE, n_fft=512, win_length=400, hop_length=hop, n_mels=_NUM_MELS, f_min=60.0
        )
        self.first = nn.Conv1d(_NUM_MELS, 2 * width, 5, padding=2)
        self.down = nn.Conv1d(2 * width, 2 * width, _HOPS_PER_FRAME, stride=_HOPS_PER_FRAME)
        self.head = TimeNetwork(2 * width, width)

    def forward(self, waveform: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b d f"]:
        """Vectors of the steps."""
        level = torch.log(self.mel(waveform[:, 0]) + 1e-5)
        level = (level - level.mean((1, 2), keepdim=True)) / (level.std((1, 2), keepdim=True) + 1.0)
        return self.head(F.silu(self.down(F.silu(self.first(level)))))


class TimeNetwork(nn.Module):
    """Residual convolutions over time that see about half a second around each step."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, 2 * width, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Conv1d(2 * width, 2 * width, 3, padding=dilation, dilation=dilation)
            for dilation in (1, 2)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, 2 * width) for _ in self.layers)
        self.out = nn.Conv1d(2 * width, width, 1)

    def forward(self, x: Float[Tensor, "b e f"]) -> Float[Tensor, "b d f"]:
        """Vectors of every step."""
        x = self.first(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + layer(F.silu(norm(x)))
        return self.out(F.silu(x))


def lag_means(products: Float[Tensor, "b f f"]) -> Float[Tensor, "b l"]:
    """Mean of ``products[i, i + lag]`` over i, for lags from ``-MAX_LAG`` to ``MAX_LAG`` frames."""
    size = products.shape[-1]
    means = [
        products.diagonal(lag, 1, 2).mean(-1)
        if size - abs(lag) >= MIN_OVERLAP
        else products.new_full(products.shape[:1], -torch.inf)
        for lag in range(-MAX_LAG, MAX_LAG + 1)
    ]
    return torch.stack(means, dim=-1)


def class_scores(lags: Float[Tensor, "b l"]) -> Float[Tensor, "b c"]:
    """Log-probability of each of the 21 classes: that of the five lags within 100 ms of its centre."""
    return lags.log_softmax(-1).unflatten(-1, (NUM_CLASSES, LAGS_PER_CLASS)).logsumexp(-1)
