"""Rotary positions over continuous coordinates, and their mean over an interval.

Rotary embedding: Su et al. 2021 (arXiv 2104.09864). Interval form: TIE (arXiv 2605.10543), with RMS normalisation.
Letters: B batch, N tokens, H heads, K head width, P = K / 2 rotated pairs. Pair p of a head is (p, p + P).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Rotation(NamedTuple):
    """Cosine and sine that rotate (and for intervals scale) each pair of a head, ``(B, N, P)`` each."""

    cos: Tensor
    sin: Tensor

    def inverse(self) -> "Rotation":
        """The rotation back."""
        return Rotation(self.cos, -self.sin)


def frequencies(num: int, highest: float, lowest: float) -> Float[Tensor, "p"]:
    """``num`` angular frequencies in radians per unit, geometric from ``highest`` to ``lowest``."""
    return torch.logspace(0, 1, num, base=lowest / highest, dtype=torch.float32) * highest


def rotation(positions: Float[Tensor, "b n"], omega: Float[Tensor, "p"]) -> Rotation:
    """Rotation by ``omega * position``."""
    angle = positions.float()[..., None] * omega
    return Rotation(angle.cos(), angle.sin())


def interval_rotation(
    start: Float[Tensor, "b n"], end: Float[Tensor, "b n"], omega: Float[Tensor, "p"]
) -> Rotation:
    """Mean of the rotation over ``[start, end]``, RMS-normalised over the frequencies.

    The mean of ``exp(i omega u)`` over the interval is ``sinc(omega * half) * exp(i omega * centre)``.
    """
    centre, half = (start + end) / 2, (end - start) / 2
    gain = interval_gain(half, omega)
    gain = gain / gain.square().mean(-1, keepdim=True).sqrt()
    cos, sin = rotation(centre, omega)
    return Rotation(cos * gain, sin * gain)


def interval_gain(
    half_length: Float[Tensor, "b n"], omega: Float[Tensor, "p"]
) -> Float[Tensor, "b n p"]:
    """``sin(x) / x`` at ``x = omega * half_length``: how much of each frequency survives the mean."""
    return torch.sinc(half_length.float()[..., None] * omega / torch.pi)


def concatenate(rotations: list[Rotation]) -> Rotation:
    """Rotations of several axes side by side in one head."""
    return Rotation(*(torch.cat(parts, dim=-1) for parts in zip(*rotations, strict=True)))


def rotate(heads: Float[Tensor, "b n h k"], by: Rotation) -> Float[Tensor, "b n h k"]:
    """Apply a rotation to every head."""
    cos, sin = (x.unsqueeze(2).to(heads.dtype) for x in by)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
