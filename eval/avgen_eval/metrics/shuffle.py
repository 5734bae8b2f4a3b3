"""Whether picture and sound belong together: what exchanging the partners of pairs costs a score.

Shapes: N pairs, A features of the sound, V of the picture.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from avgen_eval.metrics.features import feature_matrix


@dataclass(frozen=True, kw_only=True)
class ShuffleGap:
    """What exchanging the partners of pairs does to a score.

    Attributes:
        paired: The score of the pairs as they are.
        shuffled: Mean score over exchanges.
        gap: By how much pairs are better than exchanged ones; near 0 where streams do not depend on
            each other. A random order leaves one prompt in place on average, so that it is short of
            ``1 / num_prompts`` of itself.
        z: ``gap`` in standard deviations over exchanges; None where all exchanges score alike.
        p_value: Share of exchanges, the given order included, that are at least as good.
        num_pairs: N.
        num_prompts: How many prompts they are of; N where each pair is a prompt of its own.
    """

    paired: float
    shuffled: float
    gap: float
    z: float | None
    p_value: float
    num_pairs: int
    num_prompts: int


@dataclass(frozen=True, kw_only=True)
class _Prompts:
    """Which pairs belong together.

    Attributes:
        prompt: Number of the prompt of each pair, ``(N,)``.
        seed: How many pairs of its prompt come before it, ``(N,)``.
        rows: Pairs of each prompt, taken in turn up to the largest number of seeds.
    """

    prompt: np.ndarray
    seed: np.ndarray
    rows: np.ndarray

    def exchanged(self, partners: np.ndarray) -> np.ndarray:
        """Row of the picture that each sound gets when its prompt gets those of ``partners``."""
        return self.rows[partners[self.prompt], self.seed]


def shuffle_gap(
    score: Callable[[Any, Any], float | None],
    audio: Sequence[Any] | np.ndarray,
    video: Sequence[Any] | np.ndarray,
    generator: np.random.Generator,
    *,
    prompts: Sequence[Hashable] | None = None,
    better: Literal["higher", "lower"] = "higher",
    permutations: int = 1000,
    max_partners: int | None = None,
) -> ShuffleGap:
    """How much the mean score of pairs worsens when partners are exchanged.

    The control of any pair score: one that does not worsen measures something else. Each pair is
    scored once, so there are at most N^2 calls of ``score``.

    Clips of one prompt are alike and therefore not independent: exchanging them one by one gives
    p-values that are too small (with three seeds below 0.05 in up to 17% of the sets without
    dependence). With ``prompts``, whole prompts are exchanged: sound k of a prompt gets picture k of
    another prompt, and never that of another seed. Where that prompt has fewer seeds, its pictures
    are taken in turn; the p-value is exact where all have as many.

    Fails on: prompts that are alike, whose partners may well be exchanged.

    Args:
        score: Of one sound and one picture; None where it cannot be measured, which is left out.
        audio: N sounds, or a matrix of one vector each.
        video: Their pictures, in the same order.
        generator: Draws the exchanges.
        prompts: Of each pair; None where each is of its own.
        better: Which direction of the score is better.
        permutations: How many exchanges.
        max_partners: Score each sound with so many pictures at most, where calls are expensive. The
            exchanges are then rotations of one random order, and the p-value is at least
            ``1 / (max_partners + 1)``.

    Raises:
        ValueError: Fewer than two pairs or prompts, unequal numbers, or pairs none of which can be
            scored.
    """
    size = num_pairs(audio, video)
    rows = np.arange(size)
    scores, known = np.full((size, size), np.nan), np.zeros((size, size), bool)

    def mean_score(order: np.ndarray) -> float:
        for i in np.flatnonzero(~known[rows, order]).tolist():
            value = score(audio[i], video[int(order[i])])
            scores[i, order[i]] = np.nan if value is None else value
        known[rows, order] = True
        values = scores[rows, order]
        return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else np.nan

    pairs = _grouped(size, prompts)
    return _gap(mean_score, pairs, _orders(pairs, permutations, max_partners, generator), better)


def set_shuffle_gap(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    audio: Any,
    video: Any,
    generator: np.random.Generator,
    *,
    prompts: Sequence[Hashable] | None = None,
    better: Literal["higher", "lower"] = "lower",
    permutations: int = 100,
) -> ShuffleGap:
    """`shuffle_gap` of a statistic of whole sets, such as a joint distance from a reference.

    Args:
        statistic: Of ``(N, A)`` and ``(N, V)`` vectors whose rows pair up.
        audio: ``(N, A)`` vectors of the sound.
        video: ``(N, V)`` vectors of the picture.
        generator: Draws the exchanges.
        prompts: Of each row; see `shuffle_gap`.
        better: Which direction of the statistic is better.
        permutations: How many exchanges, each with one call of ``statistic``.

    Raises:
        ValueError: Fewer than two pairs or prompts, or unequal numbers.
    """
    audio, video = feature_matrix(audio, "audio"), feature_matrix(video, "video")
    pairs = _grouped(num_pairs(audio, video), prompts)
    orders = _orders(pairs, permutations, None, generator)
    return _gap(lambda order: float(statistic(audio, video[order])), pairs, orders, better)


def num_pairs(audio: Sequence[Any] | np.ndarray, video: Sequence[Any] | np.ndarray) -> int:
    """How many pairs; ValueError where they do not pair up, or are fewer than two."""
    if len(audio) != len(video):
        raise ValueError(
            f"{len(audio)} sounds and {len(video)} pictures do not pair up; give one of each per clip"
        )
    if len(audio) < 2:
        raise ValueError(f"{len(audio)} pairs cannot be exchanged; give at least 2")
    return len(audio)


def _gap(
    statistic: Callable[[np.ndarray], float],
    pairs: _Prompts,
    orders: list[np.ndarray],
    better: Literal["higher", "lower"],
) -> ShuffleGap:
    if better not in ("higher", "lower"):
        raise ValueError(f"better is {better!r}; use 'higher' or 'lower'")
    size, sign = len(orders[0]), 1 if better == "higher" else -1
    paired = statistic(np.arange(size))
    shuffled = np.array([statistic(order) for order in orders])
    shuffled = shuffled[np.isfinite(shuffled)]
    if not np.isfinite(paired) or not len(shuffled):
        raise ValueError(
            f"none of the {size} pairs, or of the exchanged ones, could be scored; check the score on "
            "one of them"
        )
    gap = sign * (paired - float(shuffled.mean()))
    deviation = float(shuffled.std(ddof=1)) if len(shuffled) > 1 else 0.0
    slack = 1e-9 * max(1e-300, abs(paired), float(np.abs(shuffled).max()))
    as_good = int(np.sum(sign * (shuffled - paired) >= -slack))
    return ShuffleGap(
        paired=paired,
        shuffled=float(shuffled.mean()),
        gap=gap,
        z=gap / deviation if deviation > slack else None,
        p_value=(1 + as_good) / (1 + len(shuffled)),
        num_pairs=size,
        num_prompts=len(pairs.rows),
    )


def _grouped(size: int, prompts: Sequence[Hashable] | None) -> _Prompts:
    if prompts is None:
        prompts = range(size)
    if len(prompts) != size:
        raise ValueError(f"{len(prompts)} prompts for {size} pairs; give that of each pair")
    rows: dict[Hashable, list[int]] = {}
    seed = []
    for row, prompt in enumerate(prompts):
        own = rows.setdefault(prompt, [])
        seed.append(len(own))
        own.append(row)
    if len(rows) < 2:
        raise ValueError(
            f"all {size} pairs are of one prompt, which has no other to exchange with; give clips of "
            "at least 2"
        )
    number = {prompt: index for index, prompt in enumerate(rows)}
    most = max(seed) + 1
    return _Prompts(
        prompt=np.array([number[prompt] for prompt in prompts]),
        seed=np.array(seed),
        rows=np.array([np.resize(own, most) for own in rows.values()]),
    )


def _orders(
    pairs: _Prompts,
    permutations: int,
    max_partners: int | None,
    generator: np.random.Generator,
) -> list[np.ndarray]:
    """Exchanges of prompts, each as the row of the picture that each sound gets."""
    if permutations < 1 or (max_partners is not None and max_partners < 1):
        raise ValueError(
            f"permutations is {permutations} and max_partners {max_partners}; give at least 1"
        )
    size = len(pairs.rows)
    if max_partners is None or max_partners >= size:
        return [pairs.exchanged(generator.permutation(size)) for _ in range(permutations)]
    order = generator.permutation(size)
    place = np.argsort(order)
    steps = 1 + generator.permutation(size - 1)[:max_partners]
    return [pairs.exchanged(order[(place + step) % size]) for step in steps]
