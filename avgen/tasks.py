"""Which tokens are given and which are generated: the one place that knows the tasks.

A task is a pattern over time for each stream. Given tokens have noise level zero and no loss; all others are
generated. Training, sampling and streaming ask here. Times are seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Span = tuple[float, float]
TaskName = Literal["t2av", "i2av", "v2a", "a2v", "extend", "infill"]
ALWAYS: Span = (float("-inf"), float("inf"))


@dataclass(frozen=True)
class Task:
    """Time spans that are given, by stream name; what no span covers is generated."""

    given: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)

    def given_mask(self, stream: str, intervals: Float[Tensor, "n 2"]) -> Bool[Tensor, "n"]:
        """True for each token whose whole ``[start, end)`` lies in a given span."""
        start, end = intervals.unbind(-1)
        mask = torch.zeros_like(start, dtype=torch.bool)
        for low, high in self.given.get(stream, ()):
            mask |= (start >= low - 1e-6) & (end <= high + 1e-6)
        return mask


def text_to_audio_video() -> Task:
    """Everything is generated."""
    return Task()


def image_to_audio_video(frame_seconds: float) -> Task:
    """The first frame is given."""
    return Task({"video": ((0.0, frame_seconds),)})


def video_to_audio() -> Task:
    """The picture is given, the sound is generated."""
    return Task({"video": (ALWAYS,)})


def audio_to_video() -> Task:
    """The sound is given, the picture is generated."""
    return Task({"audio": (ALWAYS,)})


def extend(prefix_seconds: float) -> Task:
    """Both streams are given up to ``prefix_seconds``."""
    span = ((float("-inf"), prefix_seconds),)
    return Task({"video": span, "audio": span})


def infill(start: float, end: float) -> Task:
    """Both streams are given outside ``[start, end]``.

    Raises:
        ValueError: The span is empty.
    """
    if end <= start:
        raise ValueError(f"infill from {start} s to {end} s is empty; give start < end")
    spans = ((float("-inf"), start), (end, float("inf")))
    return Task({"video": spans, "audio": spans})


def draw(name: TaskName, duration: float, frame_seconds: float, generator: torch.Generator) -> Task:
    """A random instance of a named task for training: the length of a prefix and the place of a gap are drawn.

    Raises:
        ValueError: An unknown task.
    """
    first, second = torch.rand(2, generator=generator).tolist()
    match name:
        case "t2av":
            return text_to_audio_video()
        case "i2av":
            return image_to_audio_video(frame_seconds)
        case "v2a":
            return video_to_audio()
        case "a2v":
            return audio_to_video()
        case "extend":
            return extend((0.1 + 0.6 * first) * duration)
        case "infill":
            length = (0.2 + 0.4 * first) * duration
            start = second * (duration - length)
            return infill(start, start + length)
    raise ValueError(f"task {name!r} is unknown; use t2av, i2av, v2a, a2v, extend or infill")
