"""FSDP2: weights, gradients, averages and optimiser state spread over all processes, and checkpoints of them."""

import shutil
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.utilities.load import _METADATA_FILENAME
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

_CURRENT = "current_model_state"  # where averages are kept, these are the weights that train


class FSDP2(ModelParallelStrategy):
    """Fully sharded data parallelism (PyTorch's ``fully_shard``), over all processes; ``fsdp2`` to the trainer.

    A checkpoint is a folder to which every process writes its shards. Any number of processes can go on from it.
    It is written beside its place and moved there when it is complete.

    Args:
        process_group_backend: None: that of the device.
        timeout: Of a collective operation.
    """

    def __init__(
        self,
        process_group_backend: str | None = None,
        timeout: timedelta = timedelta(minutes=30),
    ) -> None:
        super().__init__(
            tensor_parallel_size=1, process_group_backend=process_group_backend, timeout=timeout
        )

    def setup_environment(self) -> None:
        """Start the processes' group."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint folder; all processes take part."""
        path = Path(self.broadcast(filepath))
        new, old = path.parent / ".writing", path.parent / ".replaced"
        spread = {
            f"optimizer_{i}": state
            for i, state in enumerate(checkpoint.pop("optimizer_states", []))
        }
        spread |= {
            key: checkpoint.pop(key) for key in ("state_dict", _CURRENT) if key in checkpoint
        }
        if self.is_global_zero:
            for leftover in (new, old):
                shutil.rmtree(leftover, ignore_errors=True)
            new.mkdir(parents=True)
        self.barrier()
        save(spread, checkpoint_id=new)
        if self.is_global_zero:
            torch.save(checkpoint, new / _METADATA_FILENAME)
            if path.exists():
                path.rename(old)
            new.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        self.barrier()

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint folder into the weights and the optimiser, and return what else it holds.

        Raises:
            ValueError: The path is not such a folder.
        """
        path = Path(self.broadcast(checkpoint_path))
        if not (path / _METADATA_FILENAME).is_file():
            raise ValueError(
                f"{path}: not a folder with shards of a checkpoint, which FSDP2 writes; resume with the strategy "
                "that wrote it, or start from exported weights (`init_from`)"
            )
        checkpoint = super().load_checkpoint(path, weights_only)
        assert self.model is not None
        weights = get_model_state_dict(self.model)
        checkpoint["state_dict"] = weights
        if "averaging_state" in checkpoint:
            kept = {_CURRENT: {name: torch.empty_like(w) for name, w in weights.items()}}  # type: ignore[arg-type]
            load(kept, checkpoint_id=path)
            checkpoint |= kept
        return checkpoint


StrategyRegistry.register("fsdp2", FSDP2, description="weights spread over all processes")


def shard(module: LightningModule, blocks: Iterable[nn.Module], strategy: object) -> None:
    """Spread a module over the processes of its mesh, block by block; those of the first process are the weights.

    Raises:
        ValueError: Another strategy than `FSDP2`.
    """
    if not isinstance(strategy, FSDP2):
        raise ValueError(
            f"strategy {type(strategy).__name__} cannot spread the weights; use fsdp2 or ddp"
        )
    if isinstance(module, FSDPModule):
        return
    mesh = strategy.device_mesh["data_parallel"]
    for weight in module.parameters():
        first = weight.data.to(strategy.root_device)
        dist.broadcast(first, src=0)
        weight.data.copy_(first)
    # Sharded again after each forward pass: validation would leave whole weights that no longer follow their shards.
    for part in (*blocks, module):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    for step in ("training_step", "validation_step"):
        register_fsdp_forward_method(module, step)
