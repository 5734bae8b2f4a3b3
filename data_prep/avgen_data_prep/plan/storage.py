"""How many bytes latents and text features take, from the shapes that codecs and encoders write.

A video codec codes the first frame alone and then every ``time_stride`` frames together: F frames are
``1 + (F - 1) // time_stride`` steps. Names of members and headers, about 2 kB a clip, are left out.
"""

import re
from dataclasses import dataclass

from avgen_data_prep.plan.corpus import Clips

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "float8": 1}
_VIDEO = re.compile(r"(\d+)x(\d+)x(\d+)c(\d+):(\w+)")
_AUDIO = re.compile(r"(\d+(?:\.\d+)?)c(\d+)(?:q(\d+))?:(\w+)")
_TEXT = re.compile(r"(\d+)x(\d+):(\w+)")
_CODE_BYTES = 2
_SCALE_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class VideoLatents:
    """Shape of video latents.

    Attributes:
        height_stride: Pixels of a cell.
        width_stride: Pixels of a cell.
        time_stride: Frames of a step after the first.
        channels: Numbers of a cell.
        dtype: One of `DTYPES`; eight bits come with a scale for each channel.
    """

    height_stride: int
    width_stride: int
    time_stride: int
    channels: int
    dtype: str

    @classmethod
    def parse(cls, text: str) -> "VideoLatents":
        """Read ``8x8x4c16:float16``: strides in height, width and time, channels, type."""
        sides = _parsed(_VIDEO, text, "video latents", "8x8x4c16:float16")
        *numbers, dtype = sides
        height, width, time, channels = (int(number) for number in numbers)
        return cls(
            height_stride=height,
            width_stride=width,
            time_stride=time,
            channels=channels,
            dtype=_dtype(dtype),
        )

    def bytes_of(self, clips: Clips) -> float:
        """Bytes of the latents of clips."""
        if not clips.num_frames:
            return 0.0
        steps = 1 + (clips.num_frames - 1) // self.time_stride
        cells = (clips.height // self.height_stride) * (clips.width // self.width_stride)
        numbers = steps * cells * self.channels
        return clips.count * (numbers * DTYPES[self.dtype] + _scales(self.channels, self.dtype))


@dataclass(frozen=True, kw_only=True)
class AudioLatents:
    """Shape of audio latents.

    Attributes:
        rate: Steps per second.
        channels: Numbers of a step.
        codebooks: Codes of a step, 16 bits each.
        dtype: One of `DTYPES`; eight bits come with a scale for each channel.
    """

    rate: float
    channels: int
    codebooks: int
    dtype: str

    @classmethod
    def parse(cls, text: str) -> "AudioLatents":
        """Read ``25c32q8:float16``: steps per second, channels, codebooks (may be left out), type."""
        rate, channels, codebooks, dtype = _parsed(_AUDIO, text, "audio latents", "25c32q8:float16")
        return cls(
            rate=float(rate),
            channels=int(channels),
            codebooks=int(codebooks or 0),
            dtype=_dtype(dtype),
        )

    def bytes_of(self, clips: Clips) -> float:
        """Bytes of the latents and codes of clips."""
        if not clips.sound:
            return 0.0
        step = self.channels * DTYPES[self.dtype] + self.codebooks * _CODE_BYTES
        numbers = clips.seconds * self.rate * step
        return clips.count * (numbers + _scales(self.channels, self.dtype))


@dataclass(frozen=True, kw_only=True)
class TextFeatures:
    """Shape of the encoder states of a caption.

    Attributes:
        tokens: States of a caption.
        width: Numbers of a state.
        dtype: One of `DTYPES`.
    """

    tokens: int
    width: int
    dtype: str

    @classmethod
    def parse(cls, text: str) -> "TextFeatures":
        """Read ``512x4096:bfloat16``: tokens, width, type."""
        tokens, width, dtype = _parsed(_TEXT, text, "text features", "512x4096:bfloat16")
        return cls(tokens=int(tokens), width=int(width), dtype=_dtype(dtype))

    def bytes_of(self, captions: float) -> float:
        """Bytes of the features of captions."""
        return captions * self.tokens * self.width * DTYPES[self.dtype]


def _parsed(pattern: re.Pattern[str], text: str, what: str, example: str) -> tuple[str, ...]:
    match = pattern.fullmatch(text)
    numbers = match.groups()[:-1] if match else ("0",)
    if match is None or not all(float(number) > 0 for number in numbers if number):
        raise ValueError(f"{what} {text!r}: give a shape such as {example}, or none")
    return match.groups()


def _dtype(name: str) -> str:
    if name not in DTYPES:
        raise ValueError(f"type {name!r}: use one of {', '.join(DTYPES)}")
    return name


def _scales(channels: int, dtype: str) -> int:
    return channels * _SCALE_BYTES if DTYPES[dtype] == 1 else 0
