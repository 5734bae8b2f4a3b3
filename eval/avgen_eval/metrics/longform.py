"""How a long clip changes: the slope of any curve over its windows, and how fast it forgets itself."""

from typing import ClassVar

import numpy as np

from avgen_eval.metrics.base import ClipMetric, Field, Values
from avgen_eval.onsets import Curve

DISTANCES = (2, 5, 10, 20, 50)


def slope_per_second(curve: Curve) -> float | None:
    """Slope of the least-squares line through a curve, in its unit per second.

    ``sum (t - mean t)(y - mean y) / sum (t - mean t)^2``. Windows without a value (NaN) do not count.

    Fails on: curves that rise and fall, whose line is flat; outliers at the ends, which have the most
    weight.

    Args:
        curve: One value per window.

    Returns:
        None below two values.

    Raises:
        ValueError: The curve has no windows, more than one dimension, or infinite values.
    """
    measured = _measured(curve)
    if measured.sum() < 2:
        return None
    times, values = curve.times[measured], np.asarray(curve.values, float)[measured]
    away = times - times.mean()
    return float(away @ (values - values.mean()) / (away @ away))


def last_to_first(curve: Curve, share: float = 0.2) -> float | None:
    """Mean of the last windows over the mean of the first ones.

    Fails on: values around zero or of changing sign (decibels, correlations); use the slope there.

    Args:
        curve: One value per window; NaN where there is none.
        share: Share of the windows at either end, at least one.

    Returns:
        1 where nothing changed; None where the first mean is 0, an end has no value, or there is one
        window only.

    Raises:
        ValueError: A share outside (0, 0.5], or a bad curve as for `slope_per_second`.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"share {share} must be above 0 and at most 0.5, half of the windows")
    measured, values = _measured(curve), np.asarray(curve.values, float)
    size = max(1, int(share * len(values)))
    if len(values) < 2 or not (measured[:size].any() and measured[-size:].any()):
        return None
    first, last = float(np.nanmean(values[:size])), float(np.nanmean(values[-size:]))
    return last / first if first else None


def similarity_at(features: np.ndarray, distance: int) -> float | None:
    """Mean cosine of feature vectors that are ``distance`` steps apart.

    A clip that keeps its scene stays high; one that drifts falls with the distance (the idea of the
    long-range consistency curve discussed for VBench, at steps of 2, 5, 10, 20 and 50). Pairs with
    a zero vector have no angle and do not count.

    Fails on: features with one large common part, whose cosines are all near 1 (subtract the mean of
    a data set first); wanted change of scene; and frozen clips, which have the best score.

    Args:
        features: ``(N, D)``, one vector per frame or window.
        distance: Steps between the two of a pair.

    Returns:
        -1 to 1; None where no pair is that far apart.

    Raises:
        ValueError: Another shape, values that are not finite, or a distance below 1.
    """
    vectors = np.asarray(features, np.float64)
    if vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all():
        raise ValueError(
            f"features of shape {vectors.shape} must be (steps, dimensions), finite and not empty"
        )
    if distance < 1:
        raise ValueError(f"distance {distance} must be at least 1 step")
    norms = np.linalg.norm(vectors, axis=1)
    lengths = norms[distance:] * norms[:-distance]
    products = np.einsum("nd,nd->n", vectors[distance:], vectors[:-distance])
    turning = lengths > 0
    cosines = np.clip(products[turning] / lengths[turning], -1, 1)
    return float(cosines.mean()) if cosines.size else None


class LongClipMetric(ClipMetric):
    """Change of one curve over a clip, and self-similarity against distance in time.

    ``update(curve, features)`` takes one value per window (of any other metric) and, if there are
    any, feature vectors ``(N, D)``; use one metric object for each curve. Steps of similarity are
    those of the features.
    """

    fields: ClassVar = {
        "slope_per_s": Field(unit="1/s", better="target"),
        "last_to_first": Field(better="target"),
        **{f"similarity_{d}": Field(better="higher") for d in DISTANCES},
    }

    def measure(self, curve: Curve, features: np.ndarray | None = None) -> Values:
        """All values of one clip; ValueError for a curve or features of a wrong shape."""
        values: dict[str, float | None] = {
            "slope_per_s": slope_per_second(curve),
            "last_to_first": last_to_first(curve),
        }
        for d in DISTANCES:
            values[f"similarity_{d}"] = None if features is None else similarity_at(features, d)
        return values


def _measured(curve: Curve) -> np.ndarray:
    """Which windows have a value."""
    values = np.asarray(curve.values, float)
    if values.ndim != 1 or not values.size or np.isinf(values).any():
        raise ValueError(
            f"a curve needs one finite value (or NaN) per window, not values of shape {values.shape}"
            f"{' that are infinite' if values.size else ''}"
        )
    return ~np.isnan(values)
