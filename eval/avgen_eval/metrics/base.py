"""What metrics of single clips share: named values, their units and direction, and the mean over clips."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

Values = Mapping[str, float | None]
"""Values of one clip by name; None where it cannot be measured, which is never a number."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One value of a metric.

    Attributes:
        unit: Such as ``ms``, ``dB`` or ``share``; empty for a bare number.
        better: Which direction is better; ``target`` where a certain value is, ``none`` for a description.
    """

    unit: str = ""
    better: Literal["higher", "lower", "target", "none"] = "none"


class ClipMetric(Metric):
    """Mean over clips of the values that `measure` gives for one.

    Sums and counts are reduced over processes, so that many give the result of one. A value that is None in every
    clip is NaN, and ``counts`` says of how many clips each mean is taken.
    """

    fields: ClassVar[Mapping[str, Field]]
    is_differentiable = False
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        size = len(self.fields)
        self.sums: Tensor
        self.counts: Tensor
        self.add_state("sums", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def measure(self, *args: Any, **kwargs: Any) -> Values:
        """Values of one clip, by the names in ``fields``."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Measure one clip."""
        values = self.measure(*args, **kwargs)
        for index, name in enumerate(self.fields):
            value = values[name]
            if value is not None:
                self.sums[index] += value
                self.counts[index] += 1

    def compute(self) -> dict[str, Tensor]:
        """Means by name."""
        means = self.sums / self.counts
        return dict(zip(self.fields, means.unbind(), strict=True))
