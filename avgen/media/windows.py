"""Reading files of any length: consecutive windows, or picture by picture, in one pass.

Each stream is decoded through a demuxer of its own, so memory does not depend on how the file
interleaves them.
Shapes: F frames, H height, W width, C channels, S samples.
"""

import dataclasses
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.frame import VideoFrame
from jaxtyping import UInt8
from numpy import ndarray

from avgen.clip import Clip
from avgen.clock import Rate, count
from avgen.media.container import OpenMedia, opened
from avgen.media.decoding import Decoding, assemble, tolerance
from avgen.media.limits import MediaLimits, guarded
from avgen.media.picture import NoGrid, SlidingGrid
from avgen.media.request import ReadRequest, Stream, embedded_sample_rate, make_request
from avgen.media.sound import SoundStream

Picture = tuple[Fraction, Fraction, UInt8[ndarray, "h w 3"]]


def read_windows(
    path: str | Path,
    *,
    seconds: float,
    fps: Rate | None = None,
    sample_rate: int | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    require: tuple[Stream, ...] = (),
    limits: MediaLimits | None = None,
) -> Generator[Clip, None, None]:
    """A media file from its start to its end as clips that follow one another without a gap.

    Put together, the windows are what `read` returns of the whole file, sample by sample; only one
    window and what is decoded ahead of it (about a tenth of a second) are in memory.

    Args:
        path: A video or sound file.
        seconds: Length of a window, put on whole frames; the last one is as long as what is left.
        fps: See `read`, as all that follows.
        sample_rate: See `read`.
        size: See `read`.
        channels: See `read`.
        require: See `read`.
        limits: See `read`; those of one read hold for each window.

    Yields:
        The windows in order. Where the file is damaged, the windows before the damage, and then:

    Raises:
        MediaError: See `read`; an argument that is wrong is refused at once.
    """
    rest = {"sample_rate": sample_rate, "size": size, "channels": channels, "require": require}
    request = make_request(path, 0.0, seconds, fps, limits, **rest)
    return _windows(request)


def read_pictures(
    path: str | Path, *, size: tuple[int, int] | None = None, limits: MediaLimits | None = None
) -> Generator[Picture, None, None]:
    """Every picture of a file with the times at which it comes on and goes off the screen.

    What `read` shows on a regular grid is here as the file has it: no picture is repeated or left
    out where the rate varies.

    Args:
        path: A video file.
        size: Height and width to return: scaled to cover it and cut at the centre.
        limits: Bounds on what the file may cost; None for the defaults.

    Yields:
        Start and end in seconds after the earliest start of the file's streams, and the picture.
        The end is that of the picture's own duration; a picture without one lasts 1 / fps.

    Raises:
        MediaError: See `read`.
    """
    rest = {"sample_rate": None, "channels": None, "require": ("video",)}
    return _pictures(make_request(path, 0.0, 1e-6, None, limits, size=size, **rest))


def _windows(request: ReadRequest) -> Generator[Clip, None, None]:
    with (
        opened(request.path, request.limits) as media,
        opened(request.path, request.limits) as again,
        guarded(request.path, "decode it"),
    ):
        request.check_media(media)
        packets = {
            stream.type: one.container.demux(stream)
            for one, stream in ((media, media.video), (again, again.audio))
            if stream is not None
        }
        decoding = _WindowDecoding(media, request, packets)
        while (window := decoding.window()) is not None:
            yield window


class _LongDecoding(Decoding):
    def _check_time(self, time: Fraction) -> None:
        what = "its length in seconds"
        self.request.limits.check(self.media.path, "max_file_duration", float(time), what)


class _WindowDecoding(_LongDecoding):
    """A pass that stops at the end of each window; ``request`` is always that of the window."""

    grid_type = SlidingGrid
    grid: SlidingGrid | None
    sound: SoundStream | None

    def __init__(
        self, media: OpenMedia, request: ReadRequest, packets: dict[str, Iterator[Packet]]
    ):
        super().__init__(media, request)
        assert self.duration is not None
        self.step, self.packets = self.duration, packets
        self.total: Fraction | None = None
        self._move(Fraction(0))

    def _make_sound(self, stream: AudioStream) -> SoundStream:
        return SoundStream(
            self.request.sample_rate or embedded_sample_rate(self.media),
            self.request.channels,
            2 * tolerance(stream),
            lambda samples, channels: self.request.check_memory(samples, 4 * channels),
        )

    def window(self) -> Clip | None:
        """The next window, or None after the last."""
        start, stop = self.request.start, self.request.start + self.step
        self._decode_until(stop)
        if self.total is None and not self.packets:
            last = self._last()
            self._check_complete(last, None)
            self.total = count(last, self.fps) / self.fps if self.fps else last
        if self.total is not None:
            stop = min(stop, self.total)
        if stop <= start:
            return None
        frames = None
        if self.grid is not None and self.fps is not None:
            self._last()
            frames = self.grid.finish(round((stop - start) * self.fps))
            self.grid.advance()
        sound = None if self.sound is None else self.sound.take(stop)
        clip = assemble(self.media, self.request, frames, self.fps, sound, stop - start)
        self._move(stop)
        return clip

    def _move(self, start: Fraction) -> None:
        self.request = dataclasses.replace(self.request, start=start, end=start + self.step)
        self.decoded_bytes = 0

    def _decode_until(self, stop: Fraction) -> None:
        """Decode what the window needs, and so much more that the file is known to go on."""
        frame = 1 / self.fps if self.fps else Fraction(0)
        for kind in list(self.packets):
            while not self._reaches(kind, stop, frame):
                packet = next(self.packets[kind], None)
                if packet is None:
                    del self.packets[kind]
                    break
                for decoded, time in self._frames(packet):
                    self._add(decoded, time)

    def _reaches(self, kind: str, stop: Fraction, frame: Fraction) -> bool:
        if kind == "video":
            assert self.grid is not None
            return self.grid.shown >= stop
        assert self.sound is not None
        assert self.media.audio is not None
        claimed = self.media.end(self.media.audio)
        ends = claimed is not None and claimed < stop + frame
        return not ends and self.sound.covers(stop + frame)


def _pictures(
    request: ReadRequest,
) -> Generator[Picture, None, None]:
    with opened(request.path, request.limits) as media, guarded(request.path, "decode it"):
        request.check_media(media)
        alone = _PictureDecoding(dataclasses.replace(media, audio=None), request)
        yield from alone.pictures(media.audio)


class _PictureDecoding(_LongDecoding):
    """A pass over the pictures as they come."""

    grid_type = NoGrid

    def pictures(self, audio: AudioStream | None) -> Iterator[Picture]:
        assert self.media.video is not None
        assert self.grid is not None
        last = Fraction(0)
        wanted = [stream for stream in (self.media.video, audio) if stream is not None]
        for packet in self.media.container.demux(wanted):
            if packet.stream is audio:
                # Some containers tell only the length of the longest stream.
                last = max(last, self._end(packet))
                continue
            for frame, time in self._frames(packet):
                self._add(frame, time)
                self.decoded_bytes = 0  # the limit is for what is in memory together
                assert isinstance(frame, VideoFrame)
                yield time, self.grid.end, self.grid.convert(frame)
        self._check_complete(max(last, self._last()), None)

    def _end(self, packet: Packet) -> Fraction:
        if packet.pts is None or packet.time_base is None:
            return Fraction(0)
        return (packet.pts + (packet.duration or 0)) * packet.time_base - self.media.zero
