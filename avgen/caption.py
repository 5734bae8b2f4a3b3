"""Timed captions: a description of the whole clip and events on tracks, each with start and end.

Times are integer microseconds, intervals are half-open, events may overlap. A caption is valid by
construction: every constructor checks, and the error names event, field, value and fix.
Reading and writing JSON, WebVTT and SubRip is in `avgen.caption_formats`.
"""

import dataclasses
import operator
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from avgen.clock import seconds_from_us, us_from_seconds

SCHEMA = "avgen.caption/1"
Track = Literal["visual", "camera", "speech", "music", "sfx", "ambience", "action"]
TRACKS: tuple[str, ...] = get_args(Track)
MAX_TEXT = 100_000
_OPTIONAL_TEXT = ("id", "cause", "entity", "provenance")
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


class CaptionError(ValueError):
    """A caption that cannot be used; says which event and field, the value, and the fix.

    Attributes:
        field: The offending field, for example ``end_us``.
        event: Which event (index or id), or None where the caption itself is wrong.
    """

    def __init__(self, field: str, value: object, fix: str, event: str | None = None):
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        super().__init__(f"{event or 'caption'}: {field} is {shown}; {fix}")
        self.field, self.value, self.fix, self.event = field, value, fix, event

    def within(self, place: str) -> "CaptionError":
        """The same error, with the place where it was found put before it."""
        event = place if self.event is None else f"{place}, {self.event}"
        return CaptionError(self.field, self.value, self.fix, event)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happens on one track from ``start_us`` to ``end_us`` (half-open).

    Attributes:
        start_us: Start in integer microseconds, at least 0.
        end_us: End in integer microseconds, after the start.
        track: One of `TRACKS`.
        text: What happens, in words.
        id: Name of the event, unique within its caption.
        cause: ``id`` of the event that makes this one happen.
        entity: Who or what does it (a speaker, an object).
        confidence: How sure the source is, in [0, 1].
        provenance: Where the event comes from (a detector, a person).

    Raises:
        CaptionError: A field has the wrong type or lies outside its range.
    """

    start_us: int
    end_us: int
    track: Track
    text: str
    id: str | None = None
    cause: str | None = None
    entity: str | None = None
    confidence: float | None = None
    provenance: str | None = None

    def __post_init__(self) -> None:
        _check_text(self.text, "text", self)
        for name in _OPTIONAL_TEXT:
            if (value := getattr(self, name)) is not None:
                _check_text(value, name, self)
        if self.track not in TRACKS:
            raise CaptionError("track", self.track, f"use one of {', '.join(TRACKS)}", self._name())
        _normalise_integer(self, "start_us")
        _normalise_integer(self, "end_us")
        if self.start_us < 0:
            raise CaptionError("start_us", self.start_us, "times start at 0", self._name())
        if self.end_us <= self.start_us:
            fix = f"it must come after start_us = {self.start_us}"
            raise CaptionError("end_us", self.end_us, fix, self._name())
        if self.confidence is not None:
            _check_confidence(self.confidence, self)

    def _name(self) -> str:
        return f"event {self.id or self.text!r:.60}" if self.text else "event"

    @classmethod
    def at(
        cls, start: float, end: float, text: str, track: Track = "sfx", **fields: Any
    ) -> "Event":
        """An event with its times in seconds."""
        times = {"start_us": us_from_seconds(start), "end_us": us_from_seconds(end)}
        return cls(track=track, text=text, **times, **fields)

    @property
    def start(self) -> float:
        """Start in seconds."""
        return seconds_from_us(self.start_us)

    @property
    def end(self) -> float:
        """End in seconds."""
        return seconds_from_us(self.end_us)

    def replace(self, **changes: Any) -> "Event":
        """A copy with some fields changed, checked again."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class TimedCaption:
    """Description of a clip: global text and events, kept ordered by start.

    Attributes:
        duration_us: Length of the clip in integer microseconds, positive.
        text: What the whole clip shows and sounds like; may be empty.
        events: The events; every one ends within the duration.
        language: Language of the texts, for example ``en``.

    Raises:
        CaptionError: A field is wrong, an event ends after the clip, two events share an ``id``,
            or a ``cause`` names no event.
    """

    duration_us: int
    text: str
    events: tuple[Event, ...] = ()
    language: str = "en"

    def __post_init__(self) -> None:
        _normalise_integer(self, "duration_us")
        if self.duration_us <= 0:
            raise CaptionError("duration_us", self.duration_us, "give the clip's length, above 0")
        _check_text(self.text, "text", self, required=False)
        _check_text(self.language, "language", self)
        try:
            events = sorted(self.events, key=operator.attrgetter("start_us", "end_us"))
        except (TypeError, AttributeError):
            raise CaptionError("events", self.events, "give a sequence of Event objects") from None
        object.__setattr__(self, "events", tuple(events))
        for index, event in enumerate(events):
            if event.end_us > self.duration_us:
                fix = f"it must be at most the caption's duration_us = {self.duration_us}"
                raise CaptionError("end_us", event.end_us, fix, f"events[{index}] {event._name()}")
        self._check_links()

    def _check_links(self) -> None:
        ids: set[str] = set()
        for index, event in enumerate(self.events):
            if event.id is not None and event.id in ids:
                raise CaptionError(
                    "id", event.id, "give every event its own id", f"events[{index}]"
                )
            if event.id is not None:
                ids.add(event.id)
        for index, event in enumerate(self.events):
            if event.cause is not None and (event.cause not in ids or event.cause == event.id):
                fix = "name the id of another event of this caption, or leave it out"
                raise CaptionError("cause", event.cause, fix, f"events[{index}] {event._name()}")

    def _name(self) -> str:
        return "caption"

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return seconds_from_us(self.duration_us)

    def replace(self, **changes: Any) -> "TimedCaption":
        """A copy with some fields changed, checked again."""
        return dataclasses.replace(self, **changes)

    def untimed(self) -> "TimedCaption":
        """The same texts with every event spanning the whole clip: what, but not when."""
        events = (event.replace(start_us=0, end_us=self.duration_us) for event in self.events)
        return self.replace(events=tuple(events))

    def shifted(self, seconds: float) -> "TimedCaption":
        """The caption of the clip with ``seconds`` put before it (cut off it, where negative)."""
        shift = us_from_seconds(seconds)
        if shift < 0:
            return self.cropped(-seconds, self.duration)
        events = (
            event.replace(start_us=event.start_us + shift, end_us=event.end_us + shift)
            for event in self.events
        )
        return self.replace(duration_us=self.duration_us + shift, events=tuple(events))

    def cropped(self, start: float, end: float) -> "TimedCaption":
        """The caption of the span ``[start, end)`` in seconds, its own time starting at zero.

        Events are cut at the borders; those outside are dropped, and links to them with them.
        The span may reach beyond the clip's end: then the caption grows longer.

        Raises:
            CaptionError: The span is empty or starts before zero.
        """
        first, last = us_from_seconds(start), us_from_seconds(end)
        if first < 0 or last <= first:
            raise CaptionError("span", (start, end), "give 0 <= start < end, in seconds")
        kept = [e for e in self.events if e.start_us < last and e.end_us > first]
        ids = {event.id for event in kept}
        events = (
            event.replace(
                start_us=max(event.start_us, first) - first,
                end_us=min(event.end_us, last) - first,
                cause=event.cause if event.cause in ids else None,
            )
            for event in kept
        )
        return self.replace(duration_us=last - first, events=tuple(events))

    def to_dict(self) -> dict[str, Any]:
        """The caption as a JSON object (schema ``avgen.caption/1``)."""
        from avgen import caption_formats

        return caption_formats.to_dict(self)

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        from avgen import caption_formats

        return caption_formats.to_json(self)

    @classmethod
    def from_json(cls, source: str | bytes | dict[str, Any]) -> "TimedCaption":
        """A caption from JSON text or from a parsed object; errors are `CaptionError`."""
        from avgen import caption_formats

        return caption_formats.from_json(source)

    def to_vtt(self) -> str:
        """WebVTT; keeps text, times to the millisecond, tracks, ids and entities."""
        from avgen import caption_formats

        return caption_formats.to_vtt(self)

    @classmethod
    def from_vtt(cls, source: str, duration: float | None = None) -> "TimedCaption":
        """A caption from WebVTT; foreign files work too (untagged cues become speech)."""
        from avgen import caption_formats

        return caption_formats.from_vtt(source, duration)

    def to_srt(self) -> str:
        """SubRip; keeps text, times to the millisecond and tracks."""
        from avgen import caption_formats

        return caption_formats.to_srt(self)

    @classmethod
    def from_srt(cls, source: str, duration: float | None = None) -> "TimedCaption":
        """A caption from SubRip; foreign files work too (untagged cues become speech)."""
        from avgen import caption_formats

        return caption_formats.from_srt(source, duration)

    @classmethod
    def open(cls, path: str | Path, duration: float | None = None) -> "TimedCaption":
        """Read a caption file by its extension: .json, .vtt, .srt, or .txt (global text only).

        Args:
            path: The file.
            duration: Length of the clip in seconds; events beyond it are cut. Needed for .txt; for
                foreign .vtt and .srt files the end of the last cue stands in for it.

        Raises:
            CaptionError: The file is missing, not text, or not a valid caption; names the file.
        """
        from avgen import caption_formats

        return caption_formats.open_file(Path(path), duration)

    def save(self, path: str | Path) -> None:
        """Write a caption file by its extension: .json, .vtt, .srt or .txt (global text only)."""
        from avgen import caption_formats

        caption_formats.save_file(self, Path(path))


def _normalise_integer(owner: Event | TimedCaption, field: str) -> None:
    value = getattr(owner, field)
    if type(value) is int:
        return
    try:
        if isinstance(value, bool):
            raise TypeError
        object.__setattr__(owner, field, operator.index(value))
    except TypeError:
        fix = "give integer microseconds (Event.at takes seconds)"
        raise CaptionError(field, value, fix, owner._name()) from None


def _check_text(
    value: Any, field: str, owner: Event | TimedCaption, *, required: bool = True
) -> None:
    fix = ""
    if not isinstance(value, str):
        fix = "give a string"
    elif required and not value.strip():
        fix = "give a non-empty string"
    elif len(value) > MAX_TEXT:
        fix = f"it has {len(value)} characters; give at most {MAX_TEXT}"
    elif _FORBIDDEN.search(value):
        fix = "remove the control characters"
    if fix:
        raise CaptionError(field, value, fix, owner._name())


def _check_confidence(value: Any, owner: Event) -> None:
    try:
        valid = not isinstance(value, bool) and 0.0 <= value <= 1.0
    except TypeError:
        valid = False
    if not valid:
        raise CaptionError("confidence", value, "give a number from 0 to 1", owner._name())
