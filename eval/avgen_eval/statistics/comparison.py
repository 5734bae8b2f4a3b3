"""Is one model better than another on the same prompts: paired difference, test, and what could be seen.

Seeds are averaged per prompt first, so that a prompt counts once and differences are independent. Two
separate intervals say much less: most of the variation is between prompts, and the pairing removes it.
Shapes: P prompts in both sets.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from scipy.stats import false_discovery_control, t

from avgen_eval.statistics.intervals import LEVEL, clustered_interval

FLIPS = 10_000
EXACT_UP_TO = 16
POWER = 0.8

Prompt = TypeVar("Prompt", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Candidate against baseline over the prompts that both have.

    Attributes:
        difference: Mean of candidate minus baseline.
        low: End of its interval; None with fewer than two prompts.
        high: Likewise.
        p_value: Of the sign-flip test that differences are symmetric around zero.
        exact: Whether all sign patterns were counted, not a sample of them.
        minimum_effect: Smallest true difference that such a set would find in 80% of cases; None with
            fewer than two prompts. A difference that is not significant and an effect that matters
            below this mean: not enough prompts.
        wins: Prompts on which the candidate is better.
        ties: Prompts on which they differ by no more than the tolerance.
        losses: Prompts on which the baseline is better.
        num_prompts: P.
        num_unpaired: Prompts that only one of the two has, left out.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float
    exact: bool
    minimum_effect: float | None
    wins: int
    ties: int
    losses: int
    num_prompts: int
    num_unpaired: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def prompt_means(values: Sequence[float | None], prompts: Sequence[Prompt]) -> dict[Prompt, float]:
    """Mean over the clips of each prompt, those left out that could not be measured.

    Raises:
        ValueError: Unequal lengths, or values that are not finite.
    """
    if len(values) != len(prompts):
        raise ValueError(
            f"{len(values)} values and {len(prompts)} prompts; give one prompt per value"
        )
    groups: dict[Prompt, list[float]] = {}
    for value, prompt in zip(values, prompts, strict=True):
        if value is not None:
            groups.setdefault(prompt, []).append(_finite(value, prompt))
    return {prompt: float(np.mean(group)) for prompt, group in groups.items()}


def compare(
    candidate: Mapping[Prompt, float],
    baseline: Mapping[Prompt, float],
    generator: np.random.Generator,
    *,
    better: Literal["higher", "lower"] = "higher",
    tolerance: float = 0.0,
    level: float = LEVEL,
    flips: int = FLIPS,
) -> Comparison | None:
    """Paired comparison by prompt.

    Fails on: prompts that are paraphrases of each other, which are not independent; the mean of a few
    prompts with huge differences, for which wins and losses say more.

    Args:
        candidate: Value by prompt, as from `prompt_means`.
        baseline: Likewise.
        generator: Draws resamples and sign flips.
        better: Which direction is better, for wins and losses.
        tolerance: Largest difference that counts as a tie.
        level: Coverage of the interval; ``1 - level`` is the level of the test in ``minimum_effect``.
        flips: See `sign_flip_test`.

    Returns:
        None where either set has no values.

    Raises:
        ValueError: No prompt is in both sets, values that are not finite, or an unknown option.
    """
    if better not in ("higher", "lower"):
        raise ValueError(f"better is {better!r}; use 'higher' or 'lower'")
    if not candidate or not baseline:
        return None
    shared = [prompt for prompt in candidate if prompt in baseline]
    if not shared:
        raise ValueError(
            f"none of the {len(candidate)} prompts of the candidate is among the {len(baseline)} of "
            "the baseline; evaluate both on one suite"
        )
    differences = np.array(
        [_finite(candidate[key], key) - _finite(baseline[key], key) for key in shared]
    )
    interval = clustered_interval(differences.tolist(), shared, generator, level=level)
    assert interval is not None
    p_value, exact = sign_flip_test(differences, generator, flips=flips)
    gains = differences if better == "higher" else -differences
    return Comparison(
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        exact=exact,
        minimum_effect=minimum_effect(differences, level=level),
        wins=int(np.sum(gains > tolerance)),
        ties=int(np.sum(np.abs(gains) <= tolerance)),
        losses=int(np.sum(gains < -tolerance)),
        num_prompts=len(shared),
        num_unpaired=len(candidate) + len(baseline) - 2 * len(shared),
    )


def sign_flip_test(
    differences: Sequence[float] | np.ndarray,
    generator: np.random.Generator,
    *,
    flips: int = FLIPS,
) -> tuple[float, bool]:
    """Two-sided p-value of the mean against all ways to flip signs, and whether all were counted.

    Up to 16 differences every pattern is counted. Above, p is ``(1 + k) / (1 + flips)`` with k the
    random patterns whose mean is at least as far from zero, which is valid at any number of flips.

    Raises:
        ValueError: No differences, values that are not finite, or fewer than one flip.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or flips < 1:
        raise ValueError(
            f"differences of shape {values.shape} with {flips} flips; "
            "give at least one finite difference and one flip"
        )
    exact = len(values) <= EXACT_UP_TO
    sums = _all_sums(values) if exact else _random_sums(values, flips, generator)
    slack = 1e-9 * np.abs(values).sum()
    as_far = int(np.sum(np.abs(sums) >= abs(values.sum()) - slack))
    return (as_far / len(sums), True) if exact else ((1 + as_far) / (1 + flips), False)


