"""What the pictures of a clip are like: movement, light, sharpness, overlaid text, missed cuts.

Shapes: F frames, H W pixels.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, UInt8
from numpy import ndarray

from avgen.clock import MICROSECONDS
from avgen_data_prep.pipeline.stage import Measure, Row
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.stages.overlaid_text import text_area
from avgen_data_prep.stages.pictures import grey, opencv, shrunk, spread
from avgen_data_prep.stages.reading import fitted

_BLACK_LUMA, _BLACK_PIXELS = 25.5, 0.98
_FROZEN_LEVELS, _BLOCKS = 1.5, 8
_CUT_REACH, _CUT_FLOOR = 3, 0.05
_COLOUR_SIDE = 32


@dataclass(frozen=True, kw_only=True)
class VideoStats(Measure):
    """Properties of a clip's pictures. All columns are null where it has none.

    Columns:
        motion: Mean absolute difference of the grey of neighbouring frames, in shares of full scale
            (0 to 1); 0 for one frame. Grows with contrast, noise and frame time; a moving camera
            counts as much as moving things.
        motion_flow: Mean length of the optical flow, in shorter sides of the picture per second
            (DIS, Kroeger et al. 2016). Independent of contrast, but flat surfaces do not seem to
            move, and more than about a quarter of the picture per frame is not followed.
        luma_mean: Mean grey, 0 (black) to 1 (white).
        luma_std: Standard deviation of the grey over all pixels and frames, in the same scale.
        black_share: Share of frames of which 98% of the pixels are darker than a tenth.
        freeze_share: Share of the steps between frames in which no 64th of the picture changes by
            more than 1.5 of 255 levels; 0 for one frame. A picture in which nothing moves cannot be
            told from one that hangs, and sources of fewer frames per second than the clip repeat
            theirs.
        freeze_us: Longest time without change, in microseconds: from the first of such frames until
            the next that differs, or the end.
        sharpness: Variance of the Laplacian of the grey (0 to 255), median of `looks` frames,
            with the shorter side brought to 256 pixels (never enlarged). Flat and dark pictures read
            as blurred, noise and text as sharp; compare clips of like contents only.
        text_area: Share of the picture under what looks like lines of overlaid text; see
            `overlaid_text`, which says what it takes for text and what it misses.
        cut_inside: 0 to 1, how much the largest change that stays stands alone: near 1, a cut was
            missed. Misses dissolves, and cuts within 3 frames of the ends read a little high.

    Attributes:
        size: Shorter side at which movement and light are measured, in pixels.
        looks: Frames looked at for sharpness and text.
    """

    name: ClassVar[str] = "video_stats"
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            ("motion", pa.float64()),
            ("motion_flow", pa.float64()),
            ("luma_mean", pa.float64()),
            ("luma_std", pa.float64()),
            ("black_share", pa.float64()),
            ("freeze_share", pa.float64()),
            ("freeze_us", pa.int64()),
            ("sharpness", pa.float64()),
            ("text_area", pa.float64()),
            ("cut_inside", pa.float64()),
        ]
    )
    size: int = 64
    looks: int = 6

    def __post_init__(self) -> None:
        if self.size < 16 or self.looks < 1:
            raise ValueError(
                f"size is {self.size} and looks {self.looks}; give at least 16 pixels and 1 frame"
            )

    def measure(self, row: Row, work: Work) -> Row:
        """See the columns of the class."""
        clip = work.clip(row)
        if clip.frames is None:
            return {}
        height, width = clip.frames.shape[1:3]
        small = shrunk(clip.frames, *fitted(height, width, self.size))
        levels = grey(small)
        still = frozen(levels)
        values = {
            "motion": motion(levels),
            "motion_flow": flow_length(levels) / min(levels.shape[1:]) * float(clip.fps),
            "luma_mean": float(levels.mean()) / 255,
            "luma_std": float(levels.std()) / 255,
            "black_share": black_share(levels),
            "freeze_share": float(still.mean()) if still.size else 0.0,
            "sharpness": sharpness(clip.frames[spread(len(levels), self.looks)]),
            "text_area": text_area(clip.frames, float(clip.fps), self.looks),
            "cut_inside": cut_inside(shrunk(small, _COLOUR_SIDE, _COLOUR_SIDE)),
        }
        lasted = round((longest_run(still) + 1) * MICROSECONDS / clip.fps) if still.any() else 0
        return {name: round(value, 6) for name, value in values.items()} | {"freeze_us": lasted}


def motion(levels: UInt8[ndarray, "f h w"]) -> float:
    """Mean absolute difference of neighbouring frames in shares of full scale."""
    if len(levels) < 2:
        return 0.0
    return float(np.abs(np.diff(levels.astype(np.int16), axis=0)).mean()) / 255


def flow_length(levels: UInt8[ndarray, "f h w"]) -> float:
    """Mean length of the optical flow between neighbouring frames, in pixels."""
    cv2 = opencv()
    if len(levels) < 2 or min(levels.shape[1:]) < 16:
        return 0.0
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    lengths = []
    for before, after in pairwise(levels):
        still = np.zeros((*before.shape, 2), np.float32)
        moved = np.hypot(*np.moveaxis(estimator.calc(before, after, still), -1, 0))
        lengths.append(float(moved.mean()) if (before != after).any() else 0.0)
    return float(np.mean(lengths))


def black_share(levels: UInt8[ndarray, "f h w"]) -> float:
    """Share of frames that are black, as FFmpeg's ``blackdetect`` defines it."""
    dark = (levels < _BLACK_LUMA).mean(axis=(1, 2))
    return float((dark >= _BLACK_PIXELS).mean())


