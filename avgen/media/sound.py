"""From decoded sound with times to one waveform that starts at a given time.

Shapes: C channels, S samples.
"""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from jaxtyping import Float32
from numpy import ndarray

from avgen.media.resample import fit_channels, fit_length, resample

# Seconds of sound on both sides of a span, for the resampler's filter.
MARGIN = Fraction(1, 10)


class SoundPlacer:
    """Places blocks of sound at their times, silence between them, from ``start`` on.

    Times are in seconds of the clip. Containers round times (often to the millisecond), so a block
    whose time differs from the end of the one before by at most ``tolerance`` continues it.

    Args:
        start: Time of the span's first sample.
        end: Where the span ends, or None where it is known only at the end of the file.
        tolerance: Seconds.
        check: Called with (samples, channels) before memory for them is taken; raises if too much.
    """

    def __init__(
        self,
        start: Fraction,
        end: Fraction | None,
        tolerance: Fraction,
        check: Callable[[int, int], None],
    ):
        self.start, self.tolerance, self.check = start, tolerance, check
        # A whole second is on the grid of every sample rate, so resampling keeps sample positions.
        self.left = Fraction(max(0, int(start - MARGIN)))
        self.right = None if end is None else end + MARGIN
        self.end = Fraction(0)
        self.rate = 0
        self._blocks: list[tuple[int, Float32[ndarray, "c s"]]] = []
        self._next: Fraction | None = None
        self._channels = 0

    @property
    def complete(self) -> bool:
        """All that belongs to the span has come."""
        return self.right is not None and self.end >= self.right

    def add(self, time: Fraction, frame: AudioFrame) -> None:
        """The next block, its first sample at ``time``.

        Raises:
            ValueError: The sample rate or number of channels changes in mid-stream, or a sample is
                not a number.
        """
        block = samples(frame)
        if not self._blocks and self.rate == 0:
            self.rate, self._channels = frame.sample_rate, block.shape[0]
        if (frame.sample_rate, block.shape[0]) != (self.rate, self._channels):
            raise ValueError("the sound changes its sample rate or channels in mid-stream")
        if not np.isfinite(block).all():
            raise ValueError("the sound has samples that are not numbers")
        if self._next is None or abs(time - self._next) > self.tolerance:
            self._next = time
        self._place(round((self._next - self.left) * self.rate), block)
        self._next += Fraction(block.shape[1], self.rate)
        self.end = self._next

    def _place(self, at: int, block: Float32[ndarray, "c s"]) -> None:
        first = max(0, -at)
        last = block.shape[1]
        if self.right is not None:
            last = min(last, round((self.right - self.left) * self.rate) - at)
        if first < last:
            self.check(at + last, self._channels)
            self._blocks.append((at + first, block[:, first:last]))

    def finish(
        self, duration: Fraction, sample_rate: int | None, channels: int | None
    ) -> tuple[Float32[ndarray, "c s"], int]:
        """The waveform of ``duration`` seconds from the span's start, and its sample rate."""
        span = self.start - self.left + duration + MARGIN
        native = np.zeros((self._channels, round(span * self.rate)), np.float32)
        for at, block in self._blocks:
            room = native.shape[1] - at
            if room > 0:
                native[:, at : at + block.shape[1]] = block[:, :room]
        self._blocks.clear()
        rate = sample_rate or self.rate
        if channels is not None:
            native = fit_channels(native, channels)
        converted = resample(native, self.rate, rate)
        first = round((self.start - self.left) * rate)
        waveform = fit_length(converted[:, first:], max(1, round(duration * rate)))
        return np.clip(waveform, -1.0, 1.0, out=waveform), rate


def samples(frame: AudioFrame) -> Float32[ndarray, "c s"]:
    """A decoded block as float32 in [-1, 1], one row per channel."""
    data = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(-1, frame.layout.nb_channels).T
    if data.dtype == np.uint8:
        return (data.astype(np.float32) - 128) / 128
    if data.dtype.kind == "i":
        return (data / 2.0 ** (8 * data.dtype.itemsize - 1)).astype(np.float32)
    return data.astype(np.float32)
