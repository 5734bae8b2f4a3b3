"""Timed captions: a description of the whole clip and events on tracks, each with start and end."""

from dataclasses import dataclass
from typing import Literal

from avgen.clock import seconds_from_us, us_from_seconds

SCHEMA = "avgen.caption/1"
Track = Literal["visual", "camera", "speech", "music", "sfx", "ambience", "action"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens on one track from ``start_us`` to ``end_us`` (integer microseconds, half-open)."""

    start_us: int
    end_us: int
    track: Track
    text: str
    id: str | None = None
    cause: str | None = None
    entity: str | None = None
    confidence: float | None = None
    provenance: str | None = None

    @classmethod
    def at(cls, start: float, end: float, text: str, track: Track = "sfx", **fields: object) -> "Event":
        """An event with its times in seconds."""
        return cls(start_us=us_from_seconds(start), end_us=us_from_seconds(end), track=track, text=text, **fields)  # type: ignore[arg-type]

    @property
    def start(self) -> float:
        """Start in seconds."""
        return seconds_from_us(self.start_us)

    @property
    def end(self) -> float:
        """End in seconds."""
        return seconds_from_us(self.end_us)


@dataclass(frozen=True, kw_only=True)
class TimedCaption:
    """Description of a clip: global text and events, ordered by start."""

    duration_us: int
    text: str
    events: tuple[Event, ...] = ()
    language: str = "en"

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return seconds_from_us(self.duration_us)
