import json
from typing import Any

import numpy as np
import pytest
from avgen_eval.statistics import clustered_interval, mean_intervals, wilson_interval
from scipy.stats import binom, norm

PROMPTS, SEEDS = 60, 3


def simulated(kind: str, runs: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Values ``(runs, PROMPTS, SEEDS)`` of which most of the variance lies between prompts, and the truth."""
    shape = (runs, PROMPTS, 1)
    noise = 0.5 * rng.normal(size=(runs, PROMPTS, SEEDS))
    if kind == "normal":
        return rng.normal(size=shape) + noise, 0.0
    if kind == "skewed":
        return rng.exponential(size=shape) + noise, 1.0
    hits = rng.random((runs, PROMPTS, SEEDS)) < rng.beta(1.8, 0.6, size=shape)
    return hits.astype(float), 0.75


@pytest.mark.parametrize("kind", ["normal", "skewed", "share"])
def test_interval_covers_the_truth_as_often_as_it_says(kind: str) -> None:
    values, truth = simulated(kind, 4000, np.random.default_rng(1))
    sums, counts = values.sum(axis=2), np.full(values.shape[:2], SEEDS)
    low, high = mean_intervals(sums, counts, np.random.default_rng(2))
    covered = (low <= truth) & (truth <= high)
    assert 0.94 <= covered.mean() <= 0.975
    # What it is for: without the prompts the interval is far too narrow.
    flat = values.reshape(len(values), -1)
    half = 1.96 * flat.std(axis=1, ddof=1) / np.sqrt(flat.shape[1])
    assert (np.abs(flat.mean(axis=1) - truth) <= half).mean() < 0.89


def test_one_set_equals_the_many() -> None:
    rng = np.random.default_rng(0)
    values = rng.exponential(size=(20, 3))
    prompts = np.repeat(np.arange(20), 3).tolist()
    one = clustered_interval(values.ravel().tolist(), prompts, np.random.default_rng(7))
    assert one is not None
    low, high = mean_intervals(
        values.sum(axis=1)[None], np.full((1, 20), 3), np.random.default_rng(7)
    )
    assert (one.low, one.high) == pytest.approx((low[0], high[0]))
    assert one.value == pytest.approx(values.mean())
    assert (one.num_values, one.num_clusters, one.method) == (60, 20, "bca")
    assert json.loads(json.dumps(one.to_dict()))["level"] == 0.95


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_any_statistic_agrees_with_the_fast_mean(method: Any) -> None:
    rng = np.random.default_rng(0)
    prompts = [int(p) for p in np.repeat(np.arange(15), rng.integers(1, 5, 15))]
    values = rng.exponential(size=len(prompts)).tolist()
    fast, slow = (
        clustered_interval(
            values,
            prompts,
            np.random.default_rng(3),
            statistic=statistic,
            method=method,
            resamples=300,
        )
        for statistic in (None, lambda clips: float(np.mean(clips)))
    )
    assert fast is not None
    assert slow is not None
    assert (slow.value, slow.low, slow.high) == pytest.approx((fast.value, fast.low, fast.high))


def test_median_is_covered() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        interval = clustered_interval(
            rng.normal(size=40).tolist(),
            range(40),
            rng,
            statistic=lambda clips: float(np.median(clips)),
            method="percentile",
            resamples=200,
        )
        assert interval is not None
        assert interval.low is not None
        assert interval.high is not None
        inside += interval.low <= 0 <= interval.high
    assert inside >= 53


def test_percentile_interval_is_as_wide_as_students() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=12)
    interval = clustered_interval(
        values.tolist(), range(12), rng, method="percentile", resamples=40_000
    )
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    # t quantile 2.201 with 11 degrees of freedom; the tails of a resampled mean are a little lighter.
    half = 2.201 * values.std(ddof=1) / np.sqrt(12)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.06)


def test_skewed_values_have_a_longer_upper_arm() -> None:
    values = np.random.default_rng(0).exponential(size=40).tolist()
    ends = {}
    for method in ("bca", "percentile"):
        interval = clustered_interval(values, range(40), np.random.default_rng(1), method=method)
        assert interval is not None
        assert interval.low is not None
        assert interval.high is not None
        ends[method] = (interval.high - interval.value) / (interval.value - interval.low)
    assert ends["bca"] > ends["percentile"] > 1


def test_what_could_not_be_measured_is_left_out() -> None:
    rng = np.random.default_rng(0)
    interval = clustered_interval([1.0, None, 3.0, None], ["a", "a", "b", "c"], rng)
    assert interval is not None
    assert interval.value == 2
    assert (interval.num_values, interval.num_clusters) == (2, 2)
    assert clustered_interval([None, None], ["a", "b"], rng) is None
    single = clustered_interval([1.0, 2.0], ["a", "a"], rng)
    assert single is not None
    assert (single.low, single.high) == (None, None)


def test_values_that_are_all_equal() -> None:
    interval = clustered_interval([0.1] * 9, range(9), np.random.default_rng(0))
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((0.1, 0.1))


def test_wilson_by_its_formula() -> None:
    z = norm.ppf(0.975)
    for successes, trials in ((0, 10), (7, 10), (50, 50), (123, 400)):
        interval = wilson_interval(successes, trials)
        assert interval is not None
        share = successes / trials
        centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
        half = np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) * z
        half /= 1 + z**2 / trials
        assert (interval.low, interval.high) == pytest.approx((centre - half, centre + half))
    assert wilson_interval(0, 0) is None


def test_wilson_covers() -> None:
    weights = binom.pmf(np.arange(61), 60, 0.9)
    covered = 0.0
    for successes, weight in enumerate(weights):
        interval = wilson_interval(successes, 60)
        assert interval is not None
        assert interval.low is not None
        assert interval.high is not None
        covered += weight * (interval.low <= 0.9 <= interval.high)
    assert covered >= 0.94


def test_errors_say_what_to_do() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="2 values and 1 prompts; give one prompt per value"):
        clustered_interval([1.0, 2.0], ["a"], rng)
    with pytest.raises(ValueError, match=r"value 1 of prompt 'b' is nan; .* must be None"):
        clustered_interval([1.0, float("nan")], ["a", "b"], rng)
    with pytest.raises(ValueError, match="method is 'normal'; use 'bca' or 'percentile'"):
        clustered_interval([1.0], ["a"], rng, method="normal")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="level is 95; give a share"):
        wilson_interval(1, 2, level=95)
    with pytest.raises(ValueError, match="3 successes of 2 trials"):
        wilson_interval(3, 2)
    with pytest.raises(ValueError, match="a prompt has no clips"):
        mean_intervals(np.ones((1, 3)), np.array([[1, 0, 1]]), rng)
    with pytest.raises(ValueError, match="undefined on the clips"):
        clustered_interval([1.0, 2.0], ["a", "b"], rng, statistic=lambda clips: float("nan"))
