"""What a trainer says of one process among several, without starting them."""

from types import SimpleNamespace
from typing import Any

from lightning.pytorch.loops.progress import _ProcessedTracker


def process(rank: int, ranks: int, turns: int = 1, context: int = 1) -> Any:
    """A trainer of ``ranks`` processes at its start, with ``turns`` forward passes a step."""
    progress = SimpleNamespace(total=_ProcessedTracker())
    return SimpleNamespace(
        world_size=ranks,
        global_rank=rank,
        accumulate_grad_batches=turns,
        lightning_module=SimpleNamespace(context_parallel=context),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
        _accelerator_connector=SimpleNamespace(use_distributed_sampler=False),
    )
