"""Clips to latents, in batches.

B batch, F frames, H W pixels, A audio channels, S waveform samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avgen.checkpoint import AUDIO_FILE, VIDEO_FILE, WEIGHTS
from avgen.clip import Clip
from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.codecs.base import AudioCodec, VideoCodec
from avgen.codecs.video_vae import VideoVAE
from avgen.data.schema import CodecInfo

PACKAGED = WEIGHTS / "tiny"


@dataclass(frozen=True)
class Weights:
    """Files of the codecs; None where a stream is not encoded."""

    video_vae: Path | None = None
    audio_codec: Path | None = None

    @classmethod
    def find(
        cls,
        folder: Path | None = None,
        video_vae: Path | None = None,
        audio_codec: Path | None = None,
    ) -> "Weights":
        """The files given; where none is, those of ``folder`` (default: shipped with avgen).

        Raises:
            ValueError: Neither file exists.
        """
        if video_vae is None and audio_codec is None:
            folder = folder or PACKAGED
            video_vae, audio_codec = folder / VIDEO_FILE, folder / AUDIO_FILE
            if not (video_vae.is_file() and audio_codec.is_file()):
                raise ValueError(
                    f"{folder}: holds no {VIDEO_FILE} and {AUDIO_FILE}; give --weights FOLDER, "
                    "or --video-vae FILE and --audio-codec FILE"
                )
        return cls(video_vae, audio_codec)


class LatentEncoder:
    """Encodes clips with one video and one audio codec.

    Args:
        video: Codec of the frames; None leaves them out.
        audio: Codec of the waveform; None leaves it out.
        batch_size: Clips of equal shape that go through a codec at once.
    """

    def __init__(self, video: VideoCodec | None, audio: AudioCodec | None, *, batch_size: int = 16):
        self.video = video
        self.audio = audio
        self.batch_size = batch_size

    @classmethod
    def load(cls, weights: Weights, *, batch_size: int = 16) -> "LatentEncoder":
        """An encoder with codecs from files.

        Raises:
            CheckpointError: A file is missing, damaged or of another kind.
        """
        video = VideoVAE.from_file(weights.video_vae) if weights.video_vae else None
        audio = SeanetAudioCodec.from_file(weights.audio_codec) if weights.audio_codec else None
        return cls(video, audio, batch_size=batch_size)

    @property
    def video_info(self) -> CodecInfo | None:
        """What a dataset records of the video codec."""
        return CodecInfo.of(self.video) if self.video else None

    @property
    def audio_info(self) -> CodecInfo | None:
        """What a dataset records of the audio codec."""
        return CodecInfo.of(self.audio) if self.audio else None

    def check(self, *, size: int, sample_rate: int) -> None:
        """Refuse clips that the codecs cannot take, before any is made.

        Raises:
            ValueError: The size or the sample rate does not fit; names one that does.
        """
        if self.video and size % self.video.space_stride:
            stride = self.video.space_stride
            nearest = max(stride, round(size / stride) * stride)
            raise ValueError(
                f"size {size} is no multiple of the video codec's {stride}; use --size {nearest}"
            )
        if self.audio and sample_rate != self.audio.sample_rate:
            raise ValueError(
                f"sample rate {sample_rate} is not the audio codec's; "
                f"use --sample-rate {self.audio.sample_rate}"
            )

    @torch.inference_mode()
    def encode(self, clips: Sequence[Clip]) -> list[dict[str, np.ndarray]]:
        """Latents of each clip, of the streams that it has.

        Returns:
            Of each clip, ``video`` (C, T, H, W), ``audio`` (C, L) and ``codes`` (Q, L).

        Raises:
            ValueError: Frames or sample rate do not fit the codec.
        """
        latents: list[dict[str, np.ndarray]] = [{} for _ in clips]
        if self.video:
            for indices in _batches([_shape(c.frames) for c in clips], self.batch_size):
                frames = torch.stack([_frames(clips[i]) for i in indices])
                for index, latent in zip(indices, self.video.encode(frames), strict=True):
                    latents[index]["video"] = latent.half().numpy()
        if self.audio:
            for indices in _batches([_shape(c.waveform) for c in clips], self.batch_size):
                waveform = torch.stack([self._waveform(clips[i]) for i in indices])
                codes = self.audio.encode_codes(waveform)
                continuous = self.audio.latents_from_codes(codes)
                for index, code, latent in zip(indices, codes, continuous, strict=True):
                    latents[index] |= {
                        "codes": code.short().numpy(),
                        "audio": latent.half().numpy(),
                    }
        return latents

    def _waveform(self, clip: Clip) -> Float[Tensor, "a s"]:
        assert self.audio is not None
        assert clip.waveform is not None
        if clip.sample_rate != self.audio.sample_rate:
            raise ValueError(
                f"sound at {clip.sample_rate} Hz, but the audio codec works at "
                f"{self.audio.sample_rate} Hz; read or render the clip at that rate"
            )
        waveform = torch.from_numpy(np.ascontiguousarray(clip.waveform, dtype=np.float32))
        if len(waveform) == self.audio.audio_channels:
            return waveform
        return waveform.mean(0, keepdim=True).expand(self.audio.audio_channels, -1)


def _shape(array: np.ndarray | None) -> tuple[int, ...] | None:
    return None if array is None else array.shape


def _frames(clip: Clip) -> Float[Tensor, "3 f h w"]:
    """Frames in [-1, 1]."""
    assert clip.frames is not None
    frames = torch.from_numpy(np.ascontiguousarray(clip.frames))
    return frames.permute(3, 0, 1, 2).float() / 127.5 - 1


def _batches(shapes: Sequence[tuple[int, ...] | None], size: int) -> list[list[int]]:
    """Indices of equal shape, at most ``size`` together; those without a shape are left out."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, shape in enumerate(shapes):
        if shape is not None:
            groups.setdefault(shape, []).append(index)
    return [g[i : i + size] for g in groups.values() for i in range(0, len(g), size)]
