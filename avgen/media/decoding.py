"""One pass over an open file: from packets to the clip of a span.

Shapes: F frames, H height, W width, C channels, S samples.
"""

import dataclasses
from fractions import Fraction
from typing import ClassVar

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Float32, UInt8
from numpy import ndarray

from avgen.clip import Clip
from avgen.clock import count
from avgen.media.container import OpenMedia, native_fps
from avgen.media.limits import MediaError
from avgen.media.picture import FrameGrid, to_rgb
from avgen.media.request import (
    ReadRequest,
    embedded_caption,
    embedded_sample_rate,
    embedded_size,
)
from avgen.media.sound import MARGIN, SoundPlacer

_MILLISECOND = Fraction(1, 1000)
_TRUNCATION = Fraction(1, 4)
# Seconds by which what belongs together may lie apart in a file; FFmpeg's muxers keep to it.
_APART = 10


class Decoding:
    """One pass over a file, from packets to a clip."""

    grid_type: ClassVar[type[FrameGrid]] = FrameGrid

    def __init__(self, media: OpenMedia, request: ReadRequest):
        self.media, self.request = media, request
        self.fps = request.rate_of(media) if media.video else None
        self.duration = request.duration(self.fps)
        self.decoded_bytes = 0
        self.reached_end = False
        self._unsure: set[str] = set()
        self._missed: set[str] = set()
        self.grid = self._make_grid(self.fps, media.video) if self.fps and media.video else None
        self.sound = self._make_sound(media.audio) if media.audio else None

    def _make_grid(self, fps: Fraction, stream: VideoStream) -> FrameGrid:
        request, crop, reformatter = self.request, embedded_size(self.media), VideoReformatter()
        return self.grid_type(
            start=request.start,
            fps=fps,
            length=request.num_frames(fps),
            tolerance=tolerance(stream),
            convert=lambda frame: to_rgb(frame, request.size, crop, reformatter),
            check=self._check_frames,
        )

    def _make_sound(self, stream: AudioStream) -> SoundPlacer:
        start = self.request.start + self.request.sound_offset
        return SoundPlacer(
            start=start,
            end=None if self.duration is None else start + self.duration,
            tolerance=2 * tolerance(stream),
            check=lambda samples, channels: self.request.check_memory(samples, 4 * channels),
        )

    def _check_frames(self, frames: int, bytes_each: int) -> None:
        assert self.fps is not None
        self.request.check_duration(frames / self.fps)
        self.request.check_memory(frames, bytes_each)

    def run(self, *, sought: bool) -> set[str]:
        """Decode until the span is complete.

        Args:
            sought: The container was sought to before the span; it may have landed too late.

        Returns:
            The streams, of ``video`` and ``audio``, of whose span a seek left some behind.
        """
        wanted = [stream for stream in (self.media.video, self.media.audio) if stream]
        self._unsure = {stream.type for stream in wanted} if sought else set()
        for packet in self.media.container.demux(wanted):
            kind = packet.stream.type
            if "video" in self._missed or all(self._over(s.type, packet) for s in wanted):
                return self._missed
            if self._done(kind) or kind in self._missed:
                continue
            for frame, time in self._frames(packet):
                self._take(kind, frame, time)
        self.reached_end = True
        # Sound that ends before the span has landed by the block that was skipped.
        heard = {"audio"} if self.sound is not None and self.sound.rate else set()
        return self._missed | (self._unsure - heard)

    def hear(self, media: OpenMedia) -> None:
        """Decode the sound alone, from the start of ``media``: for a seek that missed some of it."""
        alone = _heard(media, self.request, self.duration)
        self.sound, self.reached_end = alone.sound, self.reached_end or alone.reached_end

    def _over(self, kind: str, packet: Packet) -> bool:
        """No more of a stream is to be decoded, now that the demuxer is at a packet."""
        if self._done(kind) or kind in self._missed:
            return True
        if kind == "video" or not self._passed(packet):
            return False
        assert self.sound is not None
        assert self.media.audio is not None
        if not self.sound.rate:
            self._missed |= {kind} & self._unsure
            return kind in self._missed
        claimed = self.media.end(self.media.audio)
        return claimed is not None and self.sound.end >= claimed - self.sound.tolerance

    def _passed(self, packet: Packet) -> bool:
        """The demuxer is so far beyond the span that all of it should have come."""
        if self.duration is None or packet.dts is None or packet.time_base is None:
            return False
        end = self.request.start + max(self.request.sound_offset, 0) + self.duration
        return packet.dts * packet.time_base - self.media.zero > end + _APART

    def _take(self, kind: str, frame: VideoFrame | AudioFrame, time: Fraction) -> None:
        """Add a frame, unless a seek has left some of the span behind."""
        if kind in self._missed or (kind in self._unsure and not self._lands(kind, frame, time)):
            return
        self._add(frame, time)
        if time < self.request.start:
            self.decoded_bytes = 0  # the limit is for the span

    def _lands(self, kind: str, frame: VideoFrame | AudioFrame, time: Fraction) -> bool:
        """Whether a frame after a seek is to be added; notes what that tells of its stream."""
        paused = False
        if isinstance(frame, AudioFrame):
            assert self.sound is not None
            if not self.sound.rate:
                # FFmpeg cuts the head off the first block after a seek, and rounds its time twice.
                self._check_rate(frame)
                self.sound.skip(time, frame)
                if self.sound.end > self._first(kind) - MARGIN:
                    self._missed.add(kind)
                return False
            paused = self.sound.right is not None and time >= self.sound.right
        if time > self._first(kind) and not paused:
            self._missed.add(kind)
            return False
        self._unsure.discard(kind)
        return True

    def _first(self, kind: str) -> Fraction:
        """Where the span of a stream starts."""
        return self.request.start + (self.request.sound_offset if kind == "audio" else 0)

    def _done(self, kind: str) -> bool:
        part = self.grid if kind == "video" else self.sound
        return part is None or part.complete

    def _frames(self, packet: Packet) -> list[tuple[VideoFrame | AudioFrame, Fraction]]:
        if packet.is_corrupt:
            raise ValueError("it is cut off or damaged in the middle")
        placed = []
        for frame in packet.decode():
            if not isinstance(frame, VideoFrame | AudioFrame):
                continue
            part = self.grid if isinstance(frame, VideoFrame) else self.sound
            if frame.pts is not None and frame.time_base is not None:
                placed.append((frame, frame.pts * frame.time_base - self.media.zero))
            elif part is not None:
                placed.append((frame, part.end))
        return placed

    def _add(self, frame: VideoFrame | AudioFrame, time: Fraction) -> None:
        self._check_time(time)
        if isinstance(frame, AudioFrame):
            assert self.sound is not None
            self._check_rate(frame)
            self.sound.add(time, frame)
            return
        assert self.grid is not None
        pixels, limits = frame.width * frame.height, self.request.limits
        limits.check(self.media.path, "max_pixels", pixels, "its picture size in pixels")
        self.decoded_bytes += 3 * pixels
        what = "the size in bytes of its decoded pictures"
        limits.check(self.media.path, "max_decoded_bytes", self.decoded_bytes, what)
        ticks = Fraction(frame.duration or 0) * (frame.time_base or 0)
        self.grid.add(time, frame, ticks or 1 / native_fps(self.media))

    def _check_rate(self, frame: AudioFrame) -> None:
        limits, rate = self.request.limits, frame.sample_rate
        limits.check(self.media.path, "max_sample_rate", rate, "its sample rate")

    def _check_time(self, time: Fraction) -> None:
        if self.duration is None:
            self.request.check_duration(time - self.request.start)

    def clip(self) -> Clip:
        """The decoded span."""
        media, request = self.media, self.request
        last = self._last()
        if self.reached_end:
            self._check_complete(last, request.end)
        request.check_end(last, self.fps)
        duration = self.duration if self.duration is not None else last - request.start
        frames = None
        if self.grid is not None and self.fps is not None:
            length = count(duration, self.fps)
            frames, duration = self.grid.finish(length), length / self.fps
        request.check_duration(duration)
        return assemble(media, request, frames, self.fps, self.waveform(duration), duration)

    def waveform(self, duration: Fraction) -> tuple[Float32[ndarray, "c s"], int] | None:
        """The decoded sound of the span and its sample rate."""
        if self.sound is None:
            return None
        wanted = self.request.sample_rate or embedded_sample_rate(self.media)
        return self.sound.finish(duration, wanted, self.request.channels)

    def _last(self) -> Fraction:
        """Where the content ends: the picture, or the sound if that is over a frame longer."""
        if self.grid is not None and not self.grid.started:
            raise MediaError(self.media.path, "has no picture that decodes", "re-encode the file")
        if self.sound is None:
            assert self.grid is not None
            return self.grid.end
        assert self.media.audio is not None
        if self.sound.rate == 0 and self.grid is None:
            raise MediaError(self.media.path, "has no sound that decodes", "re-encode the file")
        # The last block of a codec is whole; the container says how much of it counts.
        claimed = self.media.end(self.media.audio)
        heard = self.sound.end if claimed is None else min(self.sound.end, claimed)
        heard -= self.request.sound_offset
        if self.grid is None:
            return heard
        assert self.fps is not None
        return self.grid.end if heard < self.grid.end + 1 / self.fps else heard

    def _check_complete(self, last: Fraction, wanted: Fraction | None) -> None:
        """Raise where the file, or one of its streams, ends well before its header says."""
        media, moved = self.media, self.request.sound_offset
        ends = [(media.claimed_duration(), last, -abs(moved))]
        for part, stream, offset in (
            (self.grid, media.video, Fraction(0)),
            (self.sound, media.audio, moved),
        ):
            if part is not None and stream is not None:
                ends.append((media.end(stream), part.end, offset))
        for claimed, reached, offset in ends:
            needed = None if claimed is None else min(claimed, (wanted or claimed) + offset)
            if needed is not None and reached < needed - _TRUNCATION:
                problem = f"is cut off at {float(reached):.3f} of {float(needed):.3f} s"
                raise MediaError(media.path, problem, "get the complete file")


