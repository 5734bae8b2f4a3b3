"""Normalisation without parameters, and modulation."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def rms_norm(x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """Divide by the root mean square over the last axis."""
    return F.rms_norm(x, (x.shape[-1],), eps=1e-6)


def modulate(
    x: Float[Tensor, "b n d"], scale: Float[Tensor, "b m d"], shift: Float[Tensor, "b m d"]
) -> Float[Tensor, "b n d"]:
    """Adaptive norm: ``rms_norm(x) * (1 + scale) + shift`` (Peebles and Xie 2022, arXiv 2212.09748)."""
    return torch.addcmul(shift, rms_norm(x), 1 + scale)
