"""A number that is known within bounds."""

from dataclasses import dataclass

from scipy.stats import chi2

_LEVEL = 0.95


@dataclass(frozen=True)
class Range:
    """A number, its lower and its upper bound; none is negative.

    Sums and products take all lower bounds together and all upper bounds together, so they are
    wider than if the parts erred independently.

    Raises:
        ValueError: The three are negative or out of order.
    """

    low: float
    mid: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.mid <= self.high < float("inf"):
            raise ValueError(
                f"range {self.low:g}, {self.mid:g}, {self.high:g}: give a low, a middle and a high "
                "number, none below 0, in that order"
            )

    @classmethod
    def exactly(cls, value: float) -> "Range":
        """A number without doubt."""
        return cls(value, value, value)

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.mid + other.mid, self.high + other.high)

    def __mul__(self, other: "Range | float") -> "Range":
        by = other if isinstance(other, Range) else Range.exactly(other)
        return Range(self.low * by.low, self.mid * by.mid, self.high * by.high)

    def to_list(self) -> list[float]:
        """Low, middle, high."""
        return [self.low, self.mid, self.high]


def mean_of(total: float, count: int) -> Range:
    """Mean of ``count`` positive measurements with a 95 % interval, from nothing but their sum.

    The interval is exact if the measurements are exponentially distributed, that is if they spread as
    widely as their mean is large, and too wide if they spread less: ``2 * total / chi2(2 * count)``.

    Raises:
        ValueError: There are no measurements.
    """
    if count < 1:
        raise ValueError(f"{count} measurements have no mean; measure at least one")
    bounds = chi2.ppf([(1 + _LEVEL) / 2, (1 - _LEVEL) / 2], 2 * count)
    low, high = (float(2 * total / bound) for bound in bounds)
    return Range(low, total / count, high)
