"""What is asked of the pipeline: a caption, a shape, and media that are given."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from avgen import clock, tasks
from avgen.caption import Event, TimedCaption
from avgen.clip import Clip

DEFAULT_DURATION = 1.96
GIVEN = ("image", "video", "audio", "prefix", "infill")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One clip to make.

    Attributes:
        prompt: Description of the whole clip.
        events: What happens when.
        duration: Seconds; snapped to the nearest length that the video codec has (1 + 4k frames). None: that of the
            given clip, else 1.96 s.
        image: ``(H, W, 3)`` uint8 first frame.
        video: Clip whose picture is given; its sound is generated.
        audio: Clip whose sound is given; its picture is generated.
        prefix: Clip that is continued; ``duration`` includes it.
        infill: Clip of which one span is made anew.
        span: Start and end of that span, in seconds.
        height: Pixels.
        width: Pixels.
        fps: Frames per second.
        seed: Of all random numbers of this clip.

    Raises:
        ValueError: Given media that exclude each other, or an event outside the clip.
    """

    prompt: str
    events: tuple[Event, ...] = ()
    duration: float | None = None
    image: np.ndarray | None = None
    video: Clip | None = None
    audio: Clip | None = None
    prefix: Clip | None = None
    infill: Clip | None = None
    span: tuple[float, float] | None = None
    height: int = 64
    width: int = 64
    fps: Fraction = Fraction(25)
    seed: int = 0

    def __post_init__(self) -> None:
        given = [name for name in GIVEN if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(given)} are given together; give at most one of {', '.join(GIVEN)}"
            )
        self._check_span()
        if self.video is not None and self.video.frames is None:
            raise ValueError(
                "the given video has no picture; give it as `audio` to generate a picture for its sound"
            )
        if self.audio is not None and self.audio.waveform is None:
            raise ValueError(
                "the given audio has no sound; give it as `video` to generate sound for its picture"
            )
        if self.prefix is not None and (self.prefix.frames is None or self.prefix.waveform is None):
            raise ValueError(
                "the prefix needs picture and sound; a silent video can be given as `video` instead"
            )
        if self.duration is not None and self.duration <= 0:
            raise ValueError(f"duration {self.duration} s must be positive")
        if (
            self.prefix is not None
            and self.duration is not None
            and self.duration <= self.prefix.duration
        ):
            raise ValueError(
                f"duration {self.duration} s includes the prefix of {self.prefix.duration:g} s; ask for a longer clip"
            )

    def _check_span(self) -> None:
        if self.infill is None and self.span is None:
            return
        if self.infill is None or self.span is None:
            raise ValueError(
                f"infill is {self.infill} and span {self.span}; give the clip and the span to make anew"
            )
        if self.infill.frames is None or self.infill.waveform is None:
            raise ValueError(
                "the clip to fill needs picture and sound; a silent video can be given as `video`"
            )
        length = self.infill.duration
        if not 0 <= self.span[0] < self.span[1] <= length + 1e-6:
            raise ValueError(
                f"span {self.span[0]} to {self.span[1]} s must lie in the clip: 0 <= start < end <= {length:g}"
            )
        if self.duration is not None and self.duration > length + float(1 / self.fps):
            raise ValueError(
                f"duration {self.duration} s is longer than the clip to fill, {length:g} s; "
                "leave it out, or give the clip as `prefix` to make it longer"
            )

    @classmethod
    def from_caption(cls, caption: TimedCaption, **fields: Any) -> "Request":
        """A request for what a caption describes, as long as it says."""
        return cls(
            prompt=caption.text, events=caption.events, **{"duration": caption.duration, **fields}
        )

    def num_frames(self, time_stride: int) -> int:
        """Frames of the clip that will be made."""
        given = self.video or self.audio or self.infill
        default = given.duration if given else DEFAULT_DURATION
        if self.prefix is not None:
            default = self.prefix.duration + DEFAULT_DURATION / 2
        seconds = default if self.duration is None else self.duration
        return clock.frames_on_grid(clock.count(seconds, self.fps), time_stride)

    def caption(self, duration: float) -> TimedCaption:
        """The caption of a clip of ``duration`` seconds.

        Raises:
            ValueError: An event starts after the end.
        """
        limit = clock.us_from_seconds(duration)
        for event in self.events:
            if event.start_us >= limit:
                raise ValueError(
                    f"event {event.text!r} starts at {event.start:g} s, but the clip ends at {duration:g} s; "
                    "move the event or ask for a longer duration"
                )
        events = tuple(event.replace(end_us=min(event.end_us, limit)) for event in self.events)
        return TimedCaption(duration_us=limit, text=self.prompt, events=events)

    def task(self) -> tasks.Task:
        """Which parts are given."""
        if self.image is not None:
            return tasks.image_to_audio_video(float(1 / self.fps))
        if self.video is not None:
            return tasks.video_to_audio()
        if self.audio is not None:
            return tasks.audio_to_video()
        if self.prefix is not None:
            return tasks.extend(self.prefix.duration)
        if self.span is not None:
            return tasks.infill(*self.span)
        return tasks.text_to_audio_video()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form without the media, kept with the clip."""
        given = [name for name in GIVEN if getattr(self, name) is not None]
        span = {} if self.span is None else {"span": list(self.span)}
        return span | {
            "prompt": self.prompt,
            "duration": self.duration,
            "given": given[0] if given else None,
            "size": [self.height, self.width],
            "fps": str(self.fps),
            "seed": self.seed,
        }


def as_request(prompt: str | TimedCaption, events: Sequence[Event] = (), **fields: Any) -> Request:
    """A request from a prompt with events, or from a caption (then ``events`` are added to its own)."""
    if isinstance(prompt, TimedCaption):
        if fields.get("duration") is None:
            fields["duration"] = prompt.duration
        return Request(prompt=prompt.text, events=(*prompt.events, *events), **fields)
    return Request(prompt=prompt, events=tuple(events), **fields)
