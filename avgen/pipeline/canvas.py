"""Given media on the time grid of the clip to be made, and back into the clip afterwards.

Shapes: F frames, S waveform samples, A audio channels.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from av import VideoFrame
from torch import Tensor

from avgen.clip import Clip
from avgen.media.picture import to_rgb
from avgen.media.resample import fit_channels, resample
from avgen.pipeline.request import Request

BLEND = 0.24
"""Longest blend in seconds; over at most half of what is given."""


@dataclass(frozen=True)
class Canvas:
    """Given media laid on the whole clip; what lies beyond them is filler that no token given covers.

    Attributes:
        frames: ``(F, H, W, 3)`` uint8, or None where no picture is given.
        waveform: ``(A, S)`` float32, or None where no sound is given.
    """

    frames: np.ndarray | None
    waveform: np.ndarray | None


def lay_out(
    request: Request, num_frames: int, *, sample_rate: int, channels: int, num_samples: int
) -> Canvas:
    """Bring the given media of a request to the clip's rates, size and length."""
    source = request.video or request.prefix or request.infill
    frames = None
    if request.image is not None:
        frames = _fit_frames(request.image[None], Fraction(1), request, num_frames)
    elif source is not None and source.frames is not None:
        frames = _fit_frames(source.frames, source.fps, request, num_frames)
    sound = request.audio or request.prefix or request.infill
    waveform = None
    if sound is not None and sound.waveform is not None:
        samples = fit_channels(resample(sound.waveform, sound.sample_rate, sample_rate), channels)
        waveform = np.zeros((channels, num_samples), np.float32)
        length = min(num_samples, samples.shape[1])
        waveform[:, :length] = samples[:, :length]
    if request.span is not None:
        assert frames is not None
        assert waveform is not None
        _blank(frames, waveform, request, sample_rate)
    return Canvas(frames, waveform)


def put_back(
    clip: Clip, canvas: Canvas, given_frames: np.ndarray, given_samples: np.ndarray
) -> Clip:
    """The clip with the given frames ``(F,)`` and samples ``(S,)``, both bool, as they were given.

    Towards what was made, the given is blended into what its codecs make of it: otherwise their loss of detail would
    set in at once, which is seen and heard as a seam.
    """
    frames, waveform = clip.frames, clip.waveform
    if canvas.frames is not None:
        assert frames is not None
        weight = blended(given_frames, round(BLEND * clip.fps))
        made, frames = frames, np.where(given_frames[:, None, None, None], canvas.frames, frames)
        for i in np.flatnonzero(given_frames & (weight < 1)):
            frames[i] = np.rint(weight[i] * canvas.frames[i] + (1 - weight[i]) * made[i])
    if canvas.waveform is not None:
        assert waveform is not None
        weight = blended(given_samples, round(BLEND * clip.sample_rate))
        waveform = weight * canvas.waveform + (1 - weight) * waveform
    return clip.replace(frames=frames, waveform=waveform)


def blended(given: np.ndarray, reach: int) -> np.ndarray:
    """1 where given, falling over up to ``reach`` places towards each edge between what is given and what is not."""
    weight = given.astype(np.float32)
    edges = np.flatnonzero(np.diff(given, prepend=False, append=False))
    for first, last in edges.reshape(-1, 2):
        fade = min(reach, (last - first) // 2)
        ramp = np.linspace(1, 0, fade + 2, dtype=np.float32)[1:-1]
        if last < len(given):
            weight[last - fade : last] = ramp
        if first > 0:
            weight[first : first + fade] = ramp[::-1]
    return weight


def _blank(frames: np.ndarray, waveform: np.ndarray, request: Request, sample_rate: int) -> None:
    """Take out what a span showed, so that no codec sees it in the tokens around it.

    The picture stands still on the frame that follows (at the end of the clip on the one before), and the sound is
    silent.
    """
    assert request.span is not None
    start, end = request.span
    first = min(math.floor(start * request.fps + 1e-6), len(frames) - 1)
    last = min(math.ceil(end * request.fps - 1e-6), len(frames))
    frames[first:last] = frames[last] if last < len(frames) else frames[max(0, first - 1)]
    waveform[:, round(start * sample_rate) : round(end * sample_rate)] = 0.0


def pixels(frames: np.ndarray) -> Tensor:
    """``(F, H, W, 3)`` uint8 to ``(1, 3, F, H, W)`` in [-1, 1]."""
    return (
        torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    )


def to_frames(decoded: Tensor) -> np.ndarray:
    """``(3, F, H, W)`` in [-1, 1] to ``(F, H, W, 3)`` uint8."""
    levels = ((decoded.float() + 1) * 127.5).round().clamp(0, 255).byte()
    return levels.permute(1, 2, 3, 0).cpu().numpy()


def _fit_frames(frames: np.ndarray, fps: Fraction, request: Request, num_frames: int) -> np.ndarray:
    index = [min(int(i * fps / request.fps), len(frames) - 1) for i in range(num_frames)]
    size = (request.height, request.width)
    if frames.shape[1:3] != size:
        frames = np.stack(
            [to_rgb(VideoFrame.from_ndarray(frame, format="rgb24"), size) for frame in frames]
        )
    return frames[index]
