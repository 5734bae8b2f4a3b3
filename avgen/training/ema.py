"""Moving average of the weights, which is what gets exported and sampled from."""

from collections.abc import Sequence

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn


class EMA(WeightAveraging):
    """Exponential moving average whose memory grows with the run: ``min(decay, (1 + n) / (10 + n))`` after n steps.

    Args:
        decay: Limit of the decay per step.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay {decay} must lie between 0 and 1")
        self.decay = decay
        super().__init__(use_buffers=False, multi_avg_fn=self._update)

    def averaged(self) -> nn.Module | None:
        """The LightningModule with averaged weights, or None before training starts."""
        return None if self._average_model is None else self._average_model.module

    @torch.no_grad()
    def _update(
        self, averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Tensor | int
    ) -> None:
        count = int(num_averaged)
        decay = min(self.decay, (1 + count) / (10 + count))
        torch._foreach_lerp_(list(averaged), list(current), 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
