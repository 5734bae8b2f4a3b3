"""Noise levels that a sampler steps through."""

import torch
from jaxtyping import Float
from torch import Tensor

from avgen import flow


def linear_schedule(num_steps: int, shift: float) -> Float[Tensor, "s"]:
    """``num_steps + 1`` levels from 1 to 0, evenly spaced and then shifted as in training.

    Raises:
        ValueError: Fewer than one step.
    """
    if num_steps < 1:
        raise ValueError(f"steps {num_steps}: a sampler needs at least 1 step")
    return flow.shift_sigma(torch.linspace(1, 0, num_steps + 1), shift)
