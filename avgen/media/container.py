"""Opening a media file safely, and what its header says: `probe`."""

import itertools
import json
import logging
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from avgen.clock import as_rate
from avgen.media.limits import MediaError, MediaLimits, guarded
from avgen.media.sniff import IMAGES, open_regular, sniff

CLIP_SCHEMA = "avgen.clip/1"
# The other formats have no duration in their header; FFmpeg estimates one from the bit rate.
_EXACT = ("mov", "matroska", "avi", "wav", "flac", "ogg")
# Matroska tells only the length of the whole, which FFmpeg at times reports for a stream.
_EXACT_STREAMS = ("mov", "avi", "wav", "flac", "ogg")
_MAX_EMBEDDED = 4_000_000
_BUFFER = 1 << 18
_MAX_NOMINAL = 1000
_SAME_RATE = Fraction(1, 100)
# Pictures whose times are looked at; the last of them may lack some that are stored after them.
_COUNTED, _REORDERED = 500, 16
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """The picture stream of a file: rate in frames per second, times in seconds (None: unknown)."""

    codec: str
    height: int
    width: int
    fps: Fraction
    start: float
    duration: float | None


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """The sound stream of a file; times in seconds (None: unknown)."""

    codec: str
    sample_rate: int
    channels: int
    start: float
    duration: float | None


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a file's header says; nothing is decoded.

    Attributes:
        path: The file.
        container: Name of the container format.
        duration: Seconds from the earliest stream start to the latest claimed end; None if unknown.
        video: The picture stream, or None.
        audio: The sound stream, or None.
        embedded: What `avgen.media.write` put in: caption, request, size and sample rate.
    """

    path: Path
    container: str
    duration: float | None
    video: VideoInfo | None
    audio: AudioInfo | None
    embedded: dict[str, Any]


@dataclass(frozen=True)
class OpenMedia:
    """An open container and the two streams that are read; ``zero`` is the clip's time zero."""

    path: Path
    container: InputContainer
    format: str
    video: VideoStream | None
    audio: AudioStream | None
    zero: Fraction
    embedded: dict[str, Any]
    limits: MediaLimits

    @cached_property
    def counted_fps(self) -> Fraction | None:
        """Mean rate of the first pictures, by the times of their packets; None if there are too few."""
        with opened(self.path, self.limits) as again:
            times = packet_times(again, _COUNTED)
        times = times[:-_REORDERED] if len(times) == _COUNTED else times
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else None

    def end(self, stream: VideoStream | AudioStream) -> Fraction | None:
        """End of a stream as its header says, in seconds after ``zero``; None if it does not."""
        exact = self.format in _EXACT_STREAMS
        if not exact or not stream.duration or stream.time_base is None:
            return None
        return (Fraction(stream.start_time or 0) + stream.duration) * stream.time_base - self.zero

    def claimed_duration(self) -> Fraction | None:
        """Seconds from ``zero`` to the end of the longest stream as the header says, or None."""
        ends = [self.end(stream) for stream in (self.video, self.audio) if stream is not None]
        known = [end for end in ends if end is not None]
        if not known and self.format in _EXACT and self.container.duration:
            known = [Fraction(self.container.duration, av.time_base) - self.zero]
        return max(known, default=None)


@contextmanager
def opened(path: Path, limits: MediaLimits) -> Iterator[OpenMedia]:
    """Open a media file with everything hostile ruled out."""
    with open_regular(path, limits) as file:
        name = sniff(path, file)
        if name in IMAGES:
            fix = "use avgen.media.read_image for a still picture"
            raise MediaError(path, f"is a {name.upper()} picture, not video or sound", fix)
        with guarded(path, f"open it as {name}"):
            container = open_container(file, name, limits)
        with container:
            with guarded(path, "read its streams"):
                media = _select(path, container, name, limits)
            yield media


