"""Frames as networks want them: at another rate, resized, cropped, normalised.

Shapes: F frames, H height, W width.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avgen import clock

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
CHUNK = 16


def frames_at(frames: np.ndarray, fps: clock.Rate, rate: clock.Rate) -> np.ndarray:
    """Frames ``(F, H, W, 3)`` at another rate: those shown in the middle of each new frame.

    The middle is what FFmpeg's ``fps`` filter takes too, and delays nothing on average.
    """
    ratio = clock.as_rate(fps) / clock.as_rate(rate)
    count = clock.count(Fraction(len(frames)) / clock.as_rate(fps), rate)
    middles = (2 * np.arange(count) + 1) * ratio.numerator // (2 * ratio.denominator)
    return frames[np.minimum(middles, len(frames) - 1)]


def short_side(frames: np.ndarray, size: int) -> Tensor:
    """Frames resized until the short side is ``size``, ``(F, 3, h, w)`` whole numbers in 0..255, float32.

    Bicubic, with an antialiasing filter, keeping the aspect ratio (the long side is rounded down).
    """
    height, width = frames.shape[1:3]
    short = min(height, width)
    return _resized(frames, (height * size // short, width * size // short), "bicubic")


def stretched(frames: np.ndarray, size: int, *, antialias: bool) -> Tensor:
    """Frames resized to a square whatever their aspect ratio, bilinear, ``(F, 3, size, size)`` in 0..255."""
    return _resized(frames, (size, size), "bilinear", antialias=antialias)


def centre_crop(pixels: Tensor, size: int) -> Tensor:
    """The middle ``size`` x ``size`` of the last two axes."""
    top, left = (round((length - size) / 2) for length in pixels.shape[-2:])
    return pixels[..., top : top + size, left : left + size]


def three_crops(pixels: Tensor, size: int) -> list[Tensor]:
    """First, middle and last ``size`` x ``size`` along the longer of the last two axes."""
    height, width = pixels.shape[-2:]
    along = -2 if height > width else -1
    rest = pixels.shape[along] - size
    return [pixels.narrow(along, start, size) for start in (0, -(-rest // 2), rest)]


def normalised(pixels: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """``(pixels / 255 - mean) / deviation`` per channel, channels on the third axis from the end."""
    shape = (-1, 1, 1)
    scaled = pixels / 255  # the only copy: the rest is in place
    return scaled.sub_(torch.tensor(mean).view(shape)).div_(torch.tensor(deviation).view(shape))


def _resized(
    frames: np.ndarray, size: tuple[int, int], mode: str, *, antialias: bool = True
) -> Tensor:
    parts = []
    for start in range(0, len(frames), CHUNK):
        chunk = torch.from_numpy(np.ascontiguousarray(frames[start : start + CHUNK]))
        pixels = chunk.permute(0, 3, 1, 2).float()
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels, size=size, mode=mode, antialias=antialias)
        # Bicubic overshoots; published pipelines resize bytes, which are rounded and clamped.
        parts.append(pixels.round().clamp(0, 255) if mode == "bicubic" else pixels)
    return torch.cat(parts)
