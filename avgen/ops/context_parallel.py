"""Attention over tokens that several processes share, each with a slice of the tokens of the same clips.

Queries stay where they are, keys and values of all are gathered, so that a process holds a share of all else that
grows with the number of tokens (after the all-gather form of context parallelism in Llama 3, arXiv 2407.21783).
Letters: B rows, N tokens of a sequence, n those of one process.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh


@dataclass(frozen=True)
class ContextParallel:
    """Processes that share the tokens of the same clips.

    What is gathered is the same in every process of the group, and so is a loss of it. The backward pass of `gather`
    adds up over the group, so gradients come out ``size`` times the share of a process: their mean over the group (or
    over several groups alike, as data parallelism takes it) is the gradient of the loss.

    Attributes:
        group: The processes.
        rank: Place of this one among them.
        size: Their number.
    """

    group: dist.ProcessGroup
    rank: int
    size: int

    @classmethod
    def of_world(cls, size: int, device_type: str) -> "ContextParallel":
        """The group of this process where neighbours in rank share clips; all processes have to call it.

        Raises:
            ValueError: ``size`` does not divide the number of processes.
        """
        world = dist.get_world_size() if dist.is_initialized() else 1
        check_size(size, world)
        mesh = init_device_mesh(
            device_type, (world // size, size), mesh_dim_names=("data", "context")
        )["context"]
        return cls(mesh.get_group(), mesh.get_local_rank(), size)

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "ContextParallel":
        return self

    def span(self, count: int, rank: int | None = None) -> tuple[int, int]:
        """First and one past the last of ``count`` tokens that a process holds; the shares differ by one at most."""
        rank = self.rank if rank is None else rank
        return count * rank // self.size, count * (rank + 1) // self.size

    def gather(self, local: Tensor, count: int) -> Tensor:
        """All tokens ``(B, N, ...)`` from those of each process ``(B, n, ...)``, which `span` gives it."""
        longest = -(-count // self.size)
        rows = local.transpose(0, 1)
        filler = rows.new_zeros(longest - len(rows), *rows.shape[1:])
        gathered: Tensor = _AllGather.apply(torch.cat((rows, filler)), self.group)  # type: ignore[assignment]
        pieces = gathered.split(longest)
        spans = (self.span(count, rank) for rank in range(self.size))
        real = [piece[: b - a] for piece, (a, b) in zip(pieces, spans, strict=True)]
        return torch.cat(real).transpose(0, 1)


def check_size(size: int, world: int) -> None:
    """Raise a ValueError where groups of ``size`` cannot share ``world`` processes."""
    if size < 1 or world % size:
        raise ValueError(
            f"context_parallel {size} does not divide the {world} process(es) of the run; "
            "give a divisor of devices times nodes, or start more processes"
        )


class _AllGather(torch.autograd.Function):
    """Rows of all processes one after the other; backward adds up what all of them want of this one's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: dist.ProcessGroup) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.group = group
        whole = rows.new_empty(group.size() * len(rows), *rows.shape[1:])
        dist.all_gather_into_tensor(whole, rows.contiguous(), group=group)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        own = gradient.new_empty(len(gradient) // ctx.group.size(), *gradient.shape[1:])
        dist.reduce_scatter_tensor(own, gradient.contiguous(), group=ctx.group)
        return own, None
