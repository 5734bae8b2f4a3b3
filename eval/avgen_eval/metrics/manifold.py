"""Where two sets of vectors lie in each other: precision, recall, density and coverage.

Methods: Kynkaanniemi et al. 2019 (precision, recall), Naeem et al. 2020 (density, coverage). The
space that a set fills is taken to be the union of a ball around each vector that reaches to its k-th
nearest neighbour in the set.
Shapes: N vectors under test, M of the reference, D features.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor
from torchmetrics import Metric

from avgen_eval.metrics.features import feature_matrix, feature_pair
from avgen_eval.metrics.kernel import add_vectors, gathered


def neighbour_radii(features: Any, neighbours: int) -> np.ndarray:
    """Distance of each vector to its k-th nearest other vector, ``(N,)``.

    Raises:
        ValueError: There are not more vectors than neighbours, or neighbours is below 1.
    """
    matrix = feature_matrix(features)
    _check_neighbours(neighbours, len(matrix))
    distances = cdist(matrix, matrix)
    np.fill_diagonal(distances, np.inf)
    return np.partition(distances, neighbours - 1, axis=1)[:, neighbours - 1]


def precision_recall(features: Any, reference: Any, neighbours: int = 3) -> tuple[float, float]:
    """Share of the vectors inside the reference's balls, and of the reference inside theirs.

    Low precision: clips unlike anything real. Low recall: kinds of real clips that never come.

    Fails on: outliers of the reference, whose large balls let anything count as precise (use
    density); sets of unequal sizes; comparisons of values at different sizes.

    Args:
        features: ``(N, D)`` vectors under test.
        reference: ``(M, D)`` vectors to compare with.
        neighbours: k; the authors use 3.

    Raises:
        ValueError: A set has not more vectors than neighbours, or shapes that do not fit.
    """
    distances, features, reference = _distances(features, reference)
    inside_reference = distances <= neighbour_radii(reference, neighbours)[None, :]
    inside_features = distances <= neighbour_radii(features, neighbours)[:, None]
    precision, recall = inside_reference.any(axis=1).mean(), inside_features.any(axis=0).mean()
    return float(precision), float(recall)


def density_coverage(features: Any, reference: Any, neighbours: int = 5) -> tuple[float, float]:
    """How many of the reference's balls a vector is in, over k, and the share of balls that hold one.

    Density is 1 on average where both sets come from one distribution, and may exceed it. Coverage
    is then ``1 - prod_{i=1..k} (M - i) / (M + N - i)``: report it beside that.

    Fails on: density rewards vectors crowded where the reference is dense, so read it with coverage.

    Args:
        features: ``(N, D)`` vectors under test.
        reference: ``(M, D)`` vectors to compare with.
        neighbours: k; the authors use 5.

    Raises:
        ValueError: The reference has not more vectors than neighbours, or shapes do not fit.
    """
    distances, _, reference = _distances(features, reference)
    inside = distances <= neighbour_radii(reference, neighbours)[None, :]
    density = inside.sum(axis=1).mean() / neighbours
    return float(density), float(inside.any(axis=0).mean())


def expected_coverage(num_vectors: int, num_reference: int, neighbours: int = 5) -> float:
    """Coverage to expect where both sets come from one continuous distribution.

    Raises:
        ValueError: There are not more reference vectors than neighbours, or no vectors.
    """
    _check_neighbours(neighbours, num_reference)
    if num_vectors < 1:
        raise ValueError(f"num_vectors is {num_vectors}; give at least 1")
    steps = np.arange(1, neighbours + 1)
    missed = np.prod((num_reference - steps) / (num_reference + num_vectors - steps))
    return float(1 - missed)


class ManifoldMetric(Metric):
    """Precision, recall, density and coverage of vectors that come in batches and on several processes.

    All vectors are kept, and gathered over processes. Values are NaN where a set has not more
    vectors than neighbours.

    Args:
        neighbours: k of precision and recall.
        coverage_neighbours: k of density and coverage.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: A number of neighbours is below 1.
    """

    names: ClassVar[tuple[str, ...]] = ("precision", "recall", "density", "coverage")
    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    def __init__(self, *, neighbours: int = 3, coverage_neighbours: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.neighbours, self.coverage_neighbours = neighbours, coverage_neighbours
        for count in (neighbours, coverage_neighbours):
            _check_neighbours(count, count + 1)
        self.features: list[Tensor] | Tensor
        self.reference: list[Tensor] | Tensor
        self.add_state("features", [], dist_reduce_fx="cat")
        self.add_state("reference", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, reference: bool) -> None:
        """Add vectors ``(N, D)`` to the reference, or to the set under test."""
        add_vectors(self, features, reference)

    def compute(self) -> dict[str, Tensor]:
        """Values by name, float64 scalars."""
        features, reference = gathered(self.features), gathered(self.reference)
        smaller = min(len(features), len(reference))
        undefined = (float("nan"), float("nan"))
        first = second = undefined
        if smaller > self.neighbours:
            first = precision_recall(features, reference, self.neighbours)
        if len(features) and len(reference) > self.coverage_neighbours:
            second = density_coverage(features, reference, self.coverage_neighbours)
        values = torch.tensor([*first, *second], dtype=torch.float64, device=self.device)
        return dict(zip(self.names, values.unbind(), strict=True))


def _distances(features: Any, reference: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    features, reference = feature_pair(features, reference)
    return cdist(features, reference), features, reference


def _check_neighbours(neighbours: int, num_vectors: int) -> None:
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}; give at least 1")
    if num_vectors <= neighbours:
        raise ValueError(
            f"{num_vectors} vectors have no {neighbours} neighbours each; give at least "
            f"{neighbours + 1}, or lower the number of neighbours"
        )
