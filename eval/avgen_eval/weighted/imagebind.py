"""ImageBind score and JavisScore: do sound and picture mean the same? (Girdhar et al. 2023; Liu et al. 2025).

ImageBind's weights are CC BY-NC-SA 4.0. Its two encoders are two exported files; what is before and after them is here.
Shapes: N clips of a clip, F frames, D features, W windows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avgen import clock
from avgen_eval.metrics.base import Field, Values
from avgen_eval.weighted.base import Item, NotMeasurableError, WeightedClipMetric, require_frames
from avgen_eval.weighted.exported import ExportedModel, Signature, TensorSpec
from avgen_eval.weighted.pictures import (
    CLIP_DEVIATION,
    CLIP_MEAN,
    centre_crop,
    frames_at,
    normalised,
    short_side,
    three_crops,
)
from avgen_eval.weighted.sounds import fitted, kaldi_fbank, mono

SIZE, SAMPLE_RATE = 224, 16_000
BANDS, STEPS = 128, 204
MEAN, DEVIATION = -4.268, 9.138
SOUND_SECONDS, SOUND_CLIPS, SHORTEST = 2, 3, 0.025
FPS = Fraction(1, 2)
WINDOW, OVERLAP, LOWEST = 2.0, 1.5, 0.4
BATCH = 16
VIDEO_SIGNATURE = Signature(
    inputs=(TensorSpec("video", ("B", 3, 2, SIZE, SIZE)),),
    outputs=(TensorSpec("embedding", ("B", 1024)),),
)
AUDIO_SIGNATURE = Signature(
    inputs=(TensorSpec("audio", ("B", 1, BANDS, STEPS)),),
    outputs=(TensorSpec("embedding", ("B", 1024)),),
)


@dataclass(frozen=True, kw_only=True)
class ImageBind:
    """Both encoders, each given unit vectors."""

    video: ExportedModel
    audio: ExportedModel

    @classmethod
    def from_files(cls, paths: Mapping[str, Path], device: str = "cpu") -> Self:
        """From ``imagebind_video`` and ``imagebind_audio``."""
        return cls(
            video=ExportedModel(paths["imagebind_video"], VIDEO_SIGNATURE, device),
            audio=ExportedModel(paths["imagebind_audio"], AUDIO_SIGNATURE, device),
        )

    def embed_video(self, clips: Tensor) -> Tensor:
        """Unit vectors ``(N, D)`` of pairs of frames ``(N, 3, 2, 224, 224)``."""
        return F.normalize(self.video.batched(BATCH, video=clips)["embedding"], dim=-1)

    def embed_audio(self, spectra: Tensor) -> Tensor:
        """Unit vectors ``(N, D)`` of spectra ``(N, 1, 128, 204)``."""
        return F.normalize(self.audio.batched(BATCH, audio=spectra)["embedding"], dim=-1)


def sound_spectra(samples: Tensor) -> Tensor:
    """Spectra of three spans of 2 s, evenly spaced from start to end, ``(3, 1, 128, 204)``.

    ``(log-mel + 4.268) / 9.138`` with Kaldi's filters; steps that are missing are 0 before the normalisation.
    """
    slack = max(0.0, len(samples) / SAMPLE_RATE - SOUND_SECONDS)
    starts = [int(slack * i / (SOUND_CLIPS - 1) * SAMPLE_RATE) for i in range(SOUND_CLIPS)]
    length = SOUND_SECONDS * SAMPLE_RATE
    spectra = [
        fitted(kaldi_fbank(samples[start : start + length], SAMPLE_RATE, BANDS), STEPS)
        for start in starts
    ]
    return ((torch.stack(spectra) - MEAN) / DEVIATION)[:, None]


def neighbour_pairs(frames: np.ndarray, fps: clock.Rate) -> Tensor:
    """Frames 2 s apart, each with the next, at three crops, ``(3 * (F - 1), 3, 2, 224, 224)``."""
    chosen = frames_at(frames, fps, FPS)
    pixels = normalised(short_side(chosen, SIZE), CLIP_MEAN, CLIP_DEVIATION)
    crops = torch.cat(
        [torch.stack([crop[:-1], crop[1:]], dim=2) for crop in three_crops(pixels, SIZE)]
    )
    return crops.contiguous()


def still_pairs(frames: np.ndarray) -> Tensor:
    """The middle of each frame, twice, as ImageBind takes pictures, ``(F, 3, 2, 224, 224)``."""
    pixels = centre_crop(short_side(frames, SIZE), SIZE)
    pixels = normalised(pixels, CLIP_MEAN, CLIP_DEVIATION)
    return torch.stack([pixels, pixels], dim=2)


class ImageBindMetric(WeightedClipMetric[ImageBind]):
    """What both scores share."""

    @classmethod
    def load(cls, paths: Mapping[str, Path], device: str = "cpu") -> ImageBind:
        """Both exported encoders."""
        return ImageBind.from_files(paths, device)

    def streams(self, item: Item) -> tuple[np.ndarray, Tensor]:
        """Frames ``(F, H, W, 3)`` uint8 and samples ``(S,)`` at 16 kHz, at least one window of their spectrum."""
        return require_frames(item.clip), mono(item.clip, SAMPLE_RATE, SHORTEST)


class ImageBindScore(ImageBindMetric):
    """Cosine of ImageBind's embeddings of picture and sound, as av-benchmark takes it.

    The picture is the mean over pairs of frames 2 s apart and over three crops, the sound the mean over three spans of
    2 s. Some papers print it times 100.

    Fails on: timing, of which it knows nothing; clips shorter than 4 s, which have no pair of frames and are not
    measured; sounds of things that are out of sight.
    """

    fields: ClassVar = {"imagebind": Field(better="higher")}
    protocol = (
        "frames at 0.5 fps in pairs|short side 224, 3 crops|16 kHz, 3 spans of 2 s|cosine of means"
    )

    def score(self, item: Item) -> Values:
        """``imagebind``."""
        frames, samples = self.streams(item)
        if Fraction(len(frames)) / item.clip.fps < 4:
            raise NotMeasurableError("the picture is shorter than 4 s, two frames at one per 2 s")
        picture = self.model.embed_video(neighbour_pairs(frames, item.clip.fps)).mean(dim=0)
        sound = self.model.embed_audio(sound_spectra(samples)).mean(dim=0)
        return {"imagebind": float(F.cosine_similarity(picture, sound, dim=0))}


class JavisScore(ImageBindMetric):
    """JavisBench's score: per window of 2 s the frames that fit the sound worst, averaged.

    In windows of 2 s every 0.5 s, the cosine of ImageBind's embedding of each frame and of the window's sound; the mean
    of the lowest 40% of the frames, at least one; the mean over windows. A clip up to 2 s long is one window.

    Fails on: offsets within a window, of which it knows nothing (it is about meaning); windows of few frames.
    """

    fields: ClassVar = {"javis": Field(better="higher")}
    protocol = "windows 2 s, overlap 1.5 s|short side 224, middle|16 kHz|lowest 40%, at least 1"

    def score(self, item: Item) -> Values:
        """``javis``."""
        frames, samples = self.streams(item)
        pictures = [
            self.model.embed_video(still_pairs(frames[start : start + BATCH]))
            for start in range(0, len(frames), BATCH)
        ]
        windows = javis_windows(len(frames), item.clip.fps, len(samples))
        sounds = [
            self.model.embed_audio(sound_spectra(samples[part])).mean(dim=0) for _, part in windows
        ]
        return {"javis": javis_score(torch.cat(pictures), sounds, [part for part, _ in windows])}


def javis_windows(num_frames: int, fps: clock.Rate, num_samples: int) -> list[tuple[slice, slice]]:
    """Spans of frames and of samples, window by window; one of everything where either is no longer than a window.

    The last window of each stream is moved back to end with it, and the shorter list decides how many there are.
    """
    rates = ((num_frames, clock.as_rate(fps)), (num_samples, Fraction(SAMPLE_RATE)))
    spans = []
    for length, rate in rates:
        size, overlap = int(Fraction(WINDOW) * rate), int(Fraction(OVERLAP) * rate)
        if size == overlap or length <= size:
            return [(slice(0, num_frames), slice(0, num_samples))]
        last = length - size
        starts = [*range(0, last, size - overlap), last]
        spans.append([slice(start, start + size) for start in starts])
    return list(zip(*spans, strict=False))


def javis_score(pictures: Tensor, sounds: list[Tensor], windows: list[slice]) -> float:
    """Mean over windows of the mean of the lowest 40% of the cosines of frames and sound.

    Args:
        pictures: ``(F, D)``, one vector per frame.
        sounds: ``(D,)`` per window.
        windows: Which frames belong to each.
    """
    scores = []
    for window, sound in zip(windows, sounds, strict=True):
        cosines = F.cosine_similarity(pictures[window], sound[None], dim=-1)
        count = max(1, int(LOWEST * len(cosines)))
        scores.append(float(cosines.sort().values[:count].mean()))
    return sum(scores) / len(scores)
