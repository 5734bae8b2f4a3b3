"""Reading a span of a media file as a `Clip`, by time.

Time zero of a clip is the earliest start of its streams. Edit lists and encoder delays are honoured
(FFmpeg applies them to the times it reports); frame numbers and nominal rates are never times.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from av import time_base as av_ticks
from jaxtyping import UInt8
from numpy import ndarray

from avgen.clip import Clip
from avgen.clock import Rate
from avgen.media.container import open_container, opened
from avgen.media.decoding import Decoding
from avgen.media.limits import MediaError, MediaLimits, guarded
from avgen.media.picture import to_rgb
from avgen.media.request import ReadRequest, Stream, make_request
from avgen.media.sniff import IMAGES, open_regular, sniff

# Seeking less far than this costs more than it saves.
_SEEK_FROM = 2
# Seconds to seek before the span: block transforms need the blocks before the first wanted one, and
# where a container has no index, FFmpeg may land behind the key picture that is needed.
_PREROLLS = (Fraction(1, 2), Fraction(5))


def read(
    path: str | Path,
    *,
    start: float = 0.0,
    end: float | None = None,
    fps: Rate | None = None,
    sample_rate: int | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    sound_offset: float = 0.0,
    require: tuple[Stream, ...] = (),
    reader: Literal["pyav", "decord"] = "pyav",
    limits: MediaLimits | None = None,
) -> Clip:
    """Read ``[start, end)`` seconds of a media file.

    Frame ``i`` is the picture on screen at ``start + i / fps``; sound sits at its own time on the
    same clock, with silence where the file has none. Where the file has no picture (before its
    first picture, after its last), the nearest is held.

    Args:
        path: A video or sound file.
        start: First second, counted from the earliest start of the file's streams.
        end: Last second, or None for all that is left.
        fps: Frames per second to return; None keeps the file's own rate.
        sample_rate: Sound samples per second to return; None keeps the file's own, or for files
            that `write` made, the rate that was written.
        size: Height and width to return: pictures are scaled to cover it and cut at the centre.
        channels: Sound channels to return: 1 mixes down. None keeps the file's own.
        sound_offset: Seconds by which the returned sound lay later in the file than the picture it
            comes with: the offset of a file whose sound is late puts the two together.
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
    rest["sound_offset"] = sound_offset
    request = make_request(path, start, end, fps, limits, require=require, **rest)
    if reader == "decord":
        from avgen.media.decord_reader import read_with_decord

        return read_with_decord(request)
    if reader != "pyav":
        raise ValueError(f"reader is {reader!r}; use 'pyav' or 'decord'")
    for preroll in _PREROLLS:
        if request.start - preroll > _SEEK_FROM:
            clip = _read(request, preroll)
            if clip is not None:
                return clip
    return _read(request, None)  # type: ignore[return-value]


def read_image(path: str | Path, *, limits: MediaLimits | None = None) -> UInt8[ndarray, "h w 3"]:
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


def _read(request: ReadRequest, preroll: Fraction | None) -> Clip | None:
    """The clip, or None where a seek landed too late for the picture."""
    with opened(request.path, request.limits) as media, guarded(request.path, "decode it"):
        request.check_media(media)
        decoding = Decoding(media, request)
        if preroll is not None:
            at = media.zero + request.start + min(request.sound_offset, 0) - preroll
            media.container.seek(int(at * av_ticks), backward=True)
        missed = decoding.run(sought=preroll is not None)
        if missed and (media.video is None or "video" in missed):
            return None
        if missed:
            with opened(request.path, request.limits) as again:
                decoding.hear(again)
        return decoding.clip()
