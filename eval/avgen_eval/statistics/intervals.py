"""Confidence intervals over clips whose prompts repeat, and of proportions.

Clips of one prompt are not independent: whole prompts are resampled, with all their seeds. Bounds are
those of the bootstrap, corrected for bias and skewness (BCa, Efron 1987), at levels widened for the
number of prompts as Student's t is (Hesterberg 2015). The plain percentile interval is too narrow by
``sqrt((P - 1) / P)`` and by the normal quantile.
Shapes: N clips, P prompts, R resamples, K quantities.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import binomtest, norm, t

RESAMPLES = 2000
LEVEL = 0.95

Method = Literal["bca", "percentile"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with the ends of its confidence interval.

    Attributes:
        value: Of all clips.
        low: None where there are fewer than two prompts.
        high: Likewise.
        level: Nominal coverage.
        method: How the ends were found.
        num_values: Clips that could be measured.
        num_clusters: Prompts with at least one of them.
    """

    value: float
    low: float | None
    high: float | None
    level: float
    method: str
    num_values: int
    num_clusters: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def clustered_interval(
    values: Sequence[float | None],
    prompts: Sequence[Hashable],
    generator: np.random.Generator,
    *,
    statistic: Callable[[np.ndarray], float] | None = None,
    method: Method = "bca",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """Interval of the mean over clips, or of another statistic, with prompts as clusters.

    Fails on: few prompts and heavy tails. In 6,000 simulations of three seeds each, 95% intervals of
    the mean held the truth for 60, 20 and 10 prompts in 95%, 95%, 94% of cases where prompts are
    normal, 94%, 93%, 92% where exponential, and 92%, 90%, 88% where log-normal. Also on values that
    are all equal, whose interval has no width (for shares use `wilson_interval`), and on Frechet
    distances, which resampling with replacement biases.

    Args:
        values: One per clip; None where it could not be measured, which is left out.
        prompts: The prompt of each clip.
        generator: Draws the resamples.
        statistic: Of the values of all clips, ``(N,)``; their mean if None, which is much faster.
        method: ``bca``, or ``percentile`` for statistics that are not smooth, such as medians.
        level: Nominal coverage.
        resamples: How many.

    Returns:
        None where no clip could be measured.

    Raises:
        ValueError: Unequal lengths, values that are not finite, or an unknown option.
    """
    _check_options(method, level, resamples)
    groups = _by_prompt(values, prompts)
    if not groups:
        return None
    clips = np.concatenate(groups)
    value = float(np.mean(clips) if statistic is None else statistic(clips))
    low = high = None
    if len(groups) > 1:
        draws = _draws(len(groups), resamples, generator)
        if statistic is None:
            sums, counts = (np.array([f(g) for g in groups], float)[None] for f in (np.sum, len))
            ends = _mean_ends(sums, counts, draws, method, level)
        else:
            ends = _statistic_ends(groups, statistic, value, draws, method, level)
        low, high = (float(end[0]) for end in ends)
    return Interval(
        value=value,
        low=low,
        high=high,
        level=level,
        method=method,
        num_values=len(clips),
        num_clusters=len(groups),
    )


def mean_intervals(
    sums: np.ndarray,
    counts: np.ndarray,
    generator: np.random.Generator,
    *,
    method: Method = "bca",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals of many means at once, all with the same resamples of prompts.

    Args:
        sums: ``(K, P)`` sum over the clips of each prompt.
        counts: ``(K, P)`` how many clips that is, at least 1.
        generator: Draws the resamples.
        method: See `clustered_interval`.
        level: Nominal coverage.
        resamples: How many.

    Returns:
        Lower and upper ends, ``(K,)`` each.

    Raises:
        ValueError: Shapes differ, fewer than two prompts, a prompt without clips, or an unknown
            option.
    """
    _check_options(method, level, resamples)
    sums, counts = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    if sums.ndim != 2 or sums.shape != counts.shape or sums.shape[1] < 2:
        raise ValueError(
            f"sums have shape {sums.shape} and counts {counts.shape}; "
            "give (quantities, prompts) twice, with at least 2 prompts"
        )
    if counts.min(initial=1) < 1:
        raise ValueError("a prompt has no clips; leave it out")
    return _mean_ends(sums, counts, _draws(sums.shape[1], resamples, generator), method, level)


def wilson_interval(successes: int, trials: int, *, level: float = LEVEL) -> Interval | None:
    """Score interval of a share of independent trials (Wilson 1927); it has width at 0% and 100%.

    Fails on: trials that share a prompt, for which it is too narrow: pass one trial per prompt, or use
    `clustered_interval` on zeros and ones.

    Returns:
        None where there are no trials.

    Raises:
        ValueError: Successes are not between 0 and the number of trials.
    """
    _check_options("bca", level, 1)
    if not 0 <= successes <= trials:
        raise ValueError(
            f"{successes} successes of {trials} trials; successes must be between 0 and the trials"
        )
    if trials == 0:
        return None
    ends = binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Interval(
        value=successes / trials,
        low=float(ends.low),
        high=float(ends.high),
        level=level,
        method="wilson",
        num_values=trials,
        num_clusters=trials,
    )


def _by_prompt(values: Sequence[float | None], prompts: Sequence[Hashable]) -> list[np.ndarray]:
    """Measured values of each prompt, in order of first appearance."""
    if len(values) != len(prompts):
        raise ValueError(
            f"{len(values)} values and {len(prompts)} prompts; give one prompt per value"
        )
    groups: dict[Hashable, list[float]] = {}
    for index, (value, prompt) in enumerate(zip(values, prompts, strict=True)):
        if value is None:
            continue
        if not np.isfinite(value):
            raise ValueError(
                f"value {index} of prompt {prompt!r} is {value}; "
                "what cannot be measured must be None"
            )
        groups.setdefault(prompt, []).append(float(value))
    return [np.array(group) for group in groups.values()]


def _draws(size: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each prompt comes in each resample, ``(R, P)``."""
    return generator.multinomial(size, np.full(size, 1 / size), size=resamples)


def _mean_ends(
    sums: np.ndarray, counts: np.ndarray, draws: np.ndarray, method: Method, level: float
) -> tuple[np.ndarray, np.ndarray]:
    totals, sizes = sums.sum(axis=1, keepdims=True), counts.sum(axis=1, keepdims=True)
    resampled = (sums @ draws.T) / (counts @ draws.T)
    without = (totals - sums) / (sizes - counts)
    return _ends((totals / sizes)[:, 0], resampled, without, method, level, sums.shape[1])


def _statistic_ends(
    groups: list[np.ndarray],
    statistic: Callable[[np.ndarray], float],
    value: float,
    draws: np.ndarray,
    method: Method,
    level: float,
) -> tuple[np.ndarray, np.ndarray]:
    size = len(groups)
    whole, prompt = np.concatenate(groups), np.repeat(np.arange(size), [len(g) for g in groups])
    resampled = np.array([statistic(np.repeat(whole, row[prompt])) for row in draws], float)
    without = np.array([statistic(whole[prompt != leave]) for leave in range(size)], float)
    resampled = resampled[np.isfinite(resampled)]
    if not len(resampled) or not np.isfinite(value):
        raise ValueError("the statistic is undefined on the clips or on every resample of them")
    without = without[np.isfinite(without)] if np.isfinite(without).any() else np.array([value])
    return _ends(np.array([value]), resampled[None], without[None], method, level, size)


def _ends(
    values: np.ndarray,
    resampled: np.ndarray,
    without: np.ndarray,
    method: Method,
    level: float,
    size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Both ends for each row of ``resampled (K, R)`` and ``without (K, P)``, the jackknife."""
    wide = float(np.sqrt(size / (size - 1)) * t.ppf((1 + level) / 2, size - 1))
    ordered = np.sort(resampled, axis=1)
    if method == "percentile":
        bias, skew = np.zeros(len(values)), np.zeros(len(values))
    else:
        bias, skew = _bias(values, ordered), _acceleration(without)
    ends = []
    for side in (-wide, wide):
        moved = bias + side
        share = norm.cdf(bias + moved / np.maximum(1 - skew * moved, 1e-9))
        ends.append(_quantile(ordered, share))
    return ends[0], ends[1]


def _bias(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Normal quantile of the share of resamples below the value; ties count half."""
    slack = 1e-12 * np.maximum(1e-300, np.abs(values))[:, None]
    below = (ordered < values[:, None] - slack).sum(axis=1)
    equal = (np.abs(ordered - values[:, None]) <= slack).sum(axis=1)
    size = ordered.shape[1]
    return norm.ppf(np.clip((below + equal / 2) / size, 0.5 / size, 1 - 0.5 / size))


def _acceleration(without: np.ndarray) -> np.ndarray:
    """Sixth of the skewness of the jackknife, 0 where it does not vary."""
    influence = without.mean(axis=1, keepdims=True) - without
    scale = np.square(influence).sum(axis=1) ** 1.5
    return np.divide(
        (influence**3).sum(axis=1), 6 * scale, out=np.zeros_like(scale), where=scale > 1e-100
    )


def _quantile(ordered: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Quantile of each sorted row at its own share, between neighbours in proportion."""
    place = shares * (ordered.shape[1] - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, ordered.shape[1] - 1)
    rows = np.arange(len(ordered))
    weight = place - below
    return (1 - weight) * ordered[rows, below] + weight * ordered[rows, above]


def _check_options(method: str, level: float, resamples: int) -> None:
    if method not in ("bca", "percentile"):
        raise ValueError(f"method is {method!r}; use 'bca' or 'percentile'")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a share between 0 and 1, such as 0.95")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; give at least 1, 2000 for two digits")
