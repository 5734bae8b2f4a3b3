"""Kernel distances between two sets of vectors: squared maximum mean discrepancy, unbiased.

Method: Gretton et al. 2012. With the cubic polynomial kernel on features of pictures, Binkowski et al.
2018; with the Gaussian kernel on features of sound, Chung et al. 2025.
Shapes: N and M vectors, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.spatial.distance import cdist, pdist
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from avgen_eval.metrics.features import feature_matrix, feature_pair

BLOCK = 2048

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Vectors ``(N, D)`` and ``(M, D)`` to their similarities ``(N, M)``; symmetric."""

KernelName = Literal["polynomial", "gaussian"]
Bandwidth = Literal["reference", "evaluated"] | float


@dataclass(frozen=True, kw_only=True)
class PermutationResult:
    """Whether two sets come from one distribution.

    Attributes:
        distance: Unbiased squared discrepancy of the sets as given.
        p_value: Share of relabellings, the given one included, whose distance is at least as large.
        permutations: How many were drawn.
    """

    distance: float
    p_value: float
    permutations: int


def polynomial_kernel(degree: int = 3, gamma: float | None = None, coef: float = 1.0) -> Kernel:
    """``(gamma * x . y + coef)^degree``; gamma is 1 / D if None."""

    def kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        scale = 1 / first.shape[1] if gamma is None else gamma
        return (first @ second.T * scale + coef) ** degree

    return kernel


def gaussian_kernel(bandwidth: float) -> Kernel:
    """``exp(-|x - y|^2 / (2 bandwidth^2))``.

    Raises:
        ValueError: The bandwidth is not positive.
    """
    if not bandwidth > 0:
        raise ValueError(
            f"bandwidth is {bandwidth}; give more than 0 (the median distance of a set is 0 where "
            "most of its vectors are equal)"
        )

    def kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.exp(cdist(first, second, "sqeuclidean") / (-2 * bandwidth**2))

    return kernel


def median_distance(features: Any) -> float:
    """Median Euclidean distance over all pairs of different vectors.

    Raises:
        ValueError: Fewer than two vectors.
    """
    matrix = feature_matrix(features)
    if len(matrix) < 2:
        raise ValueError(f"{len(matrix)} vectors have no pairwise distance; give at least 2")
    return float(np.median(pdist(matrix)))


def squared_discrepancy(features: Any, reference: Any, kernel: Kernel) -> float:
    """Unbiased estimate of the squared discrepancy; slightly negative values are legal.

    ``sum_{i != j} k(x_i, x_j) / N(N-1) + sum_{i != j} k(y_i, y_j) / M(M-1) - 2 sum_ij k(x_i, y_j) / NM``.

    Raises:
        ValueError: A set has fewer than two vectors, or shapes or values that do not fit.
    """
    features, reference = feature_pair(features, reference, least=2)
    within = [_mean_off_diagonal(part, kernel) for part in (features, reference)]
    across = _total(features, reference, kernel) / (len(features) * len(reference))
    return within[0] + within[1] - 2 * across


def kernel_distance(
    features: Any,
    reference: Any,
    *,
    kernel: KernelName = "polynomial",
    bandwidth: Bandwidth = "reference",
    scale: float = 1.0,
) -> float:
    """`squared_discrepancy` with one of the two usual kernels.

    ``polynomial`` is ``(x . y / D + 1)^3``. ``gaussian`` has as bandwidth the median distance within
    the reference, as its authors document; their program takes it within the set under test, which
    ``bandwidth="evaluated"`` does. Published values of that kind are 100 times larger.

    Unlike a Frechet distance, the value has no bias in small sets. Fails on: bandwidths or scales of
    features that make all vectors look alike or all different; compare only with one extractor.

    Args:
        features: ``(N, D)`` vectors under test.
        reference: ``(M, D)`` vectors to compare with.
        kernel: Which kernel.
        bandwidth: Of the Gaussian kernel: from which set, or a number.
        scale: Factor of the result.

    Raises:
        ValueError: An unknown option, a set of fewer than two vectors, or equal vectors only.
    """
    features, reference = feature_pair(features, reference, least=2)
    chosen = _kernel(features, reference, kernel, bandwidth)
    return scale * squared_discrepancy(features, reference, chosen)


