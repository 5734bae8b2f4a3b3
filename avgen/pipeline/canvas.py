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

CROSSFADE = 0.005


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

    The sound is cross-faded over the 5 ms of the given sound that touch what was made.
    """
    frames, waveform = clip.frames, clip.waveform
    if canvas.frames is not None:
        assert frames is not None
        frames = np.where(given_frames[:, None, None, None], canvas.frames, frames)
    if canvas.waveform is not None:
        assert waveform is not None
        weight = _faded(given_samples, round(CROSSFADE * clip.sample_rate))
        waveform = weight * canvas.waveform + (1 - weight) * waveform
    return clip.replace(frames=frames, waveform=waveform)


def _faded(given: np.ndarray, fade: int) -> np.ndarray:
    """1 where given, falling to 0 over ``fade`` samples towards each edge of what is given."""
    weight = given.astype(np.float32)
    for edge in np.flatnonzero(np.diff(given)) + 1:
        if given[edge]:
            piece = weight[edge : edge + fade]
            piece[:] = np.minimum(piece, np.linspace(0, 1, len(piece), dtype=np.float32))
        else:
            piece = weight[max(0, edge - fade) : edge]
            piece[:] = np.minimum(piece, np.linspace(1, 0, len(piece), dtype=np.float32))
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
