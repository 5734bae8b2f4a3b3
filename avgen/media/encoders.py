"""H.264 and AAC encoders of one MP4 file, with an explicit time on every packet.

Shapes: F frames, H height, W width, C channels, S samples, N samples at 48 kHz.
"""

from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Float32, UInt8
from numpy import ndarray

from avgen.media.resample import StreamResampler

SAMPLE_RATE = 48_000
LAYOUTS = {1: "mono", 2: "stereo"}
_AAC_BLOCK = 1024
_BIT_RATE = 128_000
_MIN_TICKS = 12_800
_BT709 = 1
_MAX_THREADS = 4
_PIXELS_PER_THREAD = 256 * 256


class PictureEncoder:
    """H.264 without B-frames: decoding order is display order, and no edit list is needed."""

    def __init__(
        self,
        container: OutputContainer,
        fps: Fraction,
        size: tuple[int, int],
        crf: float,
        preset: str,
    ):
        self.size, self.fps, self.count = size, fps, 0
        # Fine ticks, of which a frame is a whole number: the last frame may end between frames.
        scale = -(-_MIN_TICKS // fps.numerator)
        self.tick = Fraction(1, fps.numerator * scale)
        self.step = fps.denominator * scale
        self.padding = [(0, size[0] % 2), (0, size[1] % 2), (0, 0)]
        options = {"crf": str(crf), "preset": preset, "bf": "0", "g": str(max(1, round(2 * fps)))}
        # With mbtree, x264 now and then makes other bytes of the same small picture.
        options["mbtree"] = "0"
        stream = container.add_stream("libx264", rate=fps, options=options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self.tick
        context.thread_count = max(1, min(_MAX_THREADS, size[0] * size[1] // _PIXELS_PER_THREAD))
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = 1
        self._container, self._stream = container, stream
        self._pending: Packet | None = None
        self._reformatter = VideoReformatter()

    @property
    def end(self) -> Fraction:
        """Seconds written so far."""
        return self.count / self.fps

    def write(self, picture: UInt8[ndarray, "h w 3"]) -> None:
        """Append one frame."""
        if self.padding[0][1] or self.padding[1][1]:
            picture = np.pad(picture, self.padding, mode="edge")
        frame = self._reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
            threads=1,
        )
        frame.pts, frame.time_base = self.count * self.step, self.tick
        self.count += 1
        self._mux(self._stream.encode(frame))

    def finish(self, end: Fraction) -> None:
        """Flush; the last frame stays until ``end``."""
        self._mux(self._stream.encode(None))
        assert self._pending is not None
        assert self._pending.pts is not None
        assert self._pending.time_base is not None
        self._pending.duration = round(end / self._pending.time_base) - self._pending.pts
        self._container.mux(self._pending)

    def _mux(self, packets: list[Packet]) -> None:
        """Mux each packet once the next one says how long it lasts."""
        for packet in packets:
            if self._pending is not None:
                assert packet.pts is not None
                assert self._pending.pts is not None
                self._pending.duration = packet.pts - self._pending.pts
                self._container.mux(self._pending)
            self._pending = packet


class SoundEncoder:
    """AAC at 48 kHz from a waveform at any rate."""

    def __init__(self, container: OutputContainer, sample_rate: int, channels: int):
        self.channels, self.rate, self.samples = channels, sample_rate, 0
        layout = LAYOUTS[channels]
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout=layout)
        assert isinstance(stream, AudioStream)
        stream.bit_rate = _BIT_RATE * channels
        stream.codec_context.thread_count = 1
        self._layout, self._container, self._stream = layout, container, stream
        self._resample = StreamResampler(sample_rate, SAMPLE_RATE, channels)
        self._waiting = np.zeros((channels, 0), np.float32)
        self._sent = 0

    @property
    def end(self) -> Fraction:
        """Seconds written so far."""
        return Fraction(self.samples, self.rate)

    def write(self, waveform: Float32[ndarray, "c s"]) -> None:
        """Append samples."""
        self.samples += waveform.shape[1]
        self._append(self._resample(waveform))

    def finish(self, end: Fraction) -> None:
        """Flush; silence fills up to ``end``."""
        rest = self._resample(np.zeros((self.channels, 0), np.float32), last=True)
        total = round(end * SAMPLE_RATE) - self._sent
        self._waiting = np.concatenate([self._waiting, rest], axis=1)[:, :total]
        silence = np.zeros((self.channels, total - self._waiting.shape[1]), np.float32)
        self._append(silence)
        if self._waiting.shape[1]:
            self._encode(self._waiting)
        for packet in self._stream.encode(None):
            self._container.mux(packet)

    def _append(self, waveform: Float32[ndarray, "c n"]) -> None:
        waiting = np.concatenate([self._waiting, waveform], axis=1)
        whole = waiting.shape[1] // _AAC_BLOCK * _AAC_BLOCK
        for at in range(0, whole, _AAC_BLOCK):
            self._encode(waiting[:, at : at + _AAC_BLOCK])
        self._waiting = waiting[:, whole:]

    def _encode(self, block: Float32[ndarray, "c n"]) -> None:
        clipped = np.ascontiguousarray(np.clip(block, -1.0, 1.0))
        frame = AudioFrame.from_ndarray(clipped, format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts = SAMPLE_RATE, self._sent
        frame.time_base = Fraction(1, SAMPLE_RATE)
        self._sent += block.shape[1]
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
