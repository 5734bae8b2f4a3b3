"""Callbacks: weights exported while training, throughput and utilisation."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from avgen.training.ema import EMA
from avgen.training.flops import batch_flops


class ExportWeights(Callback):
    """Writes the network as safetensors, averaged where an `EMA` callback runs.

    Args:
        path: Target file.
        every_n_steps: Also during training; 0 only at the end.
        notes: Kept in the file as provenance.
    """

    def __init__(
        self, path: str, every_n_steps: int = 0, notes: dict[str, Any] | None = None
    ) -> None:
        self.path = Path(path)
        self.every_n_steps = every_n_steps
        self.notes = notes or {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Export at the interval."""
        if (
            self.every_n_steps
            and trainer.global_step
            and trainer.global_step % self.every_n_steps == 0
        ):
            self._export(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export at the end."""
        self._export(trainer, pl_module)

    def _export(self, trainer: Trainer, pl_module: LightningModule) -> None:
        averages = [c.averaged() for c in trainer.callbacks if isinstance(c, EMA)]  # type: ignore[attr-defined]
        source: Any = next((module for module in averages if module is not None), pl_module)
        # The averaged copy was made before the codecs were bound; take the identities from the module that trains.
        source.network.codecs = dict(pl_module.network.codecs)  # type: ignore[union-attr]
        # All processes take part in gathering weights that are spread over them; the first gets them.
        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
        tensors = get_model_state_dict(source.network, options=whole)
        if trainer.is_global_zero:
            source.network.save(self.path, tensors, steps=trainer.global_step, **self.notes)  # type: ignore[arg-type]


class Throughput(Callback):
    """Clips and tokens per second, and model FLOP utilisation (Chowdhery et al. 2022, arXiv 2204.02311).

    The FLOPs of a step are those of `avgen.training.flops.batch_flops`. The peak is the device's data sheet value on
    CUDA and a measured bf16 matrix product on the CPU.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        self.every_n_steps = every_n_steps
        self._peak = 0.0
        self._reset()

    def _reset(self) -> None:
        self._start = time.perf_counter()
        self._clips = self._tokens = 0
        self._flops = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the peak."""
        self._peak = peak_flops(pl_module.device)
        self._reset()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and log at the interval."""
        self._clips += len(batch)
        self._tokens += sum(len(part) * pl_module.layout(part).num_tokens for part in batch.parts)
        self._flops += batch_flops(pl_module, batch)
        if trainer.global_step % self.every_n_steps or not trainer.global_step:
            return
        seconds = time.perf_counter() - self._start
        sharing = pl_module.context_parallel
        scale = trainer.world_size / sharing / seconds
        pl_module.log("speed/clips_per_second", self._clips * scale)
        pl_module.log("speed/tokens_per_second", self._tokens * scale)
        pl_module.log("speed/mfu", self._flops / sharing / seconds / self._peak)
        self._reset()


def peak_flops(device: torch.device) -> float:
    """Peak bf16 operations per second of a device."""
    if device.type == "cuda":
        known = get_available_flops(device, torch.bfloat16)
        if known:
            return float(known)
    a, b = (torch.randn(2048, 1024, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        torch.matmul(a, b.T)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * 2048 * 2048 * 1024 / best
