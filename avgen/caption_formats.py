"""Timed captions as JSON (complete) and as WebVTT and SubRip (times to the millisecond).

In subtitle files the track is a prefix of the cue's text: ``[sfx] a metal clank``. Cues of foreign
files have no such prefix: those wholly in brackets (the convention for described sounds) become
``sfx``, all others ``speech``.
"""

import html
import json
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from avgen.caption import SCHEMA, TRACKS, CaptionError, Event, TimedCaption
from avgen.clock import us_from_seconds

MAX_CHARACTERS = 16_000_000
_EVENT_FIELDS = tuple(field.name for field in fields(Event))
_REQUIRED = ("start_us", "end_us", "track", "text")
_TIMING = re.compile(
    r"\s*(?:(\d+):)?(\d+):(\d+)[.,](\d{1,3})\s*-->\s*(?:(\d+):)?(\d+):(\d+)[.,](\d{1,3})"
)
_TRACK_PREFIX = re.compile(r"\[(\w+)\]\s*")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_TAG = re.compile(r"<[^>\n]*>")
_SOUND = re.compile(r"[\[(♪].*[\])♪]", re.DOTALL)
_GLOBAL = "caption"


def to_dict(caption: TimedCaption) -> dict[str, Any]:
    """The caption as a JSON object; optional fields only where set."""
    events = [
        {name: getattr(event, name) for name in _EVENT_FIELDS if getattr(event, name) is not None}
        for event in caption.events
    ]
    return {
        "schema": SCHEMA,
        "duration_us": caption.duration_us,
        "language": caption.language,
        "text": caption.text,
        "events": events,
    }


def to_json(caption: TimedCaption) -> str:
    """`to_dict` as one line of JSON."""
    return json.dumps(to_dict(caption), ensure_ascii=False)


def from_json(source: str | bytes | dict[str, Any]) -> TimedCaption:
    """A caption from JSON text or a parsed object.

    Raises:
        CaptionError: Not JSON, another schema, or a field that is missing, unknown or wrong.
    """
    data = _parse_json(source) if isinstance(source, str | bytes) else source
    if not isinstance(data, dict):
        raise CaptionError("JSON", data, f'give an object with "schema": "{SCHEMA}"')
    data = dict(data)
    if (schema := data.pop("schema", None)) != SCHEMA:
        raise CaptionError("schema", schema, f'write "schema": "{SCHEMA}"; no other is understood')
    events = data.pop("events", [])
    if not isinstance(events, list | tuple):
        raise CaptionError("events", events, "give a list of objects")
    _check_fields(data, ("duration_us", "text"), ("duration_us", "text", "language"), None)
    parsed = tuple(_event(item, f"events[{index}]") for index, item in enumerate(events))
    return TimedCaption(events=parsed, **data)


def _parse_json(source: str | bytes) -> Any:
    if len(source) > MAX_CHARACTERS:
        raise CaptionError(
            "JSON", f"{len(source)} long", f"give at most {MAX_CHARACTERS} characters"
        )
    try:
        return json.loads(source)
    except (ValueError, RecursionError) as error:
        raise CaptionError("JSON", source[:40], f"it does not parse: {error}") from None


def _event(item: Any, place: str) -> Event:
    if not isinstance(item, dict):
        raise CaptionError("event", item, "give an object", place)
    _check_fields(item, _REQUIRED, _EVENT_FIELDS, place)
    try:
        return Event(**item)
    except CaptionError as error:
        raise error.within(place) from None


def _check_fields(
    data: dict[str, Any], required: tuple[str, ...], known: tuple[str, ...], place: str | None
) -> None:
    for name in required:
        if name not in data:
            raise CaptionError(name, None, "it is required", place)
    for name in data:
        if name not in known:
            fix = f"no such field; use {', '.join(known)}"
            raise CaptionError(str(name), data[name], fix, place)


