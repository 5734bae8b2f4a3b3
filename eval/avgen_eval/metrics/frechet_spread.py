"""How far a Frechet distance can be trusted: its spread over subsets, and its floor between real halves.

Shapes: N and M vectors, D features, G groups of D / G features.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from avgen_eval.metrics.frechet import checked_sets, frechet_distance

GOOD_RATIO = 10
SUBSETS = 50


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Distances between random halves.

    Attributes:
        mean: Their mean: the distance at half the sizes, which is larger than at full size.
        deviation: Their standard deviation. Half of a set drawn without replacement varies as much
            around the set as a set of full size does around the truth, so this estimates the
            standard error of the distance at full size.
        low: 2.5% quantile.
        high: 97.5% quantile.
    """

    mean: float
    deviation: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class FrechetReport:
    """A distance with all that is needed to read it.

    Attributes:
        value: Distance between the two sets.
        spread: Of distances between halves of both.
        floor: Distance between two halves of the reference, which have nothing to tell them apart.
        ratio: ``spread.mean / floor``, both between halves; 1 is as good as real where both sets
            are of one size. It varied by 0.17 between Gaussian sets of one distribution with 6
            features, and by 0.02 with 64. None where the floor is zero.
        num_vectors: Size of the set under test.
        num_reference: Size of the reference.
        dim: Features per group.
        notes: What limits the value, in words.
    """

    value: float
    spread: Spread
    floor: float
    ratio: float | None
    num_vectors: int
    num_reference: int
    dim: int
    notes: tuple[str, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """Ends around ``value`` of what other sets of these sizes would give in 95% of cases.

        The quantiles of the halves, moved from their mean to the value (halves are farther apart than
        the sets, so their own quantiles may lie above the value). It is about the distance at these
        sizes, with its bias, not about the distance between the distributions.
        """
        shift = self.value - self.spread.mean
        return max(0.0, self.spread.low + shift), self.spread.high + shift


def frechet_spread(
    features: Any,
    reference: Any,
    generator: np.random.Generator,
    *,
    subsets: int = SUBSETS,
    method: Literal["halves", "bootstrap"] = "halves",
    ddof: int = 1,
    groups: int = 1,
    force: bool = False,
) -> Spread:
    """Distances between random halves of both sets, drawn without replacement.

    Args:
        features: ``(N, D)`` vectors under test.
        reference: ``(M, D)`` vectors to compare with.
        generator: Draws the halves.
        subsets: How many.
        method: ``halves``; ``bootstrap`` is refused with the reason.
        ddof: See `frechet_distance`.
        groups: See `frechet_distance`.
        force: See `frechet_distance`; the limit is on the whole sets.

    Raises:
        ValueError: The bootstrap was asked for, or as `frechet_distance`; fewer than 4 vectors.
    """
    if method != "halves":
        raise ValueError(
            f"method is {method!r}; use 'halves'. A bootstrap of a Frechet distance is biased: drawing "
            "with replacement repeats vectors, which moves the covariances, so its interval can "
            "exclude both the distance and the truth"
        )
    features, reference = checked_sets(features, reference, groups=groups, force=force, least=4)
    values = [
        frechet_distance(
            _half(features, generator)[0],
            _half(reference, generator)[0],
            ddof=ddof,
            groups=groups,
            force=True,
        )
        for _ in range(subsets)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    return Spread(
        mean=float(np.mean(values)),
        deviation=float(np.std(values, ddof=1)) if subsets > 1 else 0.0,
        low=float(low),
        high=float(high),
    )


def frechet_floor(
    reference: Any,
    generator: np.random.Generator,
    *,
    splits: int = 10,
    ddof: int = 1,
    groups: int = 1,
    force: bool = False,
) -> float:
    """Mean distance between two disjoint random halves of the reference.

    What a perfect model would get at that size. A distance says something only above it.

    Raises:
        ValueError: As `frechet_distance`; fewer than 4 vectors.
    """
    reference = checked_sets(reference, reference, groups=groups, force=force, least=4)[1]
    halves = [_half(reference, generator) for _ in range(splits)]
    values = [frechet_distance(a, b, ddof=ddof, groups=groups, force=True) for a, b in halves]
    return float(np.mean(values))


def frechet_report(
    features: Any,
    reference: Any,
    generator: np.random.Generator,
    *,
    ddof: int = 1,
    groups: int = 1,
    force: bool = False,
) -> FrechetReport:
    """Distance, spread, floor, and notes on the sizes.

    Raises:
        ValueError: As `frechet_distance`; fewer than 4 vectors.
    """
    options: dict[str, Any] = {"ddof": ddof, "groups": groups, "force": force}
    spread = frechet_spread(features, reference, generator, **options)
    floor = frechet_floor(reference, generator, **options)
    sizes, width = (len(features), len(reference)), np.shape(features)[1] // groups
    notes = []
    if min(sizes) < GOOD_RATIO * width:
        notes.append(
            f"smaller set has {min(sizes)} vectors for {width} features; below {GOOD_RATIO * width} "
            "the distance is biased upwards, compare only at equal sizes"
        )
    if sizes[0] != sizes[1]:
        notes.append(f"sets of {sizes[0]} and {sizes[1]} vectors; the ratio to the floor is rough")
    return FrechetReport(
        value=frechet_distance(features, reference, **options),
        spread=spread,
        floor=floor,
        ratio=spread.mean / floor if floor > 0 else None,
        num_vectors=sizes[0],
        num_reference=sizes[1],
        dim=width,
        notes=tuple(notes),
    )


def _half(matrix: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order, size = generator.permutation(len(matrix)), len(matrix) // 2
    return matrix[order[:size]], matrix[order[size : 2 * size]]
