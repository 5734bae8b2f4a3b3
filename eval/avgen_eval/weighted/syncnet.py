"""LSE-D and LSE-C: how well lips and voice fit in the eyes of SyncNet (Chung and Zisserman 2016; Prajwal et al. 2020).

The network is an exported file; faces come from the user. Shapes: T windows, K shifts, D features, F frames, S samples.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor
from torch.nn import functional as F

from avgen.clip import Clip
from avgen_eval.metrics.base import Field, Values
from avgen_eval.weighted.base import (
    Box,
    Item,
    NotMeasurableError,
    WeightedClipMetric,
    require_frames,
)
from avgen_eval.weighted.exported import ExportedModel, Signature, TensorSpec
from avgen_eval.weighted.pictures import frames_at, stretched
from avgen_eval.weighted.sounds import mono

FPS, SIZE, SAMPLE_RATE = 25, 224, 16_000
LIP_FRAMES, VOICE_STEPS, STEPS_PER_FRAME = 5, 20, 4
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
SHIFT = 15
BATCH = 16
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

FULL_SCALE = 32_768
EMPHASIS, WINDOW, HOP, FOURIER = 0.97, 400, 160, 512
BANDS, COEFFICIENTS, LIFTER = 26, 13, 22
TINY = float(np.finfo(np.float64).eps)

SIGNATURE = Signature(
    inputs=(
        TensorSpec("video", ("B", 3, LIP_FRAMES, SIZE, SIZE)),
        TensorSpec("audio", ("B", 1, COEFFICIENTS, VOICE_STEPS)),
    ),
    outputs=(
        TensorSpec("video_embedding", ("B", 1024)),
        TensorSpec("audio_embedding", ("B", 1024)),
    ),
)


@dataclass(frozen=True, kw_only=True)
class LipSync:
    """What distances over shifts say.

    Attributes:
        distance: LSE-D, the smallest mean distance.
        confidence: LSE-C, the median over shifts of the mean distance minus the smallest.
        offset_ms: Shift with the smallest, positive where the voice is late.
    """

    distance: float
    confidence: float
    offset_ms: float


def lip_sync(distances: Tensor) -> LipSync:
    """LSE-D, LSE-C and offset from distances ``(T, K)`` between lips at t and voice at t + k - (K - 1) / 2.

    Raises:
        ValueError: The number of shifts is even: there is none in the middle.
    """
    if distances.ndim != 2 or distances.shape[1] % 2 == 0 or not len(distances):
        raise ValueError(
            f"distances have shape {tuple(distances.shape)}; give (windows, shifts) with an odd "
            "number of shifts, from earliest to latest"
        )
    means = distances.double().mean(dim=0)
    best = int(means.argmin())
    return LipSync(
        distance=float(means[best]),
        confidence=float(means.median() - means[best]),
        offset_ms=1000 * (best - distances.shape[1] // 2) / FPS,
    )


def shifted_distances(video: Tensor, audio: Tensor, shift: int = SHIFT) -> Tensor:
    """Euclidean distances ``(T, 2 * shift + 1)`` of ``(T, D)`` to ``(T, D)`` moved by -shift to +shift windows.

    Beyond its ends the voice is a vector of zeros, as in SyncNet.
    """
    padded = F.pad(audio, (0, 0, shift, shift))
    neighbours = padded.unfold(0, 2 * shift + 1, 1).transpose(1, 2)
    return F.pairwise_distance(video[:, None].expand_as(neighbours), neighbours)


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Cepstrum of samples on the scale of 16-bit integers at 16 kHz, ``(13, steps)`` float64.

    Pre-emphasis 0.97, rectangular windows of 25 ms every 10 ms (the last one is filled up with zeros), power spectrum,
    26 mel bands on the HTK scale with edges on whole bins, logarithm, orthonormal cosine transform, sine lifter of 22;
    the first coefficient is replaced by the logarithm of the energy. These are the defaults of python_speech_features.
    """
    emphasised = np.append(samples[:1], samples[1:] - EMPHASIS * samples[:-1])
    steps = 1 + max(0, -(-(len(samples) - WINDOW) // HOP))
    padded = np.pad(emphasised, (0, (steps - 1) * HOP + WINDOW - len(samples)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(windows, FOURIER)) ** 2 / FOURIER
    bands = power @ _mel_bands().T
    level = np.log(np.where(bands == 0, TINY, bands))
    cepstrum = np.asarray(dct(level, type=2, axis=1, norm="ortho"))
    order = np.arange(COEFFICIENTS)
    cepstrum = cepstrum[:, :COEFFICIENTS] * (1 + LIFTER / 2 * np.sin(np.pi * order / LIFTER))
    energy = power.sum(axis=1)
    cepstrum[:, 0] = np.log(np.where(energy == 0, TINY, energy))
    return cepstrum.T


def voice_windows(clip: Clip, count: int) -> Tensor:
    """Cepstra of 20 steps, one window per video frame, ``(count, 1, 13, 20)`` float32."""
    samples = (mono(clip, SAMPLE_RATE).double() * FULL_SCALE).round()
    steps = mfcc(samples.clamp(-FULL_SCALE, FULL_SCALE - 1).numpy())
    cepstrum = torch.from_numpy(steps).float()
    windows = cepstrum.unfold(1, VOICE_STEPS, STEPS_PER_FRAME).transpose(0, 1)
    return windows[:count, None].contiguous()


def lip_windows(clip: Clip, face: Box, count: int) -> Tensor:
    """Faces of 5 frames, one window per frame, ``(count, 3, 5, 224, 224)``: blue, green, red in 0..255.

    Raises:
        NotMeasurableError: There is no picture.
    """
    frames = frames_at(require_frames(clip), clip.fps, FPS)[: count + LIP_FRAMES - 1]
    pixels = stretched(_cropped(frames, face), SIZE, antialias=True).flip(1)
    return pixels.unfold(0, LIP_FRAMES, 1).permute(0, 1, 4, 2, 3)


class LipSyncError(WeightedClipMetric[ExportedModel]):
    """LSE-D (lower is better), LSE-C (higher is better) and the offset with the best fit.

    Lips in 5 frames and 13 cepstral coefficients of the voice in the same 0.2 s are embedded, for each frame at 25 fps.
    LSE-D is the smallest over shifts of -15 to 15 frames of the distance averaged over time, LSE-C the median over
    shifts minus it.

    Fails on: wrong or moving face boxes, which matter more than the lips; several speakers; sound without a voice;
    clips with fewer than 31 windows (1.4 s), which are not measured; comparison with published numbers, which depend
    on the face tracker and on which tracks were kept.

    Args:
        model: Exported SyncNet.
        whole_frame: Take the whole picture for the face where an item has no box: clips that are face crops.
        **kwargs: Of `torchmetrics.Metric`.
    """

    fields: ClassVar = {
        "lse_d": Field(better="lower"),
        "lse_c": Field(better="higher"),
        "offset_ms": Field(unit="ms", better="target"),
    }
    protocol = "25 fps|face box stretched to 224|16 kHz, 13 MFCC|5 frames, 20 steps|shifts -15..15"

    def __init__(self, model: ExportedModel, *, whole_frame: bool = False, **kwargs: Any) -> None:
        super().__init__(model, **kwargs)
        self.whole_frame = whole_frame

    @classmethod
    def load(cls, paths: Mapping[str, Path], device: str = "cpu") -> ExportedModel:
        """The exported SyncNet."""
        return ExportedModel(paths["syncnet"], SIGNATURE, device)

    def score(self, item: Item) -> Values:
        """``lse_d``, ``lse_c`` and ``offset_ms``."""
        face = WHOLE if self.whole_frame and item.face is None else item.require_face()
        count = num_windows(item.clip)
        if count < 2 * SHIFT + 1:
            raise NotMeasurableError(
                f"{count} windows of lips and voice; {2 * SHIFT + 1} are needed, that is 1.44 s of both"
            )
        video, audio = lip_windows(item.clip, face, count), voice_windows(item.clip, count)
        found = self.model.batched(BATCH, video=video, audio=audio)
        result = lip_sync(shifted_distances(found["video_embedding"], found["audio_embedding"]))
        return {
            "lse_d": result.distance,
            "lse_c": result.confidence,
            "offset_ms": result.offset_ms,
        }


def num_windows(clip: Clip) -> int:
    """Windows that have both lips and voice: one per frame but the last five, as in SyncNet.

    Raises:
        NotMeasurableError: There is no picture or no sound.
    """
    frames = frames_at(require_frames(clip), clip.fps, FPS)
    samples = mono(clip, SAMPLE_RATE)
    return max(0, min(len(frames), len(samples) // SAMPLES_PER_FRAME) - LIP_FRAMES)


def _cropped(frames: np.ndarray, face: Box) -> np.ndarray:
    left, top, right, bottom = face
    height, width = frames.shape[1:3]
    rows = slice(math.floor(top * height), math.ceil(bottom * height))
    columns = slice(math.floor(left * width), math.ceil(right * width))
    return frames[:, rows, columns]


@cache
def _mel_bands() -> np.ndarray:
    """Triangles ``(26, 257)`` between whole bins evenly spaced on the HTK mel scale from 0 to 8 kHz."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    edges = np.floor((FOURIER + 1) * hertz / SAMPLE_RATE)
    bins = np.arange(FOURIER // 2 + 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - low) / np.maximum(centre - low, 1)
    falling = (high - bins) / np.maximum(high - centre, 1)
    # A bin on the centre belongs to the falling side.
    return np.where(
        (bins >= low) & (bins < centre),
        rising,
        np.where((bins >= centre) & (bins < high), falling, 0.0),
    )