def frozen(levels: UInt8[ndarray, "f h w"]) -> ndarray:
    """Whether each step between frames leaves all parts of the picture as they are, ``(F - 1,)``."""
    change = np.abs(np.diff(levels.astype(np.float32), axis=0))
    rows, columns = (_edges(length) for length in levels.shape[1:])
    sums = np.add.reduceat(np.add.reduceat(change, rows[:-1], axis=1), columns[:-1], axis=2)
    areas = np.diff(rows)[:, None] * np.diff(columns)
    return (sums / areas).max(axis=(1, 2), initial=0.0) < _FROZEN_LEVELS


def _edges(length: int) -> ndarray:
    return np.linspace(0, length, min(_BLOCKS, length) + 1).astype(int)


def longest_run(flags: ndarray) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.pad(flags.astype(np.int8), 1)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def sharpness(frames: UInt8[ndarray, "f h w 3"]) -> float:
    """Median over frames of the variance of the Laplacian, at a shorter side of up to 256 pixels."""
    cv2 = opencv()
    levels = grey(shrunk(frames, *fitted(frames.shape[1], frames.shape[2], 256)))
    return float(np.median([cv2.Laplacian(level, cv2.CV_64F).var() for level in levels]))


def cut_inside(small: UInt8[ndarray, "f h w 3"]) -> float:
    """How much the most abrupt change that stays stands out of the change around it, 0 to 1.

    A change stays if the pictures 1, 2 and 3 frames to its sides differ as much as the neighbours
    do, so a flash is none. The largest change of the 3 frames to either side is taken off, so a
    swift movement is none.
    """
    if len(small) < 3:
        return 0.0
    pictures = small.astype(np.float32)
    steps = _change(pictures, 0)
    stays = np.min([_change(pictures, reach) for reach in range(_CUT_REACH)], axis=0)
    padded = np.pad(steps, _CUT_REACH)
    offsets = [o for o in range(2 * _CUT_REACH + 1) if o != _CUT_REACH]
    around = np.max([padded[o : o + len(steps)] for o in offsets], axis=0)
    alone = np.maximum(0.0, stays - around) / (stays + _CUT_FLOOR)
    return float(alone.max())


def _change(pictures: Float32[ndarray, "f h w 3"], reach: int) -> ndarray:
    """Mean absolute difference across each step, of the frames ``reach`` further out, 0 to 1."""
    last = len(pictures) - 1
    before = np.maximum(np.arange(last) - reach, 0)
    after = np.minimum(np.arange(1, last + 1) + reach, last)
    return np.abs(pictures[after] - pictures[before]).mean(axis=(1, 2, 3)) / 255
