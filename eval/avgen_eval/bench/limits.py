"""How much memory a run takes, and whether a longer one still fits into memory and time."""

import os
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MIB = 2**20


def peak_bytes(run: Callable[[], object], device: str) -> int:
    """Most bytes of tensors that were alive at once during a run, beyond those from before it.

    On CUDA by its allocator; elsewhere by following every tensor that an operator returns, so without the scratch
    memory inside of operators.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with _LiveTensors() as live:
        run()
    return live.peak


@dataclass
class Budget:
    """What sizes of a case still fit, from what its smaller sizes took.

    Attributes:
        seconds: For all turns of a row.
        turns: How often a row runs.
        device: Where it runs.
    """

    seconds: float
    turns: int
    device: str
    _known: dict[Hashable, tuple[float, float]] = field(default_factory=dict)

    def check(
        self, case: Hashable, size: float, needed_bytes: int = 0, *, power: float = 2.0
    ) -> None:
        """Refuse a size that would take too long if time grew with its ``power``, or more memory than there is.

        Raises:
            ValueError: What it would take, and what there is.
        """
        if needed_bytes > (free := free_bytes(self.device)):
            raise ValueError(
                f"needs {needed_bytes / MIB:.0f} MiB, but {free / MIB:.0f} MiB are free"
            )
        known, took = self._known.get(case, (size, 0.0))
        expected = took * (size / known) ** power * self.turns
        if expected > self.seconds:
            raise ValueError(
                f"up to {expected:.0f} s are expected from the {took:.3g} s at {known:g}, more than the "
                f"{self.seconds:g} s of a row; raise --budget"
            )

    def __contains__(self, case: Hashable) -> bool:
        """Whether it is known what a size of the case took."""
        return case in self._known

    def record(self, case: Hashable, size: float, seconds: float) -> None:
        """Remember what a size took."""
        self._known[case] = (size, seconds)


def free_bytes(device: str) -> int:
    """Memory that is free on a device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes behind all tensors that operators return, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._now -= size
