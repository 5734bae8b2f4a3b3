"""Dense optical flow between consecutive frames: pyramidal Lucas-Kanade on whole fields, in NumPy.

Method: B. D. Lucas and T. Kanade, "An iterative image registration technique", IJCAI 1981, coarse
to fine. Small frames suffice to time an impact, so pictures are first reduced to about 64 lines.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

LINES = 64
LEVELS = 3
ITERATIONS = 2
WINDOW_PX = 2.5
MIN_TEXTURE = 4e-5
MAX_SHARE = 0.125
CHUNK = 256


@dataclass(frozen=True)
class PictureFlow:
    """A picture as motion is measured on it; made once per clip by `measure_flow`.

    Attributes:
        grey: ``(F, h, w)`` float32 in [0, 1], of `reduce_frames`.
        flow: ``(F - 1, 2, h, w)`` pixels down and right, of `steady_flow`.
    """

    grey: np.ndarray
    flow: np.ndarray


def measure_flow(frames: np.ndarray) -> PictureFlow:
    """Grey frames and the flow between them, of ``(F, H, W, 3)`` uint8.

    Raises:
        ValueError: As `reduce_frames`.
    """
    grey = reduce_frames(frames)
    return PictureFlow(grey, steady_flow(grey))


def reduce_frames(frames: np.ndarray, lines: int = LINES) -> np.ndarray:
    """Grey frames ``(F, h, w)`` float32 in [0, 1], reduced by a whole factor (area average).

    Args:
        frames: ``(F, H, W, 3)`` uint8.
        lines: The shorter side is brought between this and twice this; smaller stays as it is.

    Raises:
        ValueError: The frames are not ``(F, H, W, 3)`` uint8.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"frames of shape {frames.shape} and type {frames.dtype} must be (F, H, W, 3) uint8"
        )
    factor = max(1, min(frames.shape[1:3]) // lines)
    height, width = (side // factor * factor for side in frames.shape[1:3])
    grey = np.empty((len(frames), height // factor, width // factor), np.float32)
    weights = np.array([0.299, 0.587, 0.114], np.float32) / 255
    for target, frame in zip(grey, frames[:, :height, :width], strict=True):
        mono = frame.astype(np.float32) @ weights
        target[:] = mono.reshape(height // factor, factor, width // factor, factor).mean(
            axis=(1, 3)
        )
    return grey


def steady_flow(grey: np.ndarray) -> np.ndarray:
    """Optical flow of frames freed of changes of brightness that most of the picture shares.

    The median change of the pixels from frame to frame is taken out before, where more than half of
    them change by something near it (their median deviation from it is smaller than it is): otherwise
    a fade or flicker of a smooth picture looks as if all its slopes moved. Elsewhere this is
    `optical_flow`.

    Args:
        grey: ``(F, h, w)`` in [0, 1].

    Returns:
        ``(F - 1, 2, h, w)``, pixels down and right.
    """
    common = [0.0, *(_common_change(after - before) for before, after in pairwise(grey))]
    return optical_flow(grey - np.cumsum(common, dtype=np.float32)[:, None, None])


def optical_flow(grey: np.ndarray) -> np.ndarray:
    """Displacement in pixels of each pixel from one frame to the next.

    Args:
        grey: ``(F, h, w)`` in [0, 1].

    Returns:
        ``(F - 1, 2, h, w)`` (down, right): what is at p in the later frame was at ``p - flow`` in
        the earlier one. Zero where there is no texture, and scaled down to zero where moving the
        earlier frame along it does not bring it closer to the later one (a light that comes on, a
        cut). Displacements above an eighth of the frame's height are taken for errors and set to
        zero.
    """
    pairs = [_flow(grey[i : i + CHUNK + 1]) for i in range(0, len(grey) - 1, CHUNK)]
    return np.concatenate(pairs) if pairs else np.zeros((0, 2, *grey.shape[1:]), np.float32)


def warp(grey: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Earlier frames ``(N, h, w)`` moved along ``flow`` ``(N, 2, h, w)``, bilinear."""
    height, width = grey.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    moved = np.empty_like(grey)
    for target, frame, field in zip(moved, grey, flow, strict=True):
        target[:] = map_coordinates(
            frame, [rows - field[0], columns - field[1]], order=1, mode="nearest"
        )
    return moved


def _common_change(change: np.ndarray) -> float:
    common = float(np.median(change))
    return common if common and np.median(np.abs(change - common)) < abs(common) else 0.0


def _flow(grey: np.ndarray) -> np.ndarray:
    pyramid = [_smooth(grey, 0.7)]
    while len(pyramid) < LEVELS and min(pyramid[-1].shape[1:]) >= 16:
        pyramid.append(_smooth(pyramid[-1], 1.0)[:, ::2, ::2])
    flow = np.zeros((len(grey) - 1, 2, *pyramid[-1].shape[1:]), np.float32)
    for level in reversed(pyramid):
        flow = _resize(flow, level.shape[1:])
        for _ in range(ITERATIONS):
            flow = _refine(level[:-1], level[1:], flow)
    size = np.sqrt((flow**2).sum(axis=1))
    return flow * (_explained(pyramid[0], flow) * (size <= grey.shape[1] * MAX_SHARE))[:, None]


def _explained(grey: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Share of the change around each pixel that the flow accounts for, 0 to 1, ``(F - 1, h, w)``.

    The median change of the frame is taken for noise, which no flow accounts for.
    """
    change = _smooth((grey[1:] - grey[:-1]) ** 2, WINDOW_PX)
    rest = _smooth((grey[1:] - warp(grey[:-1], flow)) ** 2, WINDOW_PX)
    noise = np.median(change, axis=(1, 2), keepdims=True)
    unexplained = np.maximum(rest - noise, 0) / np.maximum(change - noise, 1e-6)
    return np.where(change > noise, np.clip(1 - unexplained, 0, 1), 1)


def _refine(before: np.ndarray, after: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """One Gauss-Newton step of every pixel's window."""
    moved = warp(before, flow)
    down, right = map(np.asarray, np.gradient(0.5 * (moved + after), axis=(1, 2)))
    change = after - moved
    dd, rr, dr = (
        _smooth(a * b, WINDOW_PX) for a, b in ((down, down), (right, right), (down, right))
    )
    dt, rt = _smooth(down * change, WINDOW_PX), _smooth(right * change, WINDOW_PX)
    dd, rr = dd + MIN_TEXTURE, rr + MIN_TEXTURE
    determinant = dd * rr - dr * dr
    step = np.stack([rr * dt - dr * rt, dd * rt - dr * dt], axis=1) / determinant[:, None]
    return flow - np.clip(step, -2, 2)


def _smooth(images: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(images, (0, sigma, sigma), mode="nearest", truncate=2.5)


def _resize(flow: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Flow field on a finer grid; displacements grow with the grid."""
    scale = (shape[0] / flow.shape[2], shape[1] / flow.shape[3])
    if scale == (1.0, 1.0):
        return flow
    fine = _stretch(_stretch(flow, shape[0], axis=2), shape[1], axis=3)
    return fine * np.array(scale, np.float32)[None, :, None, None]


def _stretch(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Linear interpolation along an axis; the outer edges of the two grids lie on one another."""
    old = values.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    low = np.minimum(at.astype(int), max(0, old - 2))
    share = (at - low).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1 - axis))
    before, after = (np.take(values, np.minimum(low + k, old - 1), axis) for k in (0, 1))
    return before + (after - before) * share
