"""Guidance: each guider names a weaker condition, and adds a delta that leads away from it.

``guided = full + sum_i (scale_i - 1) * (full - weaker_i)``; a scale of 1 is off and costs nothing.
Text: classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598). Time: the weaker condition is the same text
without its times. Partner: streams that do not read each other. Rescale: Lin et al. 2023 (arXiv 2305.08891). Only at
some noise levels: Kynkäänniemi et al. 2024 (arXiv 2404.07724).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

GuiderName = Literal["text", "time", "partner"]
GUIDERS: tuple[GuiderName, ...] = get_args(GuiderName)
Scale = float | Mapping[str, float]


@dataclass(frozen=True)
class Guidance:
    """Scales of the guiders, each one number or one per stream.

    Attributes:
        text: Against no text at all.
        time: Against events without times.
        partner: Against streams that do not read each other.
        rescale: From 0 to 1, how far the guided prediction is brought back to the spread of the unguided one.
        above: Noise level from which on it guides; below it a step costs what it costs without guidance.

    Raises:
        ValueError: ``above`` is no noise level.
    """

    text: Scale = 1.0
    time: Scale = 1.0
    partner: Scale = 1.0
    rescale: float = 0.0
    above: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.above <= 1:
            raise ValueError(f"above {self.above} is no noise level; give one from 0 to 1")

    def to_dict(self) -> dict[str, Any]:
        """Its fields as JSON has them."""
        fields = {name: getattr(self, name) for name in (*GUIDERS, "rescale", "above")}
        return {n: dict(x) if isinstance(x, Mapping) else float(x) for n, x in fields.items()}

    def scale(self, guider: GuiderName, stream: str) -> float:
        """Scale of a guider for a stream."""
        value: Scale = getattr(self, guider)
        return float(value.get(stream, 1.0)) if isinstance(value, Mapping) else float(value)

    def active(self, streams: Mapping[str, object]) -> list[GuiderName]:
        """Guiders that change at least one of the streams."""
        return [
            name for name in GUIDERS if any(self.scale(name, stream) != 1.0 for stream in streams)
        ]

    def combine(self, stream: str, full: Tensor, weaker: Mapping[GuiderName, Tensor]) -> Tensor:
        """The guided prediction of a stream."""
        guided = full
        for name, other in weaker.items():
            guided = guided + (self.scale(name, stream) - 1.0) * (full - other)
        if not self.rescale or not weaker:
            return guided
        axes = tuple(range(1, full.ndim))
        matched = guided * (
            full.std(axes, keepdim=True) / guided.std(axes, keepdim=True).clamp(min=1e-6)
        )
        return self.rescale * matched + (1 - self.rescale) * guided
