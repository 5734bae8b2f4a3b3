"""Anti-aliased shapes painted into a stack of frames.

A shape is a signed distance in pixels, negative inside, computed for all frames at once in a small
window that follows the shape. Shapes: F frames, P window side, H, W, 3 colour channels in 0..255.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Window:
    """A square of pixels that follows a moving centre.

    Attributes:
        top: Row of its first pixel for each frame, ``(F,)``.
        left: Column of its first pixel for each frame, ``(F,)``.
        x: Pixels right of the centre, ``(F, 1, P)``.
        y: Pixels below the centre, ``(F, P, 1)``.
    """

    top: np.ndarray
    left: np.ndarray
    x: np.ndarray
    y: np.ndarray


def blank(num_frames: int, size: int, colour: Colour) -> np.ndarray:
    """Frames of one colour, ``(F, size, size, 3)`` float32."""
    frames = np.empty((num_frames, size, size, 3), dtype=np.float32)
    frames[:] = colour
    return frames


def follow(centre_x: np.ndarray, centre_y: np.ndarray, reach: float) -> Window:
    """The window around centres in pixels ``(F,)`` that holds all within ``reach`` pixels."""
    side = 2 * int(np.ceil(reach)) + 4
    left = np.floor(centre_x - side / 2).astype(int)
    top = np.floor(centre_y - side / 2).astype(int)
    middle = np.arange(side) + 0.5
    x = (left - centre_x)[:, None] + middle
    y = (top - centre_y)[:, None] + middle
    return Window(top, left, x[:, None, :].astype(np.float32), y[:, :, None].astype(np.float32))


def coverage(distance: np.ndarray) -> np.ndarray:
    """How much of each pixel lies inside, 0 to 1, from the distance of its centre."""
    return np.clip(0.5 - distance, 0.0, 1.0)


def disc(x: np.ndarray, y: np.ndarray, radius: float | np.ndarray) -> np.ndarray:
    """Distance to a disc."""
    return np.sqrt(x * x + y * y) - radius


def ellipse(
    x: np.ndarray, y: np.ndarray, half_width: float | np.ndarray, half_height: float | np.ndarray
) -> np.ndarray:
    """Distance to an ellipse, to first order."""
    scaled = np.sqrt((x / half_width) ** 2 + (y / half_height) ** 2)
    slope = np.sqrt((x / half_width**2) ** 2 + (y / half_height**2) ** 2)
    return scaled * (scaled - 1.0) / np.maximum(slope, 1e-6)


def box(
    x: np.ndarray, y: np.ndarray, half_width: float | np.ndarray, half_height: float | np.ndarray
) -> np.ndarray:
    """Distance to an axis-aligned box, to its nearest side."""
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def triangle(
    x: np.ndarray, y: np.ndarray, half_width: float | np.ndarray, half_height: float | np.ndarray
) -> np.ndarray:
    """Distance to an upright triangle that fills its bounding box."""
    tall, wide = 2.0 * half_height, half_width
    length = np.sqrt(tall * tall + wide * wide)
    side = (np.abs(x) * tall - (y + half_height) * wide) / length
    return np.maximum(side, y - half_height)


def segment(
    x: np.ndarray, y: np.ndarray, to_x: np.ndarray, to_y: np.ndarray, half_width: float
) -> np.ndarray:
    """Distance to a thick line from the centre to a point."""
    along = (x * to_x + y * to_y) / np.maximum(to_x * to_x + to_y * to_y, 1e-6)
    along = np.clip(along, 0.0, 1.0)
    return np.sqrt((x - along * to_x) ** 2 + (y - along * to_y) ** 2) - half_width


def paint(frames: np.ndarray, window: Window, alpha: np.ndarray, colour: np.ndarray) -> None:
    """Blend a colour, broadcastable to ``(F, P, P, 3)``, into frames in place, cut at edges."""
    _, height, width, _ = frames.shape
    alpha = alpha[..., None]
    source = np.broadcast_to(alpha * colour, (*alpha.shape[:3], 3))
    keep = 1.0 - alpha
    side = alpha.shape[1]
    for i in range(len(frames)):
        top, left = int(window.top[i]), int(window.left[i])
        y0, y1 = max(0, top), min(height, top + side)
        x0, x1 = max(0, left), min(width, left + side)
        if y0 >= y1 or x0 >= x1:
            continue
        rows, columns = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        area = frames[i, y0:y1, x0:x1]
        area *= keep[i, rows, columns]
        area += source[i, rows, columns]


def paint_band(frames: np.ndarray, axis: int, start: float, stop: float, colour: Colour) -> None:
    """Fill rows (``axis`` 0) or columns (1) from ``start`` to ``stop``, pixels may be partial."""
    length = frames.shape[1 + axis]
    edge = np.arange(length, dtype=np.float32)
    share = np.clip(np.minimum(edge + 1, stop) - np.maximum(edge, start), 0.0, 1.0)
    share = share.reshape((1, length, 1, 1) if axis == 0 else (1, 1, length, 1))
    frames *= 1.0 - share
    frames += share * np.asarray(colour, dtype=np.float32)
