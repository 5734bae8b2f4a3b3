"""DeSync: how far sound and picture are apart in the eyes of Synchformer (Iashin et al. 2024).

As av-benchmark measures it (Cheng et al. 2025). The network is an exported file; what is before and after it is here.
Shapes: N segments, F frames, S samples.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from avgen.clip import Clip
from avgen_eval.metrics.base import Field, Values
from avgen_eval.weighted.base import Item, NotMeasurableError, WeightedClipMetric, require_frames
from avgen_eval.weighted.exported import ExportedModel, Signature, TensorSpec
from avgen_eval.weighted.pictures import centre_crop, frames_at, normalised, short_side
from avgen_eval.weighted.sounds import fitted, mono

FPS, SIZE, SAMPLE_RATE = 25, 224, 16_000
FRAME_SEGMENT, FRAME_STEP = 16, 8
SAMPLE_SEGMENT, SAMPLE_STEP = 10_240, 5_120
WINDOW, HOP, FOURIER, BANDS, STEPS = 400, 160, 1024, 128, 66
LOG_FLOOR, MEAN, DEVIATION = 1e-6, -4.2677393, 4.5689974
SEGMENTS = 14
OFFSETS = tuple(i / 5 - 2 for i in range(21))
"""Seconds by which the sound is early, of each class."""
SIGNATURE = Signature(
    inputs=(
        TensorSpec("video", ("B", SEGMENTS, FRAME_SEGMENT, 3, SIZE, SIZE)),
        TensorSpec("audio", ("B", SEGMENTS, 1, BANDS, STEPS)),
    ),
    outputs=(TensorSpec("logits", ("B", len(OFFSETS))),),
    trials=({"B": 1},),  # one window at a time: a clip has two, of a size that fills memory
)


def num_segments(length: int, segment: int, step: int) -> int:
    """Whole segments in a sequence."""
    return max(0, (length - segment) // step + 1)


def video_segments(clip: Clip) -> Tensor:
    """Segments of 16 frames every 8, ``(N, 16, 3, 224, 224)`` in [-1, 1]: 25 fps, short side 224, middle.

    Raises:
        NotMeasurableError: There is no picture.
    """
    frames = frames_at(require_frames(clip), clip.fps, FPS)
    half = (0.5,) * 3
    pixels = normalised(centre_crop(short_side(frames, SIZE), SIZE), half, half)
    if len(pixels) < FRAME_SEGMENT:
        return pixels.new_empty(0, FRAME_SEGMENT, 3, SIZE, SIZE)
    return pixels.unfold(0, FRAME_SEGMENT, FRAME_STEP).permute(0, 4, 1, 2, 3)


def audio_segments(clip: Clip) -> Tensor:
    """Normalised log-mel spectra of segments of 0.64 s every 0.32 s, ``(N, 1, 128, 66)``.

    Raises:
        NotMeasurableError: There is no sound.
    """
    samples = mono(clip, SAMPLE_RATE)
    if len(samples) < SAMPLE_SEGMENT:
        return samples.new_empty(0, 1, BANDS, STEPS)
    return log_mel(samples.unfold(0, SAMPLE_SEGMENT, SAMPLE_STEP))[:, None]


def log_mel(segments: Tensor) -> Tensor:
    """``(log(mel + 1e-6) + 4.2677) / (2 * 4.5690)`` of ``(N, S)`` at 16 kHz, ``(N, 128, 66)``.

    Power in 25 ms Hann windows every 10 ms, 128 mel bands on the HTK scale. Steps that are missing are 0 before the
    normalisation, as in Synchformer.
    """
    level = fitted(torch.log(_mel()(segments) + LOG_FLOOR), STEPS)
    return (level - MEAN) / (2 * DEVIATION)


class DeSync(WeightedClipMetric[ExportedModel]):
    """Mean absolute offset that Synchformer sees in the first and in the last 4.8 s of a clip.

    Each of the two windows of 14 segments is put into one of 21 classes, offsets from -2 s to 2 s in steps of 0.2 s;
    ``desync_s`` is the mean of their absolute values and ``offset_ms`` of their values, positive where the sound is
    late (Synchformer's own sign is the opposite).

    Fails on: offsets below 0.2 s and above 2 s; clips shorter than 4.8 s, which are not measured (others pad or tile
    them); real footage, on which it is not 0; sources out of sight, music, ambience. A clip that resembles its training
    data scores well even where it looks bad, so read it beside measures of quality.
    """

    fields: ClassVar = {
        "desync_s": Field(unit="s", better="lower"),
        "offset_ms": Field(unit="ms", better="target"),
    }
    protocol = "25 fps|short side 224, middle|16 kHz|14 segments, first and last|21 classes, argmax|mean |offset|"

    @classmethod
    def load(cls, paths: Mapping[str, Path], device: str = "cpu") -> ExportedModel:
        """The exported Synchformer."""
        return ExportedModel(paths["synchformer"], SIGNATURE, device)

    def score(self, item: Item) -> Values:
        """``desync_s`` and ``offset_ms``."""
        video, audio = video_segments(item.clip), audio_segments(item.clip)
        count = min(len(video), len(audio))
        if count < SEGMENTS:
            raise NotMeasurableError(
                f"{count} segments of 0.64 s in picture and sound; DeSync needs {SEGMENTS}, that is 4.8 s of both"
            )
        windows = (slice(0, SEGMENTS), slice(count - SEGMENTS, count))
        early = [self._early(video[window], audio[window]) for window in windows]
        return {
            "desync_s": sum(map(abs, early)) / len(early),
            "offset_ms": -1000 * sum(early) / len(early),
        }

    def _early(self, video: Tensor, audio: Tensor) -> float:
        logits = self.model(video=video[None].contiguous(), audio=audio[None])["logits"]
        return OFFSETS[int(logits[0].argmax())]


@cache
def _mel() -> torch.nn.Module:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(
        sample_rate=SAMPLE_RATE, n_fft=FOURIER, win_length=WINDOW, hop_length=HOP, n_mels=BANDS
    )
