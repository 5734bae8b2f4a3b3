"""How training draws noise levels.

Logit-normal (Esser et al. 2024, arXiv 2403.03206), then shifted by the token count exactly as sampling shifts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from avgen import flow


@dataclass(frozen=True)
class SigmaDistribution:
    """Noise levels of a batch.

    Attributes:
        mode: ``shared``: one level per clip; ``independent``: one per clip and stream; ``mixed``: half of the clips
            one way, half the other.
        mean: Mean of the logit before the shift.
        std: Standard deviation of the logit.
        uniform: Share of clips whose level is drawn uniformly instead, so that no level is never seen.
    """

    mode: Literal["shared", "independent", "mixed"] = "shared"
    mean: float = 0.0
    std: float = 1.0
    uniform: float = 0.1

    def draw(
        self, batch: int, streams: Sequence[str], shift: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Levels ``(B,)`` per stream, in (0, 1)."""
        count = 1 if self.mode == "shared" else len(streams)
        normal = torch.randn(count, batch, generator=generator)
        flat = torch.rand(count, batch, generator=generator)
        choice = torch.rand(count, batch, generator=generator)
        base = torch.where(
            choice < self.uniform, flat, torch.sigmoid(self.mean + self.std * normal)
        )
        sigma = flow.shift_sigma(base, shift).clamp(1e-3, 1.0)
        if self.mode == "mixed":
            sigma = torch.where(torch.rand(batch, generator=generator) < 0.5, sigma[:1], sigma)
        return {name: sigma[i % count] for i, name in enumerate(streams)}
