"""What a trainer says of its batches: how many are done, and which part of each is this process's."""

from lightning.pytorch import Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker

from avgen.data.batch import WHOLE, Share


def batches_trained(trainer: Trainer | None) -> int | None:
    """Training batches of this process that were processed to their end; None without a trainer."""
    if trainer is None:
        return None
    total = trainer.fit_loop.epoch_loop.batch_progress.total
    assert isinstance(total, _ProcessedTracker)
    return total.processed


def shares(trainer: Trainer | None) -> list[Share]:
    """The shares of the batch of a step that fall to this process, one for each forward pass.

    Processes that share one clip's tokens (`ContextParallel`) have the same share. Several forward passes
    make a step where gradients are accumulated.

    Raises:
        ValueError: The trainer would replace what shares batches out.
    """
    if trainer is None:
        return [WHOLE]
    if trainer.world_size > 1 and trainer._accelerator_connector.use_distributed_sampler:
        raise ValueError(
            "set `use_distributed_sampler: false` in the trainer: "
            "the data module itself shares batches out among processes"
        )
    context = getattr(trainer.lightning_module, "context_parallel", 1)
    processes, rank = trainer.world_size // context, trainer.global_rank // context
    turns = trainer.accumulate_grad_batches
    return [Share(turn * processes + rank, processes * turns) for turn in range(turns)]