def tolerance(stream: VideoStream | AudioStream) -> Fraction:
    """How late a time may be by the container's rounding: a tick, where ticks are short."""
    return min(stream.time_base or _MILLISECOND, _MILLISECOND) + Fraction(1, 1_000_000)


def decode_sound(
    media: OpenMedia, request: ReadRequest, duration: Fraction
) -> tuple[Float32[ndarray, "c s"], int] | None:
    """Waveform and sample rate of ``duration`` seconds, or None without a sound stream."""
    if media.audio is None:
        return None
    return _heard(media, request, duration).waveform(duration)


def _heard(media: OpenMedia, request: ReadRequest, duration: Fraction | None) -> Decoding:
    """A pass over the sound alone, of ``duration`` seconds or to its end."""
    end = None if duration is None else request.start + duration
    alone = dataclasses.replace(media, video=None)
    decoding = Decoding(alone, dataclasses.replace(request, end=end))
    decoding.run(sought=False)
    return decoding


def assemble(
    media: OpenMedia,
    request: ReadRequest,
    frames: UInt8[ndarray, "f h w 3"] | None,
    fps: Fraction | None,
    sound: tuple[Float32[ndarray, "c s"], int] | None,
    duration: Fraction,
) -> Clip:
    """The clip of a span, with what `write` embedded."""
    made = media.embedded.get("request")
    waveform, rate = sound or (None, request.sample_rate or 16_000)
    return Clip(
        frames=frames,
        fps=fps or Fraction(25),
        waveform=waveform,
        sample_rate=rate,
        caption=embedded_caption(media, request, duration),
        request=made if isinstance(made, dict) else {},
    )