def to_vtt(caption: TimedCaption) -> str:
    """WebVTT. A NOTE carries duration, global text and language; ids and entities are kept."""
    header = {
        "duration_us": caption.duration_us,
        "text": caption.text,
        "language": caption.language,
    }
    note = json.dumps(header, ensure_ascii=False).replace(">", "\\u003e")
    blocks = [f"WEBVTT\n\nNOTE {SCHEMA} {note}\n"]
    for event in caption.events:
        voice = f"<v {_escape(event.entity)}>" if event.entity else ""
        name = f"{_one_line(event.id)}\n" if event.id else ""
        start, end = _stamps(event, ".")
        blocks.append(f"{name}{start} --> {end}\n{voice}[{event.track}] {_escape(event.text)}\n")
    return "\n".join(blocks)


def to_srt(caption: TimedCaption) -> str:
    """SubRip. The global text is a first cue, ``[caption] ...``, as long as the clip."""
    whole = Event(start_us=0, end_us=caption.duration_us, track="visual", text=caption.text or "-")
    cues = [(whole, _GLOBAL, caption.text)]
    cues += [(event, event.track, event.text) for event in caption.events]
    blocks = []
    for number, (event, track, text) in enumerate(cues, start=1):
        start, end = _stamps(event, ",")
        blocks.append(f"{number}\n{start} --> {end}\n[{track}] {_no_blank_lines(text)}\n")
    return "\n".join(blocks)


def from_vtt(source: str, duration: float | None = None) -> TimedCaption:
    """A caption from WebVTT; without our NOTE, the duration is the given one or the last cue's end.

    Raises:
        CaptionError: The header is missing, or a cue has no text, no valid times, or an empty span.
    """
    if not source.lstrip("\ufeff").startswith("WEBVTT"):
        raise CaptionError("WebVTT", source[:20], "the file must start with WEBVTT")
    header: dict[str, Any] = {}
    match = re.search(rf"^NOTE {re.escape(SCHEMA)} (\{{.*\}})$", _lines(source), re.MULTILINE)
    if match:
        header = _parse_json(match[1])
        _check_fields(header, ("duration_us", "text"), ("duration_us", "text", "language"), "NOTE")
    return _assemble(list(_cues(source, markup=True)), header, duration)


def from_srt(source: str, duration: float | None = None) -> TimedCaption:
    """A caption from SubRip; a ``[caption]`` cue carries duration and global text.

    Raises:
        CaptionError: A cue has no text, no valid times, or an empty span.
    """
    header: dict[str, Any] = {}
    events = []
    for span, track, text, fields_ in _cues(source, markup=False):
        if track == _GLOBAL:
            header = {"duration_us": span[1], "text": text}
        else:
            events.append((span, track, text, fields_))
    return _assemble(events, header, duration)


_Cue = tuple[tuple[int, int], str, str, dict[str, str]]


def _assemble(cues: list[_Cue], header: dict[str, Any], duration: float | None) -> TimedCaption:
    last = max((span[1] for span, *_ in cues), default=0)
    full = us_from_seconds(duration) if duration is not None else header.get("duration_us", last)
    if not isinstance(full, int) or full <= 0:
        fix = "the file has no cue to take it from: give duration in seconds"
        raise CaptionError("duration_us", full, fix)
    events = []
    for index, ((start, end), track, text, fields_) in enumerate(cues):
        if full <= start < end:
            continue
        cut = {"start_us": start, "end_us": min(end, full), "track": track, "text": text}
        events.append(_event(cut | fields_, f"cue {index + 1}"))
    rest = {"text": header.get("text", ""), "language": header.get("language", "en")}
    return TimedCaption(duration_us=full, events=tuple(events), **rest)