def minimum_effect(
    differences: Sequence[float] | np.ndarray, *, level: float = LEVEL, power: float = POWER
) -> float | None:
    """Smallest true mean difference found with the given power (Bloom 1995).

    ``(t_{(1 + level) / 2} + t_{power}) * s / sqrt(P)`` with P - 1 degrees of freedom and ``s`` the
    standard deviation of the differences. None with fewer than two.

    Raises:
        ValueError: Level or power is not between 0 and 1.
    """
    if not (0 < level < 1 and 0 < power < 1):
        raise ValueError(f"level is {level} and power {power}; give shares between 0 and 1")
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return None
    quantiles = t.ppf([(1 + level) / 2, power], len(values) - 1).sum()
    return float(quantiles * values.std(ddof=1) / np.sqrt(len(values)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected so that any false find among all tests is as rare as stated (Holm 1979).

    The i-th smallest of m becomes the largest of ``(m - j + 1) p_(j)`` over j <= i, at most 1. For a
    few comparisons of which each is a claim.

    Raises:
        ValueError: A p-value is not between 0 and 1.
    """
    values = _p_values(p_values)
    order = np.argsort(values, kind="stable")
    steps = (len(values) - np.arange(len(values))) * values[order]
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected.tolist()


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for the share of false finds among finds (Benjamini and Hochberg 1995).

    The i-th smallest of m becomes the smallest of ``m p_(j) / j`` over j >= i. For many metrics that
    are searched for differences; valid for independent or positively dependent tests.

    Raises:
        ValueError: A p-value is not between 0 and 1.
    """
    values = _p_values(p_values)
    return false_discovery_control(values, method="bh").tolist() if len(values) else []


def _all_sums(values: np.ndarray) -> np.ndarray:
    """Sums under every pattern of signs, ``(2^P,)``."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _random_sums(values: np.ndarray, flips: int, generator: np.random.Generator) -> np.ndarray:
    """Sums under random patterns, in blocks that bound the memory."""
    block = max(1, 4_000_000 // len(values))
    sizes = [min(block, flips - start) for start in range(0, flips, block)]
    signs = (generator.integers(2, size=(size, len(values)), dtype=np.int8) for size in sizes)
    return np.concatenate([(2 * sign - 1) @ values for sign in signs])


def _p_values(p_values: Sequence[float]) -> np.ndarray:
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values are {list(p_values)}; give numbers between 0 and 1")
    return values


def _finite(value: float, prompt: Hashable) -> float:
    if not np.isfinite(value):
        raise ValueError(
            f"a value of prompt {prompt!r} is {value}; what cannot be measured must be left out"
        )
    return float(value)
