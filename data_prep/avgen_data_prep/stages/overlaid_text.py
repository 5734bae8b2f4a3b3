"""Where a picture shows what looks like overlaid text, by classical image analysis.

Text is taken for a row of at least `_LETTERS` connected regions, lighter or darker than their
surroundings, of like height, close to one another, drawn in strokes of even width, that is still in
its place 0.2 s later (after the regions and stroke widths of Epshtein et al., CVPR 2010, with rows
formed as by Neumann and Matas, ACCV 2010). No model, and no reading.

Misses: letters below about 8 pixels of height, letters that touch (scripts such as Arabic, many
handwritings), fewer than four letters, text that is rotated or moves, low contrast. Takes for text:
rows of small separate shapes that stand still, such as windows of a house, fences and keyboards; signs
that are part of a scene.

Shapes: F frames, H W pixels, N regions.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from scipy import ndimage

from avgen_data_prep.stages.pictures import grey, opencv, shrunk, spread
from avgen_data_prep.stages.reading import fitted

_SHORT_SIDE = 360
_CONTRAST = 25
_LETTERS = 4
_HEIGHT = (8, 0.2)
_MOST_REGIONS = 800
_LATER = 0.2
_KEPT = 0.5


def text_area(frames: UInt8[ndarray, "f h w 3"], fps: float, looks: int) -> float:
    """Share of the picture under text, mean over ``looks`` frames.

    Args:
        frames: Of a clip.
        fps: Frames per second.
        looks: Frames that are looked at, each with the one 0.2 s later.
    """
    later = min(max(1, round(_LATER * fps)), len(frames) - 1)
    height, width = fitted(frames.shape[1], frames.shape[2], _SHORT_SIDE)
    shares = []
    for index in spread(len(frames) - later, looks):
        pair = frames[[index, index + later]]
        first, second = grey(shrunk(pair, height, width))
        shares.append(_share(first, second))
    return float(np.mean(shares))


def text_boxes(level: UInt8[ndarray, "h w"]) -> list[tuple[int, int, int, int]]:
    """Rows of text of a grey picture as (top, left, bottom, right)."""
    boxes = []
    for mask in _masks(level):
        letters = _letters(mask)
        for row in _rows(letters):
            top, left = letters[row, :2].min(axis=0)
            bottom, right = letters[row, 2:].max(axis=0)
            boxes.append((int(top), int(left), int(bottom), int(right)))
    return boxes


def _share(first: UInt8[ndarray, "h w"], second: UInt8[ndarray, "h w"]) -> float:
    """Share of the picture in boxes of the first that the second fills as well."""
    then = _filled(text_boxes(second), second.shape)
    boxes = [(t, x, b, r) for t, x, b, r in text_boxes(first) if then[t:b, x:r].mean() >= _KEPT]
    return float(_filled(boxes, first.shape).mean())


def _filled(boxes: list[tuple[int, int, int, int]], shape: tuple[int, ...]) -> Bool[ndarray, "h w"]:
    mask = np.zeros(shape, bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def _masks(level: UInt8[ndarray, "h w"]) -> tuple[UInt8[ndarray, "h w"], ...]:
    """Pixels clearly lighter, and clearly darker, than the mean around them."""
    cv2 = opencv()
    side = max(15, min(level.shape) // 8) | 1
    around = cv2.blur(level, (side, side)).astype(np.int16)
    difference = level.astype(np.int16) - around
    return tuple((sign * difference > _CONTRAST).astype(np.uint8) for sign in (1, -1))


def _letters(mask: UInt8[ndarray, "h w"]) -> Float[ndarray, "n 4"]:
    """Boxes (top, left, bottom, right) of regions with the size and strokes of a letter."""
    cv2 = opencv()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    left, top, width, height, area = stats.T
    tall = (height >= _HEIGHT[0]) & (height <= _HEIGHT[1] * mask.shape[0])
    dense = (area >= 0.12 * width * height) & (area <= 0.9 * width * height)
    inside = (left > 0) & (left + width < mask.shape[1])
    good = tall & (width <= 2 * height) & (dense | (width < 0.4 * height)) & inside
    good[0] = False
    index = np.flatnonzero(good)
    if not index.size:
        return np.zeros((0, 4))
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    thickest = ndimage.maximum(depth, labels, np.arange(count))[index]
    mean = np.bincount(labels.ravel(), depth.ravel(), count)[index] / area[index]
    # A stroke of even width is half as deep on average as in its middle; a disc a third.
    even = (mean >= 0.42 * thickest) & (2 * thickest <= 0.45 * height[index])
    index = index[even][:_MOST_REGIONS]
    boxes = [top[index], left[index], top[index] + height[index], left[index] + width[index]]
    return np.stack(boxes, axis=1).astype(float)


def _rows(boxes: Float[ndarray, "n 4"]) -> list[list[int]]:
    """Groups of at least `_LETTERS` boxes that stand in a row."""
    if len(boxes) < _LETTERS:
        return []
    top, left, bottom, right = boxes.T
    height = bottom - top
    tallest = np.maximum(height[:, None], height)
    shortest = np.minimum(height[:, None], height)
    gap = np.maximum(left[:, None], left) - np.minimum(right[:, None], right)
    level = np.abs(bottom[:, None] - bottom) < 0.5 * tallest
    beside = (gap < 0.8 * tallest) & (gap > -0.3 * shortest)
    near = level & beside & (tallest < 2.2 * shortest)
    _, groups = _connected(near)
    members = [np.flatnonzero(groups == group).tolist() for group in range(groups.max() + 1)]
    return [row for row in members if len(row) >= _LETTERS and _is_line(boxes[row])]


def _connected(near: Bool[ndarray, "n n"]) -> tuple[int, ndarray]:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    return connected_components(csr_array(near), directed=False)


def _is_line(boxes: Float[ndarray, "n 4"]) -> bool:
    """Whether boxes form one line of text: wider than tall, hardly taller than its letters."""
    top, left, bottom, right = boxes.T
    tall = bottom.max() - top.min()
    return bool(right.max() - left.min() >= 2 * tall and tall <= 1.8 * np.median(bottom - top) + 4)
