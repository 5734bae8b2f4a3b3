"""Frechet distance between two sets of vectors.

Method: Dowson and Landau 1982; used on features of pictures by Heusel et al. 2017. Which features
decides what a value means, so it is reported with the signature of their extractor.
Shapes: N and M vectors, D features, G groups of D / G features.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from avgen_eval.metrics.features import feature_matrix, feature_pair

MIN_RATIO = 2


def frechet_distance(
    features: Any, reference: Any, *, ddof: int = 1, groups: int = 1, force: bool = False
) -> float:
    """``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` of the means and covariances; never negative.

    ``tr (S1 S2)^(1/2)`` is the sum of the singular values of ``X Y^T / sqrt((N - ddof) (M - ddof))``
    with ``X`` and ``Y`` the centred vectors. That is exact for any N and D, needs no matrix square
    root, and takes no covariance of D x D. In float64.

    Fails on: small sets, between which the distance is biased upwards (about D^2 / N at worst);
    sets that are not Gaussian, of which it sees only two moments; and sets of unequal sizes compared
    with each other's distances.

    Args:
        features: ``(N, D)`` vectors under test; array or tensor.
        reference: ``(M, D)`` vectors to compare with.
        ddof: Covariances are divided by N - ddof; some published code uses 0.
        groups: Equal parts of the vector whose distances are averaged.
        force: Compute below 2 vectors per feature, where the bias may exceed the signal.

    Raises:
        ValueError: Fewer than 2 D vectors without ``force``, fewer than 2 with it, or shapes or
            values that do not fit.
    """
    _check_ddof(ddof)
    features, reference = checked_sets(features, reference, groups=groups, force=force)
    distances = [
        _distance(part, other, ddof)
        for part, other in zip(
            np.split(features, groups, axis=1), np.split(reference, groups, axis=1), strict=True
        )
    ]
    return float(np.mean(distances))


def gaussian_distance(
    mean1: np.ndarray, covariance1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray
) -> float:
    """The same distance from means ``(D,)`` and covariances ``(D, D)``; never negative."""
    cross = np.linalg.svd(_root(covariance1) @ _root(covariance2).T, compute_uv=False).sum()
    spread = np.trace(covariance1) + np.trace(covariance2) - 2 * cross
    return float(np.square(mean1 - mean2).sum() + max(0.0, spread))


class FrechetDistance(Metric):
    """`frechet_distance` of vectors that come in batches and on several processes.

    Keeps counts, sums and sums of outer products in float64, which are summed over processes: the
    result is that of one process. ``compute`` is NaN where a set has fewer than two vectors and
    ``force`` is set.

    Args:
        num_features: Length of a vector, all groups together.
        ddof: See `frechet_distance`.
        groups: See `frechet_distance`.
        force: See `frechet_distance`.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: ``num_features`` is not a multiple of ``groups``, or vectors do not fit; from
            ``compute`` where there are fewer than 2 per feature without ``force``.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False

    def __init__(
        self,
        num_features: int,
        *,
        ddof: int = 1,
        groups: int = 1,
        force: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _group_width(num_features, groups)
        _check_ddof(ddof)
        self.num_features, self.ddof = num_features, ddof
        self.groups, self.force = groups, force
        width = num_features // groups
        self.counts: Tensor
        self.sums: Tensor
        self.products: Tensor
        shapes = {"counts": (2,), "sums": (2, groups, width), "products": (2, groups, width, width)}
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, features: Tensor, reference: bool) -> None:
        """Add vectors ``(N, D)`` to the reference, or to the set under test."""
        matrix = torch.from_numpy(feature_matrix(features)).to(self.sums.device)
        if matrix.shape[1] != self.num_features:
            raise ValueError(
                f"vectors have {matrix.shape[1]} features; this metric was made for "
                f"{self.num_features}"
            )
        parts = matrix.unflatten(1, (self.groups, -1)).transpose(0, 1)
        side = int(reference)
        self.counts[side] += len(matrix)
        self.sums[side] += parts.sum(dim=1)
        self.products[side] += parts.transpose(1, 2) @ parts

    def compute(self) -> Tensor:
        """The distance, a float64 scalar."""
        sizes = [int(count) for count in self.counts]
        if not self.force:
            _check_sizes(sizes[0], sizes[1], self.num_features // self.groups)
        if min(sizes) < 2:
            return torch.tensor(float("nan"), dtype=torch.float64, device=self.sums.device)
        moments = [self._moments(side, sizes[side]) for side in (0, 1)]
        distances = [
            gaussian_distance(*(part[group] for pair in moments for part in pair))
            for group in range(self.groups)
        ]
        return torch.tensor(np.mean(distances), dtype=torch.float64, device=self.sums.device)

    def _moments(self, side: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        means = self.sums[side].cpu().numpy() / size
        products = self.products[side].cpu().numpy()
        outer = means[:, :, None] * means[:, None, :]
        return means, (products - size * outer) / (size - self.ddof)


def _distance(features: np.ndarray, reference: np.ndarray, ddof: int) -> float:
    first, second = _centred(features, ddof), _centred(reference, ddof)
    # The triangle of a QR factorisation has the same Gram matrix and at most D rows.
    triangles = [np.asarray(np.linalg.qr(part, mode="r")) for part in (first, second)]
    cross = np.linalg.svd(triangles[0] @ triangles[1].T, compute_uv=False).sum()
    spread = np.square(first).sum() + np.square(second).sum() - 2 * cross
    gap = features.mean(axis=0) - reference.mean(axis=0)
    # Zero up to rounding where the covariances are equal; the exact value is never below it.
    return float(np.square(gap).sum() + max(0.0, spread))


def _centred(matrix: np.ndarray, ddof: int) -> np.ndarray:
    return (matrix - matrix.mean(axis=0)) / np.sqrt(len(matrix) - ddof)


def _root(covariance: np.ndarray) -> np.ndarray:
    """A matrix ``R`` with ``R^T R = covariance``; eigenvalues that are only rounding count as zero."""
    values, vectors = np.linalg.eigh(covariance)
    floor = len(values) * np.finfo(np.float64).eps * max(0.0, float(values[-1]))
    return np.sqrt(np.where(values > floor, values, 0.0))[:, None] * vectors.T


def checked_sets(
    features: Any, reference: Any, *, groups: int, force: bool, least: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as matrices, if they are large enough for a Frechet distance.

    Raises:
        ValueError: As `frechet_distance`; fewer than ``least`` vectors even with ``force``.
    """
    features, reference = feature_pair(features, reference)
    width = _group_width(features.shape[1], groups)
    if not force:
        _check_sizes(len(features), len(reference), width)
    return feature_pair(features, reference, least)


def _group_width(num_features: int, groups: int) -> int:
    if groups < 1 or num_features % groups:
        raise ValueError(
            f"{num_features} features do not divide into {groups} groups; "
            "use the groups of the extractor"
        )
    return num_features // groups


def _check_sizes(num_vectors: int, num_reference: int, width: int) -> None:
    if min(num_vectors, num_reference) < MIN_RATIO * width:
        raise ValueError(
            f"n = {num_vectors} vectors against {num_reference} of the reference, with d = {width} "
            f"features: a Frechet distance needs at least {MIN_RATIO} x d = {MIN_RATIO * width} in "
            "each set. Add clips, use a kernel distance, which is unbiased in small sets, or pass "
            "force=True"
        )


def _check_ddof(ddof: int) -> None:
    if ddof not in (0, 1):
        raise ValueError(f"ddof is {ddof}; use 1, or 0 to compare with code that divides by N")