def _cues(source: str, *, markup: bool) -> Iterator[_Cue]:
    for block in re.split(r"\n(?:[ \t]*\n)+", _lines(source)):
        lines = block.strip("\n").split("\n")
        if lines[0].split(" ")[0] in ("WEBVTT", "NOTE", "STYLE", "REGION") and markup:
            continue
        index = next((i for i, line in enumerate(lines[:2]) if "-->" in line), None)
        if index is None:
            if any(line.strip() for line in lines):
                fix = "a cue needs a line like 00:00:01.000 --> 00:00:02.000"
                raise CaptionError("cue", lines[0], fix)
            continue
        name = lines[0].strip() if index == 1 and markup else ""
        text = "\n".join(lines[index + 1 :]).strip()
        if not text:
            continue
        yield _cue(lines[index], text, {"id": name} if name else {}, markup=markup)


def _cue(timing: str, text: str, found: dict[str, str], *, markup: bool) -> _Cue:
    match = _TIMING.match(timing)
    if not match:
        raise CaptionError("times", timing, "write 00:00:01.000 --> 00:00:02.000")
    span = _microseconds(*match.groups()[:4]), _microseconds(*match.groups()[4:])
    if markup:
        if voice := _VOICE.search(text):
            found["entity"] = html.unescape(voice[1]).strip()
        text = html.unescape(_TAG.sub("", text))
    prefix = _TRACK_PREFIX.match(text)
    if prefix and prefix[1] in (*TRACKS, _GLOBAL):
        return span, prefix[1], text[prefix.end() :], found
    text = _TAG.sub("", text).strip()
    return span, "sfx" if _SOUND.fullmatch(text) else "speech", text, found


def _microseconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> int:
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole * 1_000_000 + int(fraction.ljust(3, "0")) * 1000


def _stamps(event: Event, point: str) -> tuple[str, str]:
    start, end = event.start_us // 1000, -(-event.end_us // 1000)
    return _stamp(start, point), _stamp(end, point)


def _stamp(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def _lines(text: str) -> str:
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _no_blank_lines(text: str) -> str:
    return re.sub(r"\n\s*\n", "\n", text.strip())


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("-->", "->")


def _escape(text: str) -> str:
    return html.escape(_no_blank_lines(text), quote=False)


def open_file(path: Path, duration: float | None) -> TimedCaption:
    """See `TimedCaption.open`."""
    try:
        caption = _read(path, duration)
    except CaptionError as error:
        raise error.within(str(path)) from None
    if duration is not None and path.suffix.lower() == ".json":
        return caption.cropped(0, duration)
    return caption


def _read(path: Path, duration: float | None) -> TimedCaption:
    readers = {".vtt": from_vtt, ".srt": from_srt, ".txt": _from_txt}
    suffix = path.suffix.lower()
    if suffix not in (*readers, ".json"):
        raise CaptionError("extension", path.suffix, "use .json, .vtt, .srt or .txt")
    try:
        if path.stat().st_size > MAX_CHARACTERS:
            raise CaptionError("size", path.stat().st_size, f"at most {MAX_CHARACTERS} bytes")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CaptionError("file", error.strerror, "give a readable caption file") from None
    except UnicodeDecodeError as error:
        raise CaptionError("file", error.reason, "save it as UTF-8 text") from None
    return from_json(text) if suffix == ".json" else readers[suffix](text, duration)


def _from_txt(source: str, duration: float | None) -> TimedCaption:
    if duration is None:
        raise CaptionError(
            "duration", None, "a .txt caption has no times: give duration in seconds"
        )
    return TimedCaption(duration_us=us_from_seconds(duration), text=_lines(source).strip())


def save_file(caption: TimedCaption, path: Path) -> None:
    """See `TimedCaption.save`; the file appears complete or not at all."""
    writers = {".json": _indented, ".vtt": to_vtt, ".srt": to_srt, ".txt": lambda c: c.text + "\n"}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise CaptionError("extension", path.suffix, f"use one of {', '.join(writers)}", str(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(writer(caption), encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _indented(caption: TimedCaption) -> str:
    return json.dumps(to_dict(caption), ensure_ascii=False, indent=2) + "\n"
