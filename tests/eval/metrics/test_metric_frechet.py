import numpy as np
import pytest
import torch
from avgen_eval.metrics.frechet import FrechetDistance, frechet_distance, gaussian_distance
from avgen_eval.metrics.frechet_spread import frechet_floor, frechet_report, frechet_spread
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance


class Identity(nn.Module):
    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def sets(n: int, m: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) / dim**0.5
    second = rng.normal(size=(m, dim)) @ rng.normal(size=(dim, dim)) / dim**0.5
    return first + 0.5, second * 1.5 - 0.2


def exactly(mean: np.ndarray, covariance: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Vectors whose mean and covariance (over N - 1) are exactly those."""
    raw = np.random.default_rng(seed).normal(size=(n, len(mean)))
    raw -= raw.mean(axis=0)
    white = np.linalg.qr(raw)[0] * np.sqrt(n - 1)
    return white @ np.linalg.cholesky(covariance).T + mean


def dense(first: np.ndarray, second: np.ndarray) -> float:
    """From covariances and the eigenvalues of ``S1^1/2 S2 S1^1/2``."""
    one, two = (np.atleast_2d(np.cov(part.T)) for part in (first, second))
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ two @ root), 0)).sum()
    gap = first.mean(axis=0) - second.mean(axis=0)
    return float(gap @ gap + np.trace(one) + np.trace(two) - 2 * cross)


def library(first: np.ndarray, second: np.ndarray) -> float:
    metric = FrechetInceptionDistance(feature=Identity(first.shape[1])).set_dtype(torch.float64)
    metric.update(torch.from_numpy(second), real=True)
    metric.update(torch.from_numpy(first), real=False)
    return float(metric.compute())


@pytest.mark.parametrize("dim", [1, 4, 24])
@pytest.mark.parametrize(("n", "m"), [(60, 60), (50, 200)])
def test_equals_torchmetrics_and_the_dense_form(dim: int, n: int, m: int) -> None:
    first, second = sets(n, m, dim)
    value = frechet_distance(first, second)
    assert value == pytest.approx(library(first, second), rel=1e-6)
    assert value == pytest.approx(dense(first, second), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (12, 20), (12, 100)])
def test_fewer_vectors_than_features_is_exact_too(n: int, m: int) -> None:
    first, second = sets(n, m, 40)
    value = frechet_distance(first, second, force=True)
    # Square roots of eigenvalues that are zero but for rounding cost both references precision.
    assert value == pytest.approx(dense(first, second), rel=1e-6)
    assert value == pytest.approx(library(first, second), rel=1e-5)


def test_known_gaussians() -> None:
    one = exactly(np.array([1.0, 0.0]), np.diag([4.0, 9.0]), 50, 1)
    two = exactly(np.array([0.0, 2.0]), np.diag([1.0, 16.0]), 70, 2)
    # |m1 - m2|^2 + (2 - 1)^2 + (3 - 4)^2
    assert frechet_distance(one, two) == pytest.approx(5 + 1 + 1)


def test_ddof_scales_the_covariances() -> None:
    one = exactly(np.zeros(2), np.eye(2), 10, 1)
    two = exactly(np.zeros(2), 4 * np.eye(2), 10, 2)
    assert frechet_distance(one, two) == pytest.approx(2)
    assert frechet_distance(one, two, ddof=0) == pytest.approx(2 * 0.9)
    with pytest.raises(ValueError, match="ddof is 2; use 1, or 0"):
        frechet_distance(one, two, ddof=2)


@pytest.mark.parametrize("n", [5, 40, 300])
def test_equal_sets_are_at_zero_and_never_below(n: int) -> None:
    first = sets(n, n, 20)[0] * 1000
    shuffled = np.random.default_rng(1).permutation(first)
    value = frechet_distance(first, shuffled, force=True)
    assert 0 <= value < 1e-6


def test_distance_is_symmetric_and_keeps_under_rotation() -> None:
    first, second = sets(80, 90, 10)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(10, 10)))[0]
    value = frechet_distance(first, second)
    assert value == pytest.approx(frechet_distance(second, first))
    assert value == pytest.approx(frechet_distance(first @ turn + 7, second @ turn + 7))


def test_groups_are_averaged() -> None:
    first, second = sets(40, 50, 20)
    parts = [frechet_distance(first[:, i : i + 5], second[:, i : i + 5]) for i in range(0, 20, 5)]
    assert frechet_distance(first, second, groups=4) == pytest.approx(np.mean(parts))
    with pytest.raises(ValueError, match="20 features do not divide into 3 groups"):
        frechet_distance(first, second, groups=3)


def test_too_few_vectors_are_refused_with_the_way_out() -> None:
    first, second = sets(30, 90, 20)
    with pytest.raises(ValueError, match=r"n = 30 .* d = 20 .* = 40 in .*force=True"):
        frechet_distance(first, second)
    assert frechet_distance(first, second, groups=2) > 0
    assert frechet_distance(first, second, force=True) > 0
    with pytest.raises(ValueError, match="sets of 1 and 90 vectors; give at least 2"):
        frechet_distance(first[:1], second, force=True)


def test_bootstrap_is_refused_with_the_reason() -> None:
    first, second = sets(50, 50, 4)
    with pytest.raises(ValueError, match="drawing with replacement repeats vectors"):
        frechet_spread(first, second, np.random.default_rng(0), method="bootstrap")


def test_spread_of_halves_is_the_standard_error_that_fresh_sets_show() -> None:
    rng = np.random.default_rng(0)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(0.4, 1, (200, 4)), rng.normal(0, 1, (200, 4))

    fresh = np.std([frechet_distance(*draw()) for _ in range(200)])
    spreads = [frechet_spread(*draw(), rng) for _ in range(10)]
    assert np.mean([spread.deviation for spread in spreads]) == pytest.approx(fresh, rel=0.2)
    assert all(spread.low < spread.mean < spread.high for spread in spreads)
    # A bootstrap is off by about the bias of the distance itself; halves are off by a known size.
    halves = [frechet_distance(*(part[:100] for part in draw())) for _ in range(200)]
    assert np.mean([spread.mean for spread in spreads]) == pytest.approx(np.mean(halves), rel=0.15)


def test_floor_is_the_distance_of_nothing() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(25, 2, 150, 6))
    ratios = np.array([frechet_report(pair[0], pair[1], rng).ratio for pair in pairs], float)
    assert ratios.mean() == pytest.approx(1, abs=0.12)
    different = frechet_report(rng.normal(0.5, 1, (150, 6)), rng.normal(size=(150, 6)), rng)
    assert different.ratio is not None
    assert different.ratio > 4


def test_report_has_the_numbers_of_its_parts() -> None:
    first, second = sets(90, 90, 8)
    report = frechet_report(first, second, np.random.default_rng(0))
    assert report.value == frechet_distance(first, second)
    rng = np.random.default_rng(0)
    assert report.spread == frechet_spread(first, second, rng)
    assert report.floor == frechet_floor(second, rng)
    assert report.ratio == report.spread.mean / report.floor
    assert (report.num_vectors, report.num_reference, report.dim) == (90, 90, 8)
    assert report.notes == ()


def test_interval_holds_the_expected_distance_of_that_size() -> None:
    rng = np.random.default_rng(0)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(0.4, 1, (100, 4)), rng.normal(0, 1, (100, 4))

    expected = np.mean([frechet_distance(*draw()) for _ in range(300)])
    held = 0
    for _ in range(60):
        report = frechet_report(*draw(), rng)
        low, high = report.interval
        assert low <= report.value <= high
        held += low <= expected <= high
    assert held >= 53
    # Quantiles of the halves themselves may lie above the value.
    report = frechet_report(rng.normal(size=(100, 40)), rng.normal(size=(100, 40)), rng)
    assert report.spread.low > report.value
    assert report.interval[0] < report.value < report.interval[1]


def test_report_says_what_limits_it() -> None:
    first, second = sets(30, 60, 8)
    notes = frechet_report(first, second, np.random.default_rng(0)).notes
    assert any("30 vectors for 8 features" in note for note in notes)
    assert any("sets of 30 and 60" in note for note in notes)
    with pytest.raises(ValueError, match="n = 15"):
        frechet_report(first[:15], second, np.random.default_rng(0))
    with pytest.raises(ValueError, match="sets of 3 and 60 vectors; give at least 4"):
        frechet_spread(first[:3], second, np.random.default_rng(0), force=True)


@pytest.mark.parametrize("groups", [1, 3])
def test_metric_equals_the_function_in_batches_and_processes(groups: int) -> None:
    first, second = sets(70, 45, 12)
    parts = [FrechetDistance(12, groups=groups) for _ in range(2)]
    for i, start in enumerate(range(0, 70, 10)):
        parts[i % 2].update(torch.from_numpy(first[start : start + 10]), reference=False)
        parts[i % 2].update(torch.from_numpy(second[start : start + 10]), reference=True)
    parts[0].merge_state(parts[1])
    assert parts[0].counts.tolist() == [70, 45]
    value = float(parts[0].compute())
    assert value == pytest.approx(frechet_distance(first, second, groups=groups), rel=1e-9)


def test_metric_with_fewer_vectors_than_features() -> None:
    first, second = sets(10, 15, 30)
    metric = FrechetDistance(30, force=True)
    metric.update(torch.from_numpy(first), reference=False)
    metric.update(torch.from_numpy(second), reference=True)
    expected = frechet_distance(first, second, force=True)
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-6)
    metric.reset()
    assert metric.counts.sum() == 0


def test_metric_refuses_and_gives_nan() -> None:
    metric, forced = FrechetDistance(4), FrechetDistance(4, force=True)
    for each in (metric, forced):
        each.update(torch.randn(7, 4), reference=False)
        each.update(torch.randn(1, 4), reference=True)
    with pytest.raises(ValueError, match="n = 7 vectors against 1 of the reference, with d = 4"):
        metric.compute()
    assert forced.compute().isnan()
    with pytest.raises(ValueError, match="vectors have 3 features; this metric was made for 4"):
        metric.update(torch.randn(7, 3), reference=False)


def test_gaussian_distance_of_singular_covariances() -> None:
    one, two = np.diag([1.0, 0.0, 0.0]), np.diag([0.0, 4.0, 0.0])
    assert gaussian_distance(np.zeros(3), one, np.ones(3), two) == pytest.approx(3 + 1 + 4)
    assert gaussian_distance(np.zeros(3), one, np.zeros(3), one) == 0
