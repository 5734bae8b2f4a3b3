"""From decoded sound with times to one waveform that starts at a given time.

Shapes: C channels, S samples.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from jaxtyping import Float32
from numpy import ndarray

from avgen.media.resample import StreamResampler, fit_channels, fit_length, resample

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
        self.left = Fraction(min(math.floor(start), max(0, int(start - MARGIN))))
        self.right = None if end is None else end + MARGIN
        self.end = Fraction(0)
        self.rate = 0
        self._blocks: list[tuple[int, Float32[ndarray, "c s"]]] = []
        self._held = self._sent = 0
        self._next: Fraction | None = None
        self._channels = 0

    @property
    def complete(self) -> bool:
        """All that belongs to the span has come."""
        return self.right is not None and self.rate > 0 and self.end >= self.right

    def add(self, time: Fraction, frame: AudioFrame) -> None:
        """The next block, its first sample at ``time``.

        Raises:
            ValueError: The sample rate or number of channels changes in mid-stream, or a sample is
                not a number.
        """
        block = samples(frame)
        if self._next is None:
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

    def skip(self, time: Fraction, frame: AudioFrame) -> None:
        """A block before the span, of which only the end and the format count."""
        self.rate, self._channels = frame.sample_rate, frame.layout.nb_channels
        self.end = time + Fraction(frame.samples, frame.sample_rate)

    def _place(self, at: int, block: Float32[ndarray, "c s"]) -> None:
        first = max(0, -at)
        last = block.shape[1]
        if self.right is not None:
            last = min(last, round((self.right - self.left) * self.rate) - at)
        if first < last:
            self._held += last - first
            self.check(max(at + last - self._sent, self._held), self._channels)
            self._blocks.append((at + first, block[:, first:last]))

    def finish(
        self, duration: Fraction, sample_rate: int | None, channels: int | None
    ) -> tuple[Float32[ndarray, "c s"], int]:
        """The waveform of ``duration`` seconds from the span's start, and its sample rate."""
        span = self.start - self.left + duration + MARGIN
        native = self._native(round(span * self.rate), channels)
        rate = sample_rate or self.rate
        converted = resample(native, self.rate, rate)
        first = round((self.start - self.left) * rate)
        waveform = fit_length(converted[:, first:], max(1, round(duration * rate)))
        return np.clip(waveform, -1.0, 1.0, out=waveform), rate

    def _native(self, until: int, channels: int | None) -> Float32[ndarray, "c s"]:
        """The sound before sample ``until`` that was not asked for yet, at the file's own rate."""
        native = np.zeros((self._channels, until - self._sent), np.float32)
        kept = []
        for at, block in self._blocks:
            first, last = max(at, self._sent), min(at + block.shape[1], until)
            if first < last:
                native[:, first - self._sent : last - self._sent] = block[:, first - at : last - at]
            if at + block.shape[1] > until:
                kept.append((at, block))
        self._blocks, self._sent = kept, until
        self._held = sum(block.shape[1] for _, block in kept)
        return native if channels is None else fit_channels(native, channels)


class SoundStream(SoundPlacer):
    """Places blocks like `SoundPlacer`, from zero on, and returns the sound piece by piece.

    The pieces put together are the waveform of the whole. Of a block that reaches back into what
    was returned, the rest is placed.

    Args:
        sample_rate: Of the waveform; None keeps the sound's own.
        channels: Of the waveform; None keeps the sound's own.
        tolerance: See `SoundPlacer`.
        check: See `SoundPlacer`.
    """

    def __init__(
        self,
        sample_rate: int | None,
        channels: int | None,
        tolerance: Fraction,
        check: Callable[[int, int], None],
    ):
        super().__init__(Fraction(0), None, tolerance, check)
        self._wanted, self._wanted_channels = sample_rate, channels
        self._resample: StreamResampler | None = None
        self._ready: Float32[ndarray, "c s"] | None = None
        self._taken = 0

    @property
    def _lookahead(self) -> Fraction:
        """Seconds that the resampler needs beyond what it returns, with plenty to spare."""
        return MARGIN + Fraction(1000, min(self.rate, self._wanted or self.rate))

    def covers(self, time: Fraction) -> bool:
        """What has come suffices to take the sound before ``time``."""
        return self.rate > 0 and self.end >= time + self._lookahead

    def take(self, time: Fraction) -> tuple[Float32[ndarray, "c s"], int]:
        """The sound from where the last piece ended to ``time``, and its sample rate.

        Raises:
            ValueError: No sound has come.
        """
        if self.rate == 0:
            raise ValueError("its sound does not decode")
        rate = self._wanted or self.rate
        until = max(self._sent, round((time + self._lookahead) * self.rate))
        native = self._native(until, self._wanted_channels)
        if self._resample is None or self._ready is None:
            self._resample = StreamResampler(self.rate, rate, len(native))
            self._ready = native[:, :0]
        ready = np.concatenate([self._ready, self._resample(native)], axis=1)
        length = round(time * rate) - self._taken
        assert length <= ready.shape[1], "the resampler holds back more than the look-ahead"
        self._ready, self._taken = ready[:, length:], self._taken + length
        return np.clip(ready[:, :length], -1.0, 1.0), rate


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
