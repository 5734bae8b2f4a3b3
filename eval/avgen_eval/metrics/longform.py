"""How a long clip changes: the slope of any curve over its windows, and how fast it forgets itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from avgen.measure.onsets import Curve
from avgen_eval.metrics.base import ClipMetric, Field, Values

DISTANCES = (2, 5, 10, 20, 50)
"""Seconds between what is compared."""
MIN_WINDOWS = 5
"""Windows with a value that a curve needs to have a slope."""


@dataclass(frozen=True, kw_only=True)
class CurveKind:
    """What a curve over the windows of a clip holds.

    Attributes:
        unit: Of its values.
        change: Unit of a difference of two of them.
        has_ratio: Whether its zero is none of it, so that the last over the first means something.
    """

    unit: str
    change: str
    has_ratio: bool = True


CURVES: dict[str, CurveKind] = {
    "offset": CurveKind(unit="ms", change="ms", has_ratio=False),
    "motion": CurveKind(unit="heights/s", change="heights/s"),
    "loudness": CurveKind(unit="LUFS", change="LU", has_ratio=False),
    "brightness": CurveKind(unit="share", change="share"),
    "contrast": CurveKind(unit="share", change="share"),
    "saturation": CurveKind(unit="share", change="share"),
    "sharpness": CurveKind(unit="levels^2", change="levels^2"),
}


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
    """Change of curves over a clip, and likeness of its seconds against their distance in time.

    ``update(curves, picture, sound)`` takes curves by the names of `CURVES`, one value per window, and
    feature vectors ``(N, D)`` of each second of the picture and of the sound. What is left out is None.
    ``slope`` is signed, so that clips that drift to either side cancel in the mean; ``slope_abs`` is
    its size. A curve with values in fewer than five windows has neither.
    """

    fields: ClassVar = {
        **{
            f"{name}_slope": Field(unit=f"{curve.change}/s", better="target")
            for name, curve in CURVES.items()
        },
        **{
            f"{name}_slope_abs": Field(unit=f"{curve.change}/s", better="lower")
            for name, curve in CURVES.items()
        },
        **{
            f"{name}_last_to_first": Field(better="target")
            for name, curve in CURVES.items()
            if curve.has_ratio
        },
        **{
            f"{stream}_similarity_{d}s": Field(better="higher")
            for stream in ("picture", "sound")
            for d in DISTANCES
        },
    }

    def measure(
        self,
        curves: Mapping[str, Curve],
        picture: np.ndarray | None = None,
        sound: np.ndarray | None = None,
    ) -> Values:
        """All values of one clip; ValueError for an unknown curve, or one of a wrong shape."""
        unknown = sorted(set(curves) - set(CURVES))
        if unknown:
            raise ValueError(f"curve {unknown[0]!r} is not known; use {', '.join(CURVES)}")
        values: dict[str, float | None] = dict.fromkeys(self.fields)
        for name, curve in curves.items():
            if _measured(curve).sum() < MIN_WINDOWS:
                continue
            slope = slope_per_second(curve)
            values[f"{name}_slope"] = slope
            values[f"{name}_slope_abs"] = None if slope is None else abs(slope)
            if CURVES[name].has_ratio:
                values[f"{name}_last_to_first"] = last_to_first(curve)
        for stream, features in (("picture", picture), ("sound", sound)):
            if features is not None:
                values |= {
                    f"{stream}_similarity_{d}s": similarity_at(features, d) for d in DISTANCES
                }
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
