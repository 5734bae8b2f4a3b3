"""A power law with a floor, fitted to the best that was reached for each amount of operations."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

LEVEL = 0.95
RESAMPLES = 500
_PARAMETERS = 3
_LEAST = _PARAMETERS + 1
_EXPONENTS = (0.1, 0.3, 0.6, 1.0)


@dataclass(frozen=True)
class PowerLaw:
    """Loss ``floor + scale * (flops / unit) ** -exponent`` (Kaplan et al. 2020, arXiv 2001.08361).

    Attributes:
        floor: Loss that no amount of operations gets under.
        scale: What one unit of operations leaves above it.
        exponent: How fast that falls.
        unit: Operations.
    """

    floor: float
    scale: float
    exponent: float
    unit: float

    def __call__(self, flops: np.ndarray) -> np.ndarray:
        """Loss at so many operations."""
        return self.floor + self.scale * (flops / self.unit) ** -self.exponent


def frontier(flops: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Places, in the order of operations, of what nothing beats with as many operations or fewer."""
    order = np.lexsort((loss, flops))
    best = np.minimum.accumulate(loss[order])
    earlier = np.concatenate([[np.inf], best[:-1]])
    return order[loss[order] < earlier]


def fit(flops: np.ndarray, loss: np.ndarray) -> PowerLaw:
    """The law of least squares through the frontier.

    Raises:
        ValueError: The frontier has fewer than four points, or no law goes through it.
    """
    at = frontier(flops, loss)
    if len(at) < _LEAST:
        raise ValueError(
            f"{len(at)} runs reach a loss that none with fewer operations has; a law with a floor needs {_LEAST}: "
            "train more sizes, or for more steps"
        )
    x, y = flops[at], loss[at]
    unit = float(np.exp(np.log(x).mean()))
    spread = max(float(np.ptp(y)), 1e-12)

    def law(z: np.ndarray, floor: float, scale: float, exponent: float) -> np.ndarray:
        return floor + scale * z**-exponent

    bounds = ([0.0, 0.0, 0.01], [float(y.min()), np.inf, 3.0])
    found: list[tuple[float, PowerLaw]] = []
    for exponent in _EXPONENTS:
        start = (max(float(y.min()) - spread, 0.0) / 2, spread, exponent)
        try:
            values, _ = curve_fit(law, x / unit, y, p0=start, bounds=bounds, maxfev=4000)
        except (RuntimeError, OptimizeWarning):
            continue
        floor, scale, power = (float(value) for value in values)
        made = PowerLaw(floor, scale, power, unit)
        found.append((float(np.square(made(x) - y).sum()), made))
    if not found:
        raise ValueError("no power law goes through the losses; train for more steps")
    return min(found, key=lambda pair: pair[0])[1]


def intervals(
    flops: np.ndarray, loss: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of floor and exponent where runs are drawn again with replacement.

    Samples of which no law can be fitted are left out; where that is most of them, there is no interval.
    """
    generator = np.random.default_rng(seed)
    drawn: list[PowerLaw] = []
    for _ in range(resamples):
        rows = generator.integers(len(flops), size=len(flops))
        try:
            drawn.append(fit(flops[rows], loss[rows]))
        except ValueError:
            continue
    if len(drawn) < resamples / 2:
        return {}
    ends = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    return {
        name: _pair(np.percentile([getattr(law, name) for law in drawn], ends))
        for name in ("floor", "exponent")
    }


def _pair(values: np.ndarray) -> tuple[float, float]:
    low, high = values.tolist()
    return low, high
