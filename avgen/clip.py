"""Clip: frames and sound of one piece of media, on one clock that starts at zero."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from avgen.caption import TimedCaption


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames and sound of one piece of media.

    Attributes:
        frames: ``(F, H, W, 3)`` uint8 RGB, or None where there is no picture.
        fps: Frames per second, exact.
        waveform: ``(C, S)`` float32 in [-1, 1], or None where there is no sound.
        sample_rate: Samples per second.
        caption: What is (to be) seen and heard.
        request: The call that made the clip, where it was generated.
    """

    frames: np.ndarray | None
    fps: Fraction = Fraction(25)
    waveform: np.ndarray | None = None
    sample_rate: int = 16_000
    caption: TimedCaption | None = None
    request: dict[str, Any] = field(default_factory=dict)
