"""Which examples make up a batch, as a pure function of the seed and the step.

Nothing is shuffled in memory and nothing is remembered: a permutation of N positions is computed
one position at a time by a Feistel network, so starting at any step costs the same as starting at zero.
Source of the method: Luby and Rackoff 1988; cycle walking, Black and Rogaway 2002.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

_ROUNDS = 6
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def mix(*values: int) -> int:
    """A 64-bit hash of integers (the finaliser of SplitMix64, chained)."""
    state = np.uint64(0)
    with np.errstate(over="ignore"):
        for value in values:
            state = _scramble(
                state * _MULTIPLIER + np.uint64(value & 0xFFFFFFFFFFFFFFFF) + _MULTIPLIER
            )
    return int(state)


def permute(positions: np.ndarray, size: int, key: int) -> np.ndarray:
    """Images of ``positions`` under the permutation of ``range(size)`` that ``key`` names.

    Args:
        positions: ``(N,)`` integers in ``[0, size)``.
        size: Number of elements, at least 1.
        key: Any integer.

    Returns:
        ``(N,)`` int64 in ``[0, size)``.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = [np.uint64(mix(key, number)) for number in range(_ROUNDS)]
    out = np.asarray(positions).astype(np.uint64)
    assert out.size == 0 or int(out.max()) < size
    walking = np.arange(len(out))
    while walking.size:
        out[walking] = _feistel(out[walking], half, keys)
        walking = walking[out[walking] >= size]
    return out.astype(np.int64)


def _feistel(values: np.ndarray, half: np.uint64, keys: Sequence[np.uint64]) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    with np.errstate(over="ignore"):
        for key in keys:
            left, right = right, left ^ (_scramble(right * _MULTIPLIER + key) & mask)
    return (left << half) | right


def _scramble(x: Any) -> Any:
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


class Draw(NamedTuple):
    """One place in a batch: the index of its example, the number of its batch in the run, its place.

    Without packing, a step is one batch.
    """

    example: int
    step: int
    slot: int


@dataclass(frozen=True)
class Group:
    """Examples that may share a batch.

    Attributes:
        indices: ``(N,)`` example indices; a range stands for as many without holding them.
        weight: Share of the batches of an epoch, relative to the other groups.
    """

    indices: np.ndarray | range
    weight: float

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Indices at ``positions`` ``(K,)``."""
        if isinstance(self.indices, range):
            return self.indices.start + self.indices.step * positions
        return self.indices[positions]


class PureSampler:
    """Batches of examples from one group each, as a function of ``(seed, step)``.

    An epoch has a fixed number of steps, shared out to the groups by weight; which step belongs to
    which group is permuted anew in every epoch. A group deals its examples in permuted rounds, each
    example once per round, and goes on with the next round inside a batch; a group smaller than a
    batch gives smaller batches without repeats.

    The examples of a step do not depend on the number of ranks, so a run can go on with another.
    Where a small batch cannot be shared out evenly, its first examples go to two ranks.

    With ``pack`` P, step s is the batches P * s to P * s + P - 1 one after the other, each of a group
    of its own choice; draws keep the numbers of their batches. An epoch ends with the step that
    completes its batches.

    Args:
        groups: What may be batched together.
        batch_size: Examples of a batch over all ranks.
        steps_per_epoch: Length of an epoch; None: as many as all examples fill, rounded.
        seed: Any integer.
        rank: Which part of every batch is this process's.
        num_ranks: Processes that share every batch.
        pack: Batches of a step.

    Raises:
        ValueError: No examples, or sizes and weights that make no sense.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        batch_size: int,
        *,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        pack: int = 1,
    ):
        groups = [group for group in groups if len(group.indices) and group.weight > 0]
        if not groups:
            raise ValueError(
                "no examples to sample from; check the folders, the weights, the split and the "
                "exclusion list"
            )
        if batch_size < 1 or batch_size % num_ranks or not 0 <= rank < num_ranks:
            raise ValueError(
                f"batch_size {batch_size}, rank {rank} of {num_ranks}: "
                "the batch must be a positive multiple of the number of ranks"
            )
        if pack < 1:
            raise ValueError(f"pack {pack}: a step needs at least 1 batch")
        self.groups = groups
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.num_ranks = num_ranks
        self.pack = pack
        self.sizes = [min(batch_size, len(group.indices)) for group in groups]
        full = sum(len(g.indices) / s for g, s in zip(groups, self.sizes, strict=True))
        batches = steps_per_epoch * pack if steps_per_epoch else round(full)
        self.batches_per_epoch = max(batches, len(groups))
        self.steps_per_epoch = -(-self.batches_per_epoch // pack)
        self.quotas = apportion([group.weight for group in groups], self.batches_per_epoch)
        self._ends = np.cumsum(self.quotas)
        self.step = 0

    def batch(self, step: int) -> list[Draw]:
        """The examples of this rank at a global step; a pure function."""
        first = step * self.pack
        return [draw for n in range(first, first + self.pack) for draw in self._one(n)]

    def _one(self, batch: int) -> list[Draw]:
        epoch, position = divmod(batch, self.batches_per_epoch)
        place = permute(np.array([position]), self.batches_per_epoch, mix(self.seed, 1, epoch))[0]
        number = int(np.searchsorted(self._ends, place, side="right"))
        turn = epoch * self.quotas[number] + int(place - self._ends[number] + self.quotas[number])
        indices = self._deal(number, turn)
        slots = range(
            self.rank, -(-len(indices) // self.num_ranks) * self.num_ranks, self.num_ranks
        )
        return [Draw(int(indices[slot % len(indices)]), batch, slot) for slot in slots]

    def _deal(self, number: int, turn: int) -> np.ndarray:
        """Examples of the ``turn``-th batch of a group since the start of the run."""
        group, size = self.groups[number], self.sizes[number]
        rounds, positions = np.divmod(turn * size + np.arange(size), len(group.indices))
        parts = [
            permute(positions[rounds == r], len(group.indices), mix(self.seed, 2, number, int(r)))
            for r in np.unique(rounds)
        ]
        return group.at(np.concatenate(parts))

    def __iter__(self) -> Iterator[list[Draw]]:
        """One epoch's number of batches, from the current step on; leaves `step` alone."""
        return (self.batch(step) for step in range(self.step, self.step + self.steps_per_epoch))

    def __len__(self) -> int:
        return self.steps_per_epoch

    def state_dict(self) -> dict[str, int]:
        """All there is to remember: the step of the next batch."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at the step of ``state``."""
        self.step = state["step"]


def apportion(weights: Sequence[float], total: int) -> list[int]:
    """Whole shares of ``total`` nearest to ``weights``, at least one each (largest remainders).

    Raises:
        ValueError: ``total`` is smaller than the number of weights.
    """
    if total < len(weights):
        raise ValueError(f"{total} steps cannot serve {len(weights)} groups; raise steps_per_epoch")
    exact = np.asarray(weights, dtype=np.float64) / sum(weights) * total
    shares = np.maximum(np.floor(exact).astype(np.int64), 1)
    while shares.sum() < total:
        shares[np.argmax(exact - shares)] += 1
    while shares.sum() > total:
        shares[np.argmin(np.where(shares > 1, exact - shares, np.inf))] -= 1
    return [int(share) for share in shares]
