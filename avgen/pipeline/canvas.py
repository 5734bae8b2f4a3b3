"""Given media on the time grid of the clip to be made, and back into the clip afterwards.

Shapes: F frames, S waveform samples, A audio channels.
"""

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
    source = request.video or request.prefix
    frames = None
    if request.image is not None:
        frames = _fit_frames(request.image[None], Fraction(1), request, num_frames)
    elif source is not None and source.frames is not None:
        frames = _fit_frames(source.frames, source.fps, request, num_frames)
    sound = request.audio or request.prefix
    waveform = None
    if sound is not None and sound.waveform is not None:
        samples = fit_channels(resample(sound.waveform, sound.sample_rate, sample_rate), channels)
        waveform = np.zeros((channels, num_samples), np.float32)
        length = min(num_samples, samples.shape[1])
        waveform[:, :length] = samples[:, :length]
    return Canvas(frames, waveform)


def put_back(clip: Clip, canvas: Canvas, given_frames: int, given_samples: int) -> Clip:
    """The clip with its first ``given_frames`` and ``given_samples`` as they were given, cross-faded over 5 ms."""
    frames, waveform = clip.frames, clip.waveform
    if canvas.frames is not None and given_frames:
        assert frames is not None
        frames = np.concatenate((canvas.frames[:given_frames], frames[given_frames:]))
    if canvas.waveform is not None and given_samples:
        assert waveform is not None
        weight = np.zeros(waveform.shape[1], np.float32)
        fade = min(round(CROSSFADE * clip.sample_rate), given_samples)
        weight[:given_samples] = 1.0
        if given_samples < len(weight):
            weight[given_samples - fade : given_samples] = np.linspace(1, 0, fade, dtype=np.float32)
        waveform = weight * canvas.waveform + (1 - weight) * waveform
    return clip.replace(frames=frames, waveform=waveform)


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
