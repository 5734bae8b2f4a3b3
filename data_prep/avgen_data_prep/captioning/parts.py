"""Pictures and sound as the parts of a message that OpenAI-compatible servers understand.

Sound is always a part of its own: servers that are given a video file often drop its sound in silence.

Shapes: H W pixels, C channels, S samples.
"""

import base64
import io
import wave
from fractions import Fraction
from typing import Any

import av
import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

from avgen.media.resample import resample

SOUND_RATE = 16_000
_QUANTISER = 4


def picture_part(frame: UInt8[ndarray, "h w 3"], size: int) -> dict[str, Any]:
    """A frame as a JPEG part, its longer side at most ``size`` pixels."""
    data = base64.b64encode(jpeg(frame, size)).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def sound_part(waveform: Float32[ndarray, "c s"], sample_rate: int) -> dict[str, Any]:
    """A waveform as a WAV part, mono at 16 kHz."""
    data = base64.b64encode(wav(waveform, sample_rate)).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def jpeg(frame: UInt8[ndarray, "h w 3"], size: int) -> bytes:
    """A frame as JPEG, its longer side at most ``size`` pixels."""
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    scale = min(1.0, size / max(picture.width, picture.height))
    width, height = (max(1, round(side * scale)) for side in (picture.width, picture.height))
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base, encoder.thread_count = Fraction(1, 25), 1
    encoder.qmin = encoder.qmax = _QUANTISER
    scaled = picture.reformat(width, height, "yuvj420p")
    return b"".join(bytes(packet) for packet in [*encoder.encode(scaled), *encoder.encode(None)])


def wav(waveform: Float32[ndarray, "c s"], sample_rate: int) -> bytes:
    """A waveform as WAV, 16-bit mono at 16 kHz."""
    mono = resample(waveform.mean(axis=0, keepdims=True), sample_rate, SOUND_RATE)[0]
    values = np.rint(np.clip(mono, -1, 1) * 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SOUND_RATE)
        file.writeframes(values.tobytes())
    return buffer.getvalue()
