"""Opening a media file safely, and what its header says: `probe`."""

import itertools
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import av
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
    return OpenMedia(path, container, name, video, audio, zero, _embedded(container))


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
    """The stream's own rate: what `write` recorded, else the nominal, else the average rate."""
    recorded = media.embedded.get("fps")
    if isinstance(recorded, str):
        try:
            return as_rate(Fraction(recorded))
        except (ValueError, ZeroDivisionError):
            pass
    assert media.video is not None
    average, base = media.video.average_rate, media.video.base_rate
    if average and base and abs(base / average - 1) < Fraction(1, 10):
        return as_rate(base)
    rate = average or base or media.video.guessed_rate
    if not rate:
        raise MediaError(media.path, "has no frame rate", "pass fps=")
    return as_rate(rate)


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
