"""Sample rate conversion with soxr: zero phase, so that sounds keep their times.

Shapes: C channels, S samples.
"""

import numpy as np
import soxr
from jaxtyping import Float
from numpy import ndarray

QUALITY = "HQ"
_LOW = 0.5**0.5
# Weights of front left, front right, centre, low frequencies, rear left and right, side left and right.
_LEFT = {6: (1, 0, _LOW, 0, _LOW, 0), 8: (1, 0, _LOW, 0, _LOW, 0, _LOW, 0)}
_MIRRORED = [1, 0, 2, 3, 5, 4, 7, 6]


def resample(
    waveform: Float[ndarray, "c s"], from_rate: int, to_rate: int
) -> Float[ndarray, "c n"]:
    """The waveform at another sample rate, ``round(S * to_rate / from_rate)`` samples long.

    Raises:
        ValueError: A rate is not positive.
    """
    if min(from_rate, to_rate) <= 0:
        raise ValueError(f"sample rates {from_rate} and {to_rate} must both be positive")
    if from_rate == to_rate or waveform.shape[-1] == 0:
        return waveform
    length = max(1, round(waveform.shape[-1] * to_rate / from_rate))
    samples = np.ascontiguousarray(waveform.T, dtype=np.float32)
    converted = soxr.resample(samples, from_rate, to_rate, quality=QUALITY).T
    return fit_length(converted, length)


def fit_length(waveform: Float[ndarray, "c s"], length: int) -> Float[ndarray, "c n"]:
    """The waveform cut, or padded with silence, to ``length`` samples."""
    missing = length - waveform.shape[-1]
    if missing > 0:
        waveform = np.pad(waveform, ((0, 0), (0, missing)))
    return np.ascontiguousarray(waveform[:, :length])


def fit_channels(waveform: Float[ndarray, "c s"], channels: int) -> Float[ndarray, "k s"]:
    """The waveform with another number of channels: their mean, repeated.

    Surround sound (5.1 and 7.1, in FFmpeg's order) keeps left and right in stereo: the centre and
    the rear are mixed in 3 dB lower, the low-frequency channel is left out (ITU-R BS.775), and all
    is scaled so that nothing clips.
    """
    if waveform.shape[0] == channels:
        return waveform
    if channels == 2 and waveform.shape[0] in _LEFT:
        left = np.array(_LEFT[waveform.shape[0]])
        right = left[_MIRRORED[: len(left)]]
        return (np.stack([left, right]) / left.sum()).astype(waveform.dtype) @ waveform
    return np.repeat(waveform.mean(axis=0, keepdims=True), channels, axis=0)


class StreamResampler:
    """`resample` for a waveform that comes in pieces; the pieces together equal the whole."""

    def __init__(self, from_rate: int, to_rate: int, channels: int):
        self._stream = (
            None
            if from_rate == to_rate
            else soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality=QUALITY)
        )

    def __call__(
        self, waveform: Float[ndarray, "c s"], *, last: bool = False
    ) -> Float[ndarray, "c n"]:
        """What can be said of the result so far; ``last`` ends the stream."""
        if self._stream is None:
            return waveform
        samples = np.ascontiguousarray(waveform.T, dtype=np.float32)
        return self._stream.resample_chunk(samples, last=last).T
