"""The only file that knows the sign of the flow.

``sigma`` is the noise level in [0, 1]: 0 is clean, 1 is noise. A solver steps from larger to smaller sigma.
All functions are element-wise; ``sigma`` must broadcast against the data.
Source: rectified flow, Liu et al. 2022 (arXiv 2209.03003); schedule shift, Esser et al. 2024 (arXiv 2403.03206).
"""

import math

from torch import Tensor


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """``noisy = (1 - sigma) * clean + sigma * noise``."""
    return (1 - sigma) * clean + sigma * noise


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """``velocity = noise - clean``, the derivative of the noisy data by sigma."""
    return noise - clean


def denoised(noisy: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """The clean data that a velocity at ``noisy`` points to."""
    return noisy - sigma * velocity


def noise(noisy: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """The noise that a velocity at ``noisy`` comes from."""
    return noisy + (1 - sigma) * velocity


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """Move sigmas towards noise: ``shift * sigma / (1 + (shift - 1) * sigma)``; 1 changes nothing."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def shift_for_tokens(num_tokens: int, base_tokens: int, base_shift: float) -> float:
    """Shift for a sequence of ``num_tokens``, growing with the square root of the token count.

    Longer sequences need more noise to hide the same structure (Esser et al. 2024, eq. 23). Training and
    sampling both call this, with the real token count, so they cannot disagree.
    """
    return base_shift * math.sqrt(num_tokens / base_tokens)
