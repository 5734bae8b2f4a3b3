"""Reading a span of a media file as a `Clip`, by time.

Time zero of a clip is the earliest start of its streams. Edit lists and encoder delays are honoured
(FFmpeg applies them to the times it reports); frame numbers and nominal rates are never used as times.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from av import time_base as av_ticks
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avgen.clip import Clip
from avgen.clock import Rate, count
from avgen.media.container import OpenMedia, native_fps, open_container, opened
from avgen.media.limits import MediaError, MediaLimits, guarded
from avgen.media.picture import FrameGrid, to_rgb
from avgen.media.request import (
    ReadRequest,
    Stream,
    embedded_caption,
    embedded_sample_rate,
    embedded_size,
    make_request,
)
from avgen.media.sniff import IMAGES, open_regular, sniff
from avgen.media.sound import SoundPlacer

# Seeking less far than this costs more than it saves.
_SEEK_FROM = 2
# Block transforms need the blocks before the first wanted one.
_PREROLL = Fraction(1, 2)
_MILLISECOND = Fraction(1, 1000)
_TRUNCATION = Fraction(1, 4)


def read(
    path: str | Path,
    *,
    start: float = 0.0,
    end: float | None = None,
    fps: Rate | None = None,
    sample_rate: int | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    require: tuple[Stream, ...] = (),
    reader: Literal["pyav", "decord"] = "pyav",
    limits: MediaLimits | None = None,
) -> Clip:
    """Read ``[start, end)`` seconds of a media file.

    Frame ``i`` is the picture on screen at ``start + i / fps``; sound sits at its own time on the same
    clock, with silence where the file has none. Where the file has no picture (before its first
    picture, after its last), the nearest is held.

    Args:
        path: A video or sound file.
        start: First second, counted from the earliest start of the file's streams.
        end: Last second, or None for all that is left.
        fps: Frames per second to return; None keeps the file's own rate.
        sample_rate: Sound samples per second to return; None keeps the file's own, or for files
            that `write` made, the rate that was written.
        size: Height and width to return: pictures are scaled to cover it and cut at the centre.
        channels: Sound channels to return: 1 mixes down. None keeps the file's own.
        require: Streams that the file must have.
        reader: ``pyav``, or ``decord`` for files of constant rate that you trust.
        limits: Bounds on what the file may cost; None for the defaults.

    Returns:
        The clip, with the caption and request that `write` embedded, cut to the span.

    Raises:
        MediaError: The file is missing, damaged, not media, above the limits, lacks a required
            stream, or ends before the span does.
    """
    rest: dict[str, Any] = {"sample_rate": sample_rate, "size": size, "channels": channels}
    request = make_request(path, start, end, fps, limits, require=require, **rest)
    if reader == "decord":
        from avgen.media.decord_reader import read_with_decord

        return read_with_decord(request)
    if reader != "pyav":
        raise ValueError(f"reader is {reader!r}; use 'pyav' or 'decord'")
    clip = _read(request, seek=True) if request.start > _SEEK_FROM else None
    return clip or _read(request, seek=False)  # type: ignore[return-value]


def read_image(path: str | Path, *, limits: MediaLimits | None = None) -> np.ndarray:
    """A PNG, JPEG or WebP picture as ``(H, W, 3)`` uint8 RGB.

    Raises:
        MediaError: The file is missing, damaged, another format, or above the limits.
    """
    source, bounds = Path(path), limits or MediaLimits()
    with open_regular(source, bounds) as file:
        name = sniff(source, file)
        if name not in IMAGES:
            raise MediaError(source, f"is {name}, not a picture", "use avgen.media.read for video")
        with (
            guarded(source, "read it as a picture"),
            open_container(file, f"{name}_pipe", bounds) as container,
        ):
            stream = container.streams.video[0]
            pixels = stream.codec_context.width * stream.codec_context.height
            bounds.check(source, "max_pixels", pixels, "its picture size in pixels")
            stream.codec_context.options = {"max_pixels": str(bounds.max_pixels)}
            return to_rgb(next(container.decode(stream)))


def _read(request: ReadRequest, *, seek: bool) -> Clip | None:
    """The clip, or None where a seek landed too late."""
    with opened(request.path, request.limits) as media, guarded(request.path, "decode it"):
        request.check_media(media)
        decoding = _Decoding(media, request)
        if seek:
            at = media.zero + request.start - _PREROLL
            media.container.seek(int(at * av_ticks), backward=True)
        if not decoding.run(sought=seek):
            return None
        return decoding.clip()


class _Decoding:
    """One pass over a file, from packets to a clip."""

    def __init__(self, media: OpenMedia, request: ReadRequest):
        self.media, self.request = media, request
        self.fps = request.rate_of(media) if media.video else None
        self.duration = request.duration(self.fps)
        self.decoded_bytes = 0
        self.reached_end = False
        self.grid = self._make_grid(self.fps, media.video) if self.fps and media.video else None
        self.sound = self._make_sound(media.audio) if media.audio else None

    def _make_grid(self, fps: Fraction, stream: VideoStream) -> FrameGrid:
        request, crop = self.request, embedded_size(self.media)
        return FrameGrid(
            start=request.start,
            fps=fps,
            length=request.num_frames(fps),
            tolerance=_tolerance(stream),
            convert=lambda frame: to_rgb(frame, request.size, crop),
            check=self._check_frames,
        )

    def _make_sound(self, stream: AudioStream) -> SoundPlacer:
        start = self.request.start
        return SoundPlacer(
            start=start,
            end=None if self.duration is None else start + self.duration,
            tolerance=2 * _tolerance(stream),
            check=lambda samples, channels: self.request.check_memory(samples, 4 * channels),
        )

    def _check_frames(self, frames: int, bytes_each: int) -> None:
        assert self.fps is not None
        self.request.check_duration(frames / self.fps)
        self.request.check_memory(frames, bytes_each)

    def run(self, *, sought: bool) -> bool:
        """Decode until the span is complete; False where the seek landed after its start."""
        wanted = [stream for stream in (self.media.video, self.media.audio) if stream is not None]
        landed: set[str] = set()
        for packet in self.media.container.demux(wanted):
            kind = packet.stream.type
            if self._done(kind):
                if self._done("video") and self._done("audio"):
                    return True
                continue
            for frame, time in self._frames(packet):
                if sought and kind not in landed and time > self.request.start:
                    return False
                landed.add(kind)
                self._add(frame, time)
        self.reached_end = True
        return not (sought and len(landed) < len(wanted))

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
        if isinstance(frame, AudioFrame):
            assert self.sound is not None
            rate = frame.sample_rate
            self.request.limits.check(self.media.path, "max_sample_rate", rate, "its sample rate")
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

    def clip(self) -> Clip:
        """The decoded span."""
        media, request = self.media, self.request
        last = self._last()
        if self.reached_end:
            self._check_complete(last)
        request.check_end(last, self.fps)
        duration = self.duration if self.duration is not None else last - request.start
        frames = None
        if self.grid is not None and self.fps is not None:
            length = count(duration, self.fps)
            frames, duration = self.grid.finish(length), length / self.fps
        request.check_duration(duration)
        waveform, rate = None, request.sample_rate or 16_000
        if self.sound is not None:
            wanted = request.sample_rate or embedded_sample_rate(media)
            waveform, rate = self.sound.finish(duration, wanted, request.channels)
        made = media.embedded.get("request")
        return Clip(
            frames=frames,
            fps=self.fps or Fraction(25),
            waveform=waveform,
            sample_rate=rate,
            caption=embedded_caption(media, request, duration),
            request=made if isinstance(made, dict) else {},
        )

    def _last(self) -> Fraction:
        """Where the content ends: with the picture, or with sound that outlasts it by over a frame."""
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
        if self.grid is None:
            return heard
        assert self.fps is not None
        return self.grid.end if heard < self.grid.end + 1 / self.fps else heard

    def _check_complete(self, last: Fraction) -> None:
        """Raise where the file ends well before its header says."""
        claimed = self.media.claimed_duration()
        if claimed is not None and self.request.end is not None:
            claimed = min(claimed, float(self.request.end))
        if claimed is not None and last < claimed - _TRUNCATION:
            problem = f"is cut off: it says {claimed:.3f} s but ends at {float(last):.3f} s"
            raise MediaError(self.media.path, problem, "get the complete file")


def _tolerance(stream: VideoStream | AudioStream) -> Fraction:
    """How late a time may be by the container's rounding: a tick, where ticks are short."""
    return min(stream.time_base or _MILLISECOND, _MILLISECOND) + Fraction(1, 1_000_000)
