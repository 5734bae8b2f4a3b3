"""Clips through codecs and back, and what that costs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avgen.clip import Clip
from avgen.codecs.base import AudioCodec, VideoCodec
from avgen_eval.codec import AudioFidelity, audio_fidelity, psnr


@dataclass(frozen=True, kw_only=True)
class Codecs:
    """A pair of codecs."""

    video: VideoCodec
    audio: AudioCodec


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What one clip keeps: PSNR of the picture in decibels, and the sound."""

    psnr_db: float
    audio: AudioFidelity


def load_codecs(weights: str) -> Codecs:
    """The codecs of a shipped name, a folder or a hub id; the network is not read.

    Raises:
        CheckpointError: A file is missing or cannot be used.
    """
    from avgen.checkpoint import AUDIO_FILE, VIDEO_FILE, find_weights
    from avgen.codecs.audio_codec import SeanetAudioCodec
    from avgen.codecs.video_vae import VideoVAE

    folder = find_weights(weights)
    return Codecs(
        video=VideoVAE.from_file(folder / VIDEO_FILE),
        audio=SeanetAudioCodec.from_file(folder / AUDIO_FILE),
    )


@torch.inference_mode()
def round_trip(clips: Sequence[Clip], codecs: Codecs) -> list[Clip]:
    """Encode and decode clips of one shape; sound is cut to its length before.

    Raises:
        ValueError: A clip lacks a stream, or has a sample rate or number of frames that the codecs
            do not take.
    """
    frames = torch.stack([_pixels(clip) for clip in clips])
    waveforms = torch.stack([_samples(clip, codecs.audio) for clip in clips])
    pictures = codecs.video.decode(codecs.video.encode(frames)).float().cpu()
    sounds = codecs.audio.decode(codecs.audio.encode(waveforms)).float().cpu()
    return [
        clip.replace(
            frames=(picture.permute(1, 2, 3, 0).clamp(-1, 1) * 127.5 + 127.5)
            .round()
            .to(torch.uint8)
            .numpy(),
            waveform=sound[..., : waveforms.shape[-1]].clamp(-1, 1).numpy().astype(np.float32),
        )
        for clip, picture, sound in zip(clips, pictures, sounds, strict=True)
    ]


def measure_fidelity(original: Clip, decoded: Clip) -> Fidelity:
    """What a decoded clip keeps of the original; both with picture and sound."""
    assert original.frames is not None
    assert original.waveform is not None
    assert decoded.frames is not None
    assert decoded.waveform is not None
    return Fidelity(
        psnr_db=psnr(original.frames, decoded.frames),
        audio=audio_fidelity(original.waveform, decoded.waveform, original.sample_rate),
    )


def _pixels(clip: Clip) -> Tensor:
    if clip.frames is None:
        raise ValueError(f"{clip} has no picture to encode")
    return torch.from_numpy(clip.frames).permute(3, 0, 1, 2).float() / 127.5 - 1


def _samples(clip: Clip, codec: AudioCodec) -> Tensor:
    if clip.waveform is None:
        raise ValueError(f"{clip} has no sound to encode")
    if clip.sample_rate != codec.sample_rate:
        raise ValueError(
            f"{clip} has {clip.sample_rate} Hz; the codec takes {codec.sample_rate} Hz: resample it"
        )
    mono = torch.from_numpy(clip.waveform).mean(dim=0, keepdim=True)
    return mono.expand(codec.audio_channels, -1)
