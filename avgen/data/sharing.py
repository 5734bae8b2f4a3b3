"""What a trainer says of its batches: how many are done, which part of each is this process's, of which data."""

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker

from avgen.data.batch import WHOLE, Share
from avgen.data.schema import DatasetError


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


def run_state(trainer: Trainer | None, fingerprint: str) -> dict[str, Any]:
    """What the data of a run were, to compare on resume; the step is the trainer's."""
    return {"fingerprint": fingerprint, "step": batches_trained(trainer) or 0}


def check_same_data(state: dict[str, Any], fingerprint: str, subject: str, parts: str) -> None:
    """Check that the data are those of the checkpoint that `run_state` was kept in.

    Args:
        state: What it gave.
        fingerprint: Of the data now.
        subject: What is compared, in the plural.
        parts: What a fingerprint is made of, for whoever looks for the difference.

    Raises:
        DatasetError: They are not, so that the run could not go on exactly.
    """
    if state["fingerprint"] != fingerprint:
        raise DatasetError(
            f"{subject} differ from those of the checkpoint at step {state['step']} ({parts}), so the run "
            "cannot go on exactly; restore them, or start a new run from its weights"
        )
