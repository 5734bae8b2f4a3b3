import itertools

import numpy as np
import pytest
import torch
from avgen_eval.metrics import kernel as kernel_module
from avgen_eval.metrics.kernel import (
    KernelDistance,
    gaussian_kernel,
    kernel_distance,
    median_distance,
    permutation_test,
    polynomial_kernel,
    squared_discrepancy,
)
from scipy.stats import kstest
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd


class Identity(nn.Module):
    num_features = 6

    def forward(self, features: Tensor) -> Tensor:
        return features


def sets(n: int = 30, m: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.3, 1, (n, 6)), rng.normal(0, 1.2, (m, 6))


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_polynomial_equals_torchmetrics() -> None:
    first, second = sets()
    value = kernel_distance(first, second)
    one, two = torch.from_numpy(first), torch.from_numpy(second)
    assert value == pytest.approx(float(poly_mmd(two, one)), rel=1e-9)
    metric = KernelInceptionDistance(feature=Identity(), subsets=2, subset_size=30)
    metric.update(two, real=True)
    metric.update(one, real=False)
    assert value == pytest.approx(float(metric.compute()[0]), rel=1e-6)
    other = squared_discrepancy(first, second, polynomial_kernel(2, 0.5, 0.1))
    assert other == pytest.approx(float(poly_mmd(two, one, 2, 0.5, 0.1)), rel=1e-9)


@pytest.mark.parametrize("block", [2048, 7])
def test_gaussian_equals_plain_loops(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(kernel_module, "BLOCK", block)
    first, second = sets(12, 17)
    width = np.median([np.linalg.norm(a - b) for a, b in itertools.combinations(second, 2)])

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-np.sum((a - b) ** 2) / (2 * width**2)))

    own = [
        np.mean([k(a, b) for a, b in itertools.permutations(part, 2)]) for part in (first, second)
    ]
    across = np.mean([k(a, b) for a, b in itertools.product(first, second)])
    value = kernel_distance(first, second, kernel="gaussian")
    assert value == pytest.approx(own[0] + own[1] - 2 * across, rel=1e-9)
    assert kernel_distance(first, second, kernel="gaussian", scale=100) == pytest.approx(
        100 * value
    )


def test_bandwidth_is_that_of_the_chosen_set() -> None:
    first, second = sets(20, 25)
    widths = {"reference": median_distance(second), "evaluated": median_distance(first)}
    assert widths["reference"] != pytest.approx(widths["evaluated"], rel=0.01)
    for source, width in widths.items():
        value = kernel_distance(first, second, kernel="gaussian", bandwidth=source)  # pyright: ignore[reportArgumentType]
        fixed = kernel_distance(first, second, kernel="gaussian", bandwidth=width)
        assert value == fixed == squared_discrepancy(first, second, gaussian_kernel(width))
    default = kernel_distance(first, second, kernel="gaussian")
    assert default == kernel_distance(
        first, second, kernel="gaussian", bandwidth=widths["reference"]
    )


def test_median_distance_of_points_on_a_line() -> None:
    assert median_distance(np.array([[0.0], [1.0], [3.0]])) == 2.0


@pytest.mark.parametrize("kernel", ["polynomial", "gaussian"])
def test_no_bias_in_small_sets(kernel: kernel_module.KernelName) -> None:
    rng = np.random.default_rng(0)
    values = [
        kernel_distance(rng.normal(size=(8, 4)), rng.normal(size=(12, 4)), kernel=kernel)
        for _ in range(600)
    ]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert min(values) < 0
    assert kernel_distance(*sets(300, 300), kernel=kernel) > 5 * error


def test_closed_form_of_the_gaussian_kernel() -> None:
    # For N(0, 1) and N(c, 1) in one dimension: 2 w / sqrt(w^2 + 2) (1 - exp(-c^2 / (2 (w^2 + 2)))).
    rng = np.random.default_rng(1)
    first, second = rng.normal(2, 1, (4000, 1)), rng.normal(0, 1, (3000, 1))
    value = squared_discrepancy(first, second, gaussian_kernel(1.0))
    expected = 2 / np.sqrt(3) * (1 - np.exp(-4 / 6))
    assert value == pytest.approx(expected, rel=0.04)


def test_permutation_test_finds_a_difference() -> None:
    rng = np.random.default_rng(0)
    first, second = sets(60, 50)
    result = permutation_test(first + 0.7, second, rng, permutations=400)
    assert result.p_value == pytest.approx(1 / 401)
    kernel = polynomial_kernel()
    given = permutation_test(*sets(60, 50), rng, kernel=kernel, permutations=50)
    assert given.distance == pytest.approx(squared_discrepancy(*sets(60, 50), kernel), rel=1e-9)


def test_permutation_p_values_are_uniform_without_a_difference() -> None:
    rng = np.random.default_rng(0)
    p_values = [
        permutation_test(
            rng.normal(size=(12, 3)), rng.normal(size=(9, 3)), rng, permutations=199
        ).p_value
        for _ in range(300)
    ]
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) <= 0.05) < 0.09


def test_metric_equals_the_function_over_processes() -> None:
    first, second = sets(30, 21)
    for options in ({}, {"kernel": "gaussian", "scale": 100.0}):
        parts = [KernelDistance(**options) for _ in range(2)]
        for i, start in enumerate(range(0, 30, 7)):
            parts[i % 2].update(torch.from_numpy(first[start : start + 7]), reference=False)
            if start < 21:
                parts[i % 2].update(torch.from_numpy(second[start : start + 7]), reference=True)
        parts[0].merge_state(parts[1])
        value = float(parts[0].compute())
        assert value == pytest.approx(kernel_distance(first, second, **options), rel=1e-9)


def test_metric_without_enough_vectors_is_nan() -> None:
    metric = KernelDistance()
    metric.update(torch.randn(5, 3), reference=True)
    assert metric.compute().isnan()
    with pytest.raises(ValueError, match="vectors have 4 features, those before 3"):
        metric.update(torch.randn(5, 4), reference=True)


def test_errors_say_what_to_do() -> None:
    first, second = sets()
    with pytest.raises(ValueError, match="kernel is 'cubic'; use 'polynomial' or 'gaussian'"):
        kernel_distance(first, second, kernel="cubic")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="bandwidth is 'both'; use reference or evaluated"):
        kernel_distance(first, second, kernel="gaussian", bandwidth="both")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"bandwidth is 0\.0"):
        kernel_distance(first, np.ones_like(second), kernel="gaussian")
    with pytest.raises(ValueError, match="sets of 1 and 30 vectors"):
        kernel_distance(first[:1], second)
