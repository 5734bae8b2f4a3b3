"""What one read asks for, and the checks that both readers share."""

import logging
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from avgen.caption import CaptionError, TimedCaption
from avgen.clock import MICROSECONDS, as_rate, count, us_from_seconds
from avgen.media.container import OpenMedia, native_fps
from avgen.media.limits import MediaError, MediaLimits

Stream = Literal["video", "audio"]
_KINDS = {"video": "picture", "audio": "sound"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """The arguments of `avgen.media.read`; times are exact to the microsecond."""

    path: Path
    start: Fraction
    end: Fraction | None
    fps: Fraction | None
    sample_rate: int | None
    size: tuple[int, int] | None
    channels: int | None
    require: tuple[Stream, ...]
    limits: MediaLimits
    sound_offset: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if self.start < 0:
            self._refuse(f"start is {float(self.start):g} s", "time starts at 0: give start >= 0")
        if self.end is not None and self.end <= self.start:
            span = f"{float(self.start):g} to {float(self.end):g} s"
            self._refuse(f"the span {span} is empty", "give end > start")
        for name in ("sample_rate", "channels"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                self._refuse(f"{name} is {value}", "give a positive number")
        if self.size is not None and min(self.size) <= 0:
            self._refuse(f"size is {self.size}", "give positive (height, width)")
        if self.size is not None:
            self._check("max_pixels", math.prod(self.size), "the requested picture size")
        if self.sample_rate is not None:
            self._check("max_sample_rate", self.sample_rate, "the requested sample rate")
        if self.fps is not None:
            self._check("max_fps", float(self.fps), "the requested frame rate")
        if self.end is not None:
            self.check_duration(self.end - self.start)

    def _refuse(self, problem: str, fix: str) -> None:
        raise MediaError(self.path, problem, fix)

    def _check(self, name: str, value: float, what: str) -> None:
        self.limits.check(self.path, name, value, what)

    def check_duration(self, seconds: Fraction | float) -> None:
        """Raise `MediaError` if the span is longer than the limit."""
        self._check("max_duration", float(seconds), "its length in seconds")

    def check_memory(self, items: int, bytes_each: int) -> None:
        """Raise `MediaError` before the returned clip takes more memory than the limit."""
        self._check("max_output_bytes", items * bytes_each, "its decoded size in bytes")

    def check_media(self, media: OpenMedia) -> None:
        """Raise `MediaError` if streams are missing or the file's own claims rule the span out."""
        for name in self.require:
            if getattr(media, name) is None:
                self._refuse(f"has no {_KINDS[name]}", f"give a file with {name}")
        claimed = media.claimed_duration()
        if claimed is None:
            return
        if claimed <= 0:
            self._refuse("lasts 0 seconds", "give a file with content")
        duration = (self.end or claimed) - self.start
        self.check_duration(duration)
        if media.video is not None and duration > 0:
            context = media.video.codec_context
            height, width = self.size or (context.height, context.width)
            self.check_memory(round(duration * self.rate_of(media)), 3 * height * width)

    def check_end(self, last: Fraction, fps: Fraction | None) -> None:
        """Raise `MediaError` if the span starts or ends after the file does (by over a frame)."""
        slack = 1 / fps if fps else Fraction(1, 20)
        if self.start >= last or (self.end is not None and self.end > last + slack):
            wanted = self.start if self.start >= last else self.end
            problem = (
                f"ends at {float(last):.3f} s, before the requested {float(wanted or 0):.3f} s"
            )
            self._refuse(problem, "ask for an earlier span, or leave end out")

    def rate_of(self, media: OpenMedia) -> Fraction:
        """Frames per second to return."""
        rate = self.fps or native_fps(media)
        self._check("max_fps", float(rate), "its frame rate (pass fps= to resample it)")
        return rate

    def num_frames(self, fps: Fraction) -> int | None:
        """Frames to return, or None where the file's end decides."""
        return None if self.end is None else count(self.end - self.start, fps)

    def duration(self, fps: Fraction | None) -> Fraction | None:
        """Seconds to return (whole frames, where there is a picture), or None."""
        if self.end is None or fps is None:
            return None if self.end is None else self.end - self.start
        return Fraction(count(self.end - self.start, fps)) / fps


def make_request(
    path: str | Path,
    start: float,
    end: float | None,
    fps: int | float | Fraction | None,
    limits: MediaLimits | None,
    *,
    sound_offset: float = 0.0,
    **rest: Any,
) -> ReadRequest:
    """Check and normalise the arguments of a read."""
    for name, value in (("start", start), ("end", end), ("sound_offset", sound_offset)):
        if value is not None and not math.isfinite(value):
            raise MediaError(path, f"{name} is {value}", "give seconds")
    try:
        rate = None if fps is None else as_rate(fps)
    except ValueError as error:
        raise MediaError(path, "cannot be read at this fps", str(error)) from None
    return ReadRequest(
        path=Path(path),
        start=Fraction(us_from_seconds(start), MICROSECONDS),
        end=None if end is None else Fraction(us_from_seconds(end), MICROSECONDS),
        fps=rate,
        limits=limits or MediaLimits(),
        sound_offset=Fraction(us_from_seconds(sound_offset), MICROSECONDS),
        **rest,
    )


def embedded_caption(
    media: OpenMedia, request: ReadRequest, duration: Fraction
) -> TimedCaption | None:
    """The caption that `avgen.media.write` put into the file, cut to the span that was read."""
    stored = media.embedded.get("caption")
    if stored is None:
        return None
    try:
        caption = TimedCaption.from_json(stored)
        if request.start == 0 and request.end is None:
            return caption
        return caption.cropped(float(request.start), float(request.start + duration))
    except (CaptionError, TypeError) as error:
        _log.warning("%s: ignoring its damaged caption: %s", media.path, error)
        return None


def embedded_size(media: OpenMedia) -> tuple[int, int] | None:
    """Height and width before the writer padded them to even numbers, or None."""
    size = media.embedded.get("size")
    if media.video is None or not isinstance(size, list) or len(size) != 2:
        return None
    whole = media.video.codec_context.height, media.video.codec_context.width
    fits = all(isinstance(a, int) and 0 <= b - a <= 1 for a, b in zip(size, whole, strict=True))
    return (size[0], size[1]) if fits and min(size) > 0 else None


def embedded_sample_rate(media: OpenMedia) -> int | None:
    """The waveform's sample rate before the writer made it 48 kHz, or None."""
    rate = media.embedded.get("sample_rate")
    return rate if isinstance(rate, int) and 1000 <= rate <= 384_000 else None