def open_container(file: BinaryIO, name: str, limits: MediaLimits) -> InputContainer:
    """FFmpeg on bytes we hold: this one demuxer, no protocols, no second file, bounded pictures."""
    container = av.open(
        file,
        format=name,
        options={"max_pixels": str(limits.max_pixels), "threads": "1"},
        container_options={"protocol_whitelist": "none"},
        io_open=_refuse,
        buffer_size=_BUFFER,
        metadata_errors="replace",
    )
    assert isinstance(container, InputContainer)
    return container


def _refuse(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError(f"the file refers to another file, {url!r:.80}")


def _select(path: Path, container: InputContainer, name: str, limits: MediaLimits) -> OpenMedia:
    limits.check(path, "max_streams", len(container.streams), "its number of streams")
    pictures = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    video = next(pictures, None)
    audio = next(iter(container.streams.audio), None)
    if video is None and audio is None:
        raise MediaError(path, "has neither picture nor sound", "give a file with video or audio")
    for stream in (video, audio):
        if stream is not None and stream.codec_context is None:
            raise MediaError(
                path, f"has an unknown {stream.type} codec", "convert it to H.264 and AAC"
            )
    if video is not None:
        context = video.codec_context
        limits.check(
            path, "max_pixels", context.width * context.height, "its picture size in pixels"
        )
        if context.width * context.height == 0:
            raise MediaError(path, "has a picture stream without a size", "re-encode the file")
        context.options = {"max_pixels": str(limits.max_pixels)}
        context.thread_count = 1
    if audio is not None:
        context = audio.codec_context
        limits.check(path, "max_sample_rate", context.sample_rate, "its sample rate")
        limits.check(path, "max_channels", context.channels, "its number of sound channels")
        context.thread_count = 1
    starts = [
        stream.start_time * stream.time_base
        for stream in (video, audio)
        if stream is not None and stream.start_time is not None and stream.time_base is not None
    ]
    zero = min(starts, default=Fraction(0))
    return OpenMedia(path, container, name, video, audio, zero, _embedded(container), limits)


def _embedded(container: InputContainer) -> dict[str, Any]:
    comment = container.metadata.get("comment", "")
    if CLIP_SCHEMA not in comment[:200] or len(comment) > _MAX_EMBEDDED:
        return {}
    try:
        data = json.loads(comment)
    except (ValueError, RecursionError):
        _log.warning("ignoring a damaged %s record in %s", CLIP_SCHEMA, container.name)
        return {}
    return data if isinstance(data, dict) and data.get("schema") == CLIP_SCHEMA else {}


def native_fps(media: OpenMedia) -> Fraction:
    """The stream's own rate: the nominal, the average or the counted one.

    What `write` recorded is exact, and goes before where they agree: tools that encode again keep the
    record and may change the rate.
    """
    recorded = media.embedded.get("fps")
    try:
        exact = as_rate(Fraction(recorded)) if isinstance(recorded, str) else None
    except (ValueError, ZeroDivisionError):
        exact = None
    counted = media.counted_fps if exact else None
    if exact and (counted is None or abs(counted / exact - 1) <= _SAME_RATE):
        return exact
    own = _stream_fps(media)
    if own is None:
        raise MediaError(media.path, "has no frame rate", "pass fps=")
    return own


def _stream_fps(media: OpenMedia) -> Fraction | None:
    assert media.video is not None
    stream = media.video
    tick = stream.time_base or Fraction(0)
    # A picture for each tick of a fast clock is what FFmpeg says where it cannot tell.
    average, base, guessed = (
        None if rate and rate > _MAX_NOMINAL and rate * tick >= 1 else rate
        for rate in (stream.average_rate, stream.base_rate, stream.guessed_rate)
    )
    if average and base and abs(base / average - 1) < Fraction(1, 10):
        return as_rate(base)
    rate = average or base or guessed or media.counted_fps
    return as_rate(rate) if rate else None


def probe(path: str | Path, *, limits: MediaLimits | None = None) -> MediaInfo:
    """What a media file's header says, without decoding.

    Raises:
        MediaError: The file is not usable media or breaks the limits.
    """
    with opened(Path(path), limits or MediaLimits()) as media, guarded(Path(path), "probe it"):
        claimed = media.claimed_duration()
        return MediaInfo(
            path=media.path,
            container=media.format,
            duration=None if claimed is None else float(claimed),
            video=_video_info(media),
            audio=_audio_info(media),
            embedded=media.embedded,
        )


def picture_times(
    path: str | Path, *, most: int | None = None, limits: MediaLimits | None = None
) -> list[Fraction]:
    """When the pictures of a file come on, in seconds and in order, without decoding.

    Args:
        path: A video file.
        most: Packets to look at; None for all. Pictures are stored out of order, so the last few of
            a part may lack those between them.
        limits: Bounds on what the file may cost; None for the defaults.

    Raises:
        MediaError: The file is not usable media or has no picture.
    """
    with opened(Path(path), limits or MediaLimits()) as media, guarded(Path(path), "read it"):
        return packet_times(media, most)


def packet_times(media: OpenMedia, most: int | None = None) -> list[Fraction]:
    """`picture_times` of an open file."""
    packets = () if media.video is None else media.container.demux(media.video)
    times = sorted(
        packet.pts * packet.time_base - media.zero
        for packet in itertools.islice(packets, most)
        if packet.pts is not None and packet.time_base is not None
    )
    if not times:
        raise MediaError(media.path, "has no picture", "give a file with video")
    return times


def holes(
    path: str | Path, *, seconds: float, limits: MediaLimits | None = None
) -> list[tuple[float, float]]:
    """Where a file with picture and sound stores neither, as one with a damaged stretch does.

    A demuxer that finds no packets goes on with the next it recognises, without an error. Nothing is
    decoded. A file of one stream has none: a picture may stay on for any time, sound may pause.

    Args:
        path: The file.
        seconds: Shortest hole.
        limits: Bounds on what the file may cost; None for the defaults.

    Returns:
        Start and end of each, in seconds after the earliest start of a stream.

    Raises:
        MediaError: The file is not usable media.
    """
    with opened(Path(path), limits or MediaLimits()) as media, guarded(Path(path), "read it"):
        if media.video is None or media.audio is None:
            return []
        times = array("d")
        for packet in media.container.demux(media.video, media.audio):
            if packet.pts is not None and packet.time_base is not None:
                start = packet.pts * packet.time_base - media.zero
                end = start + (packet.duration or 0) * packet.time_base
                times.extend((float(start), float(end)))
    spans = np.asarray(times).reshape(-1, 2)
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    ends = np.maximum.accumulate(spans[:, 1])
    wide = np.flatnonzero(spans[1:, 0] - ends[:-1] >= seconds)
    return [(float(ends[i]), float(spans[i + 1, 0])) for i in wide]


def _times(media: OpenMedia, stream: VideoStream | AudioStream) -> dict[str, float | None]:
    tick = stream.time_base or Fraction(0)
    start = Fraction(stream.start_time or 0) * tick - media.zero
    duration = None if stream.duration is None else float(stream.duration * tick)
    return {"start": float(start), "duration": duration}


def _video_info(media: OpenMedia) -> VideoInfo | None:
    if media.video is None:
        return None
    context = media.video.codec_context
    return VideoInfo(
        codec=context.name,
        height=context.height,
        width=context.width,
        fps=native_fps(media),
        **_times(media, media.video),  # type: ignore[arg-type]
    )


def _audio_info(media: OpenMedia) -> AudioInfo | None:
    if media.audio is None:
        return None
    context = media.audio.codec_context
    return AudioInfo(
        codec=context.name,
        sample_rate=context.sample_rate,
        channels=context.channels,
        **_times(media, media.audio),  # type: ignore[arg-type]
    )
