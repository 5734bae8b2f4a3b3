"""Media files and signals with known answers."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 48_000


def gray(index: int, height: int = 32, width: int = 32) -> np.ndarray:
    """A picture whose brightness says which one it is (see `indices`)."""
    return np.full((height, width, 3), 10 + 4 * index, np.uint8)


def indices(frames: np.ndarray) -> list[int]:
    """Which `gray` picture each frame is."""
    return [round((float(frame.mean()) - 10) / 4) for frame in frames]


def click_track(duration: float, times: Sequence[float], rate: int = RATE) -> np.ndarray:
    """Silence with short band-limited clicks centred at ``times``; ``(1, S)`` float32."""
    at = np.arange(round(duration * rate)) / rate
    wave = np.zeros_like(at)
    for time in times:
        wave += 0.7 * np.exp(-(((at - time) / 6e-4) ** 2)) * np.cos(2 * np.pi * 1500 * (at - time))
    return wave[None].astype(np.float32)


def delay(reference: np.ndarray, other: np.ndarray, rate: int) -> float:
    """Seconds by which ``other`` lags: peak of the cross-correlation, to a fraction of a sample."""
    size = 2 * max(len(reference), len(other))
    spectrum = np.fft.rfft(other, size) * np.conj(np.fft.rfft(reference, size))
    fine = 8
    correlation = np.fft.irfft(np.pad(spectrum, (0, size * (fine - 1) // 2)), size * fine)
    peak = int(correlation.argmax())
    peak = peak - size * fine if peak > size * fine // 2 else peak
    return peak / fine / rate


def write_media(
    path: Path,
    *,
    times: Sequence[float] = (),
    waveform: np.ndarray | None = None,
    sound_at: float = 0.0,
    sound_pause: tuple[float, float] | None = None,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    gop: int = 12,
    pixels: str = "yuv420p",
    size: tuple[int, int] = (32, 32),
) -> Path:
    """Write a file with pictures at given times and sound from a given time, by PyAV alone.

    Between the two times of ``sound_pause`` the file stores no sound.
    """
    tick = Fraction(1, 90_000)
    with av.open(str(path), "w") as container:
        video = audio = None
        if times:
            options = {"g": str(gop), "bf": "2", "crf": "10"} if video_codec == "libx264" else {}
            video = container.add_stream(video_codec, rate=25, options=options)
            if video_codec != "libx264":
                video.bit_rate, video.gop_size = 4_000_000, 1
            video.height, video.width, video.pix_fmt = *size, pixels
            video.codec_context.time_base = tick if video_codec == "libx264" else Fraction(1, 25)
        if waveform is not None:
            audio = container.add_stream(audio_codec, rate=RATE, layout="mono")
        packets = []
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(gray(index, *size), format="rgb24")
            frame = frame.reformat(format=pixels)
            frame.pts, frame.time_base = round(time / tick), tick
            packets += video.encode(frame)
        packets += video.encode(None) if video else []
        if audio is not None and waveform is not None:
            first, last = sound_pause or (0.0, 0.0)
            packets += [
                packet
                for packet in _sound_packets(audio, waveform, sound_at)
                if not first <= packet.pts * packet.time_base < last
            ]
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def _sound_packets(stream, waveform: np.ndarray, start: float) -> list:
    context = stream.codec_context
    context.open(strict=False)
    block = context.frame_size or 1024
    packets = []
    for at in range(0, waveform.shape[1], block):
        data = np.ascontiguousarray(waveform[:, at : at + block])
        if context.format.name.startswith("s16"):
            data = (data * 32767).astype(np.int16)
        kind = context.format.name if context.format.name in ("fltp", "s16", "s16p") else "fltp"
        frame = av.AudioFrame.from_ndarray(data, format=kind, layout="mono")
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        frame.pts = at + round(start * RATE)
        packets += stream.encode(frame)
    return packets + stream.encode(None)