def permutation_test(
    features: Any,
    reference: Any,
    generator: np.random.Generator,
    *,
    kernel: Kernel | None = None,
    permutations: int = 1000,
) -> PermutationResult:
    """Test that two sets of vectors come from one distribution, by relabelling them.

    The p-value is exact for independent vectors, whatever the features: it is at most p in a share p
    of cases where there is no difference. The kernel must not depend on which vector is in which
    set, so the default is Gaussian with the median distance of both sets together.

    Fails on: several vectors per clip, or several clips per prompt, which are not independent: give
    one vector each. Memory grows with (N + M)^2.

    Args:
        features: ``(N, D)`` vectors.
        reference: ``(M, D)`` vectors.
        generator: Draws the relabellings.
        kernel: Any kernel that is fixed beforehand.
        permutations: How many relabellings.

    Raises:
        ValueError: A set of fewer than two vectors, or equal vectors only.
    """
    features, reference = feature_pair(features, reference, least=2)
    pooled, size = np.concatenate([features, reference]), len(features)
    kernel = kernel or gaussian_kernel(median_distance(pooled))
    gram = kernel(pooled, pooled)
    np.fill_diagonal(gram, 0)
    labels = np.zeros((len(pooled), permutations + 1))
    labels[:size] = 1
    labels[:, 1:] = generator.permuted(labels[:, 1:], axis=0)
    distances = _relabelled(gram, labels, size)
    slack = 1e-9 * max(1e-300, float(np.abs(distances).max()))
    return PermutationResult(
        distance=float(distances[0]),
        p_value=float(np.mean(distances >= distances[0] - slack)),
        permutations=permutations,
    )


class KernelDistance(Metric):
    """`kernel_distance` of vectors that come in batches and on several processes.

    All vectors are kept, and gathered over processes. ``compute`` is NaN where a set has fewer than
    two.

    Args:
        kernel: See `kernel_distance`.
        bandwidth: See `kernel_distance`.
        scale: See `kernel_distance`.
        **kwargs: Of `torchmetrics.Metric`.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False

    def __init__(
        self,
        *,
        kernel: KernelName = "polynomial",
        bandwidth: Bandwidth = "reference",
        scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel: KernelName = kernel
        self.bandwidth: Bandwidth = bandwidth
        self.scale = scale
        self.features: list[Tensor] | Tensor
        self.reference: list[Tensor] | Tensor
        self.add_state("features", [], dist_reduce_fx="cat")
        self.add_state("reference", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, reference: bool) -> None:
        """Add vectors ``(N, D)`` to the reference, or to the set under test."""
        add_vectors(self, features, reference)

    def compute(self) -> Tensor:
        """The distance, a float64 scalar."""
        features, reference = gathered(self.features), gathered(self.reference)
        if min(len(features), len(reference)) < 2:
            return torch.tensor(float("nan"), dtype=torch.float64, device=self.device)
        value = kernel_distance(
            features, reference, kernel=self.kernel, bandwidth=self.bandwidth, scale=self.scale
        )
        return torch.tensor(value, dtype=torch.float64, device=self.device)


def add_vectors(metric: Metric, features: Tensor, reference: bool) -> None:
    """Append vectors to the list state ``features`` or ``reference`` of a metric."""
    state = metric.reference if reference else metric.features
    assert isinstance(state, list), "update after the states were gathered"
    matrix = torch.from_numpy(feature_matrix(features)).to(metric.device)
    if state and state[0].shape[1] != matrix.shape[1]:
        raise ValueError(
            f"vectors have {matrix.shape[1]} features, those before {state[0].shape[1]}; "
            "extract all with one extractor"
        )
    state.append(matrix)


def gathered(state: list[Tensor] | Tensor) -> np.ndarray:
    """All vectors of a list state, ``(N, D)`` float64; ``(0, 0)`` where none came."""
    if isinstance(state, list) and not state:
        return np.empty((0, 0))
    return dim_zero_cat(state).cpu().numpy()


def _kernel(
    features: np.ndarray, reference: np.ndarray, name: KernelName, bandwidth: Bandwidth
) -> Kernel:
    if name == "polynomial":
        return polynomial_kernel()
    if name != "gaussian":
        raise ValueError(f"kernel is {name!r}; use 'polynomial' or 'gaussian'")
    if isinstance(bandwidth, str):
        sources = {"reference": reference, "evaluated": features}
        if bandwidth not in sources:
            raise ValueError(f"bandwidth is {bandwidth!r}; use {' or '.join(sources)}, or a number")
        bandwidth = median_distance(sources[bandwidth])
    return gaussian_kernel(bandwidth)


def _total(first: np.ndarray, second: np.ndarray, kernel: Kernel) -> float:
    """Sum of all similarities, in blocks that fit into memory."""
    starts = range(0, len(first), BLOCK)
    return float(sum(kernel(first[start : start + BLOCK], second).sum() for start in starts))


def _mean_off_diagonal(matrix: np.ndarray, kernel: Kernel) -> float:
    total = 0.0
    for start in range(0, len(matrix), BLOCK):
        gram = kernel(matrix[start : start + BLOCK], matrix)
        total += float(gram.sum() - np.trace(gram, offset=start))
    return total / (len(matrix) * (len(matrix) - 1))


def _relabelled(gram: np.ndarray, labels: np.ndarray, size: int) -> np.ndarray:
    """Squared discrepancy for each column of labels; the diagonal of ``gram`` is zero."""
    other = len(gram) - size
    product = gram @ labels
    within = (labels * product).sum(axis=0)
    across = product.sum(axis=0) - within
    rest = gram.sum() - within - 2 * across
    first, second = within / (size * (size - 1)), rest / (other * (other - 1))
    return first + second - 2 * across / (size * other)
