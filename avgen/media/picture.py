"""From decoded pictures with times to frames on a regular grid.

Shapes: F frames, H height, W width.
"""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from jaxtyping import UInt8
from numpy import ndarray

_UNSPECIFIED = 2
_HD_HEIGHT = 720
_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class FrameGrid:
    """Frame ``i`` is the picture on screen at ``start + i / fps``: the last one shown until then.

    Before the first picture the first is shown, after the last the last.

    Args:
        start: Time of frame 0 in seconds.
        fps: Frames per second of the grid.
        length: Number of frames, or None where it is known only at the end.
        tolerance: Seconds that a picture's time may be late by rounding in the container.
        convert: Turns a decoded picture into ``(H, W, 3)`` uint8.
        check: Called with (frames, bytes of one) before memory is taken; raises if too much.
    """

    def __init__(
        self,
        start: Fraction,
        fps: Fraction,
        length: int | None,
        tolerance: Fraction,
        convert: Callable[[VideoFrame], UInt8[ndarray, "h w 3"]],
        check: Callable[[int, int], None],
    ):
        self.start, self.fps, self.length = start, fps, length
        self.tolerance, self.convert, self.check = tolerance, convert, check
        self.end = Fraction(0)
        self._current: VideoFrame | None = None
        self._frames: UInt8[ndarray, "f h w 3"] | None = None
        self._count = 0

    @property
    def started(self) -> bool:
        """A picture has come."""
        return self._current is not None

    @property
    def complete(self) -> bool:
        """All frames are known; later pictures change nothing."""
        return self.length is not None and self._count >= self.length

    def add(self, time: Fraction, frame: VideoFrame, duration: Fraction) -> None:
        """The next picture, on screen from ``time`` for ``duration`` seconds."""
        self._repeat(self._index(time))
        self._current = frame
        self.end = time + duration

    def finish(self, length: int) -> UInt8[ndarray, "f h w 3"]:
        """All frames, the last picture held up to ``length``."""
        self._repeat(length)
        assert self._frames is not None
        self._frames.resize((length, *self._frames.shape[1:]), refcheck=False)
        return self._frames

    def _index(self, time: Fraction) -> int:
        """The first frame that a picture from ``time`` on is seen in."""
        before = (time - self.tolerance - self.start) * self.fps
        return max(0, -(-before.numerator // before.denominator))

    def _repeat(self, until: int) -> None:
        """Fill the frames before index ``until`` with the current picture."""
        until = until if self.length is None else min(until, self.length)
        if until <= self._count or self._current is None:
            return
        picture = self.convert(self._current)
        self.check(until, picture.size)
        if self._frames is None:
            self._frames = np.empty((self.length or max(until, 64), *picture.shape), np.uint8)
        elif until > len(self._frames):
            room = max(until, len(self._frames) * 3 // 2)
            self._frames.resize((room, *picture.shape), refcheck=False)
        self._frames[self._count : until] = picture
        self._count = until


class NoGrid(FrameGrid):
    """Keeps track of the pictures that come, and no frames."""

    def add(self, time: Fraction, frame: VideoFrame, duration: Fraction) -> None:
        """The next picture, on screen from ``time`` for ``duration`` seconds."""
        self._current, self.end = frame, time + duration


class SlidingGrid(FrameGrid):
    """A `FrameGrid` of a given length that moves on, span by span."""

    shown = Fraction(-1)
    _before: VideoFrame | None = None

    def add(self, time: Fraction, frame: VideoFrame, duration: Fraction) -> None:
        """The next picture; only the first one after the span may come before `advance`."""
        before = self._current
        super().add(time, frame, duration)
        self._before, self.shown = before, time

    def advance(self) -> None:
        """Begin the span after this one."""
        assert self.length is not None
        self.start += self.length / self.fps
        self._frames, self._count = None, 0
        latest, self._current = self._current, self._before
        self._repeat(self._index(self.shown))
        self._current = latest


def to_rgb(
    frame: VideoFrame,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    reformatter: VideoReformatter | None = None,
) -> UInt8[ndarray, "h w 3"]:
    """A decoded picture as RGB, turned upright.

    Args:
        frame: The picture.
        size: Height and width to return: scaled to cover them, then cut at the centre.
        crop: Height and width to keep from the top left, before scaling (padding of odd sizes).
        reformatter: Reused for all pictures of a stream; setting one up takes over a millisecond.
    """
    untagged_hd = frame.colorspace == _UNSPECIFIED and frame.height >= _HD_HEIGHT
    height, width = _scaled(frame, size, crop)
    picture = (
        (reformatter or VideoReformatter())
        .reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=Colorspace.ITU709 if untagged_hd else None,
            interpolation=_SCALING,
            threads=1,
        )
        .to_ndarray()
    )
    if crop is not None and size is None:
        picture = picture[: crop[0], : crop[1]]
    if frame.rotation % 90 == 0 and frame.rotation:
        picture = np.rot90(picture, frame.rotation // 90)
    if size is not None:
        top, left = (picture.shape[0] - size[0]) // 2, (picture.shape[1] - size[1]) // 2
        picture = picture[top : top + size[0], left : left + size[1]]
    return np.ascontiguousarray(picture)


def _scaled(
    frame: VideoFrame, size: tuple[int, int] | None, crop: tuple[int, int] | None
) -> tuple[int, int]:
    if size is None:
        return frame.height, frame.width
    height, width = crop or (frame.height, frame.width)
    wanted = size[::-1] if frame.rotation % 180 == 90 else size
    scale = max(Fraction(wanted[0], height), Fraction(wanted[1], width))
    return max(wanted[0], round(frame.height * scale)), max(wanted[1], round(frame.width * scale))
