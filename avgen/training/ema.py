"""Moving average of the weights, which is what gets exported and sampled from."""

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel

from avgen.ops.sharded import local


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

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the weights while they are whole: modules that are spread over processes cannot be copied."""
        if stage == "fit":
            self._average_model = AveragedModel(
                pl_module, device=pl_module.device, use_buffers=False, multi_avg_fn=self._update
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Spread the averages over the processes as the weights are."""
        averaged = self.averaged()
        assert averaged is not None
        for ours, theirs in zip(averaged.modules(), pl_module.modules(), strict=True):
            for name, weight in theirs.named_parameters(recurse=False):
                if isinstance(weight, DTensor):
                    setattr(ours, name, nn.Parameter(weight.detach().clone(), weight.requires_grad))

    def averaged(self) -> nn.Module | None:
        """The LightningModule with averaged weights, or None before training starts."""
        return None if self._average_model is None else self._average_model.module

    @torch.no_grad()
    def _update(
        self, averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Tensor | int
    ) -> None:
        count = int(num_averaged)
        decay = min(self.decay, (1 + count) / (10 + count))
        torch._foreach_lerp_([local(x) for x in averaged], [local(x) for x in current], 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
