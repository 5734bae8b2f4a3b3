"""Small pictures to measure on, and which frames of a clip to look at.

Shapes: F frames, H W pixels.
"""

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray


def spread(count: int, wanted: int) -> list[int]:
    """Indices of ``wanted`` of ``count`` frames, or of all: the middles of equal parts."""
    if count <= wanted:
        return list(range(count))
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def opencv():
    """The module, with one thread: a run has a process for each core."""
    import cv2

    cv2.setNumThreads(1)
    return cv2


def shrunk(frames: UInt8[ndarray, "f h w 3"], height: int, width: int) -> UInt8[ndarray, "f a b 3"]:
    """Frames of another size, each pixel the mean of what it covers."""
    if frames.shape[1:3] == (height, width):
        return frames
    cv2 = opencv()
    small = [cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames]
    return np.stack(small).astype(np.uint8, copy=False)


def grey(frames: UInt8[ndarray, "f h w 3"]) -> UInt8[ndarray, "f h w"]:
    """Luma as in BT.601, 0 to 255."""
    cv2 = opencv()
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
