"""Noise level to scale, shift and gate.

One network per stream serves all blocks, each block adds a table of its own (PixArt, Chen et al. 2023, arXiv
2310.00426). It runs once per distinct noise level, and tokens gather what is theirs.
Letters: B rows, N tokens, U distinct levels, D width.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

PARTS = 9  # scale, shift, gate for: self-attention, partner, feed-forward
EXCHANGE = slice(3, 6)
"""The parts of the partner."""


@dataclass(frozen=True)
class Levels:
    """Modulation by noise level.

    Attributes:
        values: ``(U, PARTS, D)``, one row for each distinct level.
        index: ``(B, N)`` or ``(B, 1)``, the row of each token.
    """

    values: Tensor
    index: Tensor


class NoiseModulation(nn.Module):
    """Sinusoidal embedding of sigma and a small network, always in float32."""

    def __init__(self, width: int, num_features: int = 128) -> None:
        super().__init__()
        self.num_features = num_features
        self.hidden = nn.Linear(num_features, width)
        self.out = nn.Linear(width, PARTS * width)

    def forward(self, sigma: Float[Tensor, "b n"]) -> Levels:
        """Modulation for every distinct value in ``sigma``."""
        if sigma.shape[1] == 1:
            levels, index = sigma[:, 0], torch.arange(sigma.shape[0], device=sigma.device)[:, None]
        else:
            levels, index = torch.unique(sigma, return_inverse=True)
        with torch.autocast(sigma.device.type, enabled=False):
            values = self.out(F.silu(self.hidden(_features(levels.float(), self.num_features))))
        return Levels(values.unflatten(-1, (PARTS, -1)), index)


def _features(sigma: Float[Tensor, "u"], num: int) -> Float[Tensor, "u e"]:
    omega = torch.exp(
        torch.arange(num // 2, device=sigma.device) * (-math.log(10_000.0) / (num // 2))
    )
    angle = 1000.0 * sigma[:, None] * omega
    return torch.cat((angle.cos(), angle.sin()), dim=-1)
