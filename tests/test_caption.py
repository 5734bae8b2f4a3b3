import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avgen.caption import SCHEMA, TRACKS, CaptionError, Event, TimedCaption

DURATION = 10_000_000
quick = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1
)
texts = st.lists(st.lists(words, min_size=1).map(" ".join), min_size=1, max_size=3).map("\n".join)


@st.composite
def events(draw: st.DrawFn, *, step: int = 1) -> Event:
    start = draw(st.integers(0, DURATION // step - 2))
    end = draw(st.integers(start + 1, DURATION // step))
    return Event(
        start_us=start * step,
        end_us=end * step,
        track=draw(st.sampled_from(TRACKS)),  # type: ignore[arg-type]
        text=draw(texts),
        entity=draw(st.none() | words),
        confidence=draw(st.none() | st.floats(0, 1)),
    )


def captions(step: int = 1) -> st.SearchStrategy[TimedCaption]:
    return st.builds(
        TimedCaption,
        duration_us=st.just(DURATION),
        text=st.just("") | texts,
        events=st.lists(events(step=step), max_size=5).map(tuple),
        language=st.sampled_from(["en", "de"]),
    )


def example(**changes: Any) -> TimedCaption:
    ball = Event.at(0.4, 0.5, "the red ball hits the floor", "visual", id="hit", entity="ball")
    clank = Event.at(0.41, 0.6, "a clank", cause="hit", confidence=0.9, provenance="onsets")
    fields = {"duration_us": 2_000_000, "text": "a red ball", "events": (clank, ball)}
    return TimedCaption(**(fields | changes))


@quick
@given(captions())
def test_json_round_trip_is_exact(caption: TimedCaption) -> None:
    assert TimedCaption.from_json(caption.to_json()) == caption
    assert TimedCaption.from_json(caption.to_json().encode()) == caption
    assert TimedCaption.from_json(json.loads(caption.to_json())) == caption
    assert TimedCaption.from_json(caption.to_dict()) == caption


def bare(caption: TimedCaption, *kept: str) -> TimedCaption:
    """The caption with only the fields that a subtitle file keeps."""
    names = [n for n in ("id", "cause", "entity", "confidence", "provenance") if n not in kept]
    changes = dict.fromkeys(names)
    return caption.replace(events=tuple(event.replace(**changes) for event in caption.events))


@quick
@given(captions(step=1000))
def test_subtitles_round_trip_to_the_millisecond(caption: TimedCaption) -> None:
    assert TimedCaption.from_vtt(caption.to_vtt()) == bare(caption, "entity")
    assert TimedCaption.from_srt(caption.to_srt()) == bare(caption).replace(language="en")


@quick
@given(captions())
def test_subtitles_round_within_a_millisecond(caption: TimedCaption) -> None:
    for back in (TimedCaption.from_vtt(caption.to_vtt()), TimedCaption.from_srt(caption.to_srt())):
        assert len(back.events) == len(caption.events)
        assert sorted(e.text for e in back.events) == sorted(e.text for e in caption.events)
        starts = [sorted(e.start_us for e in c.events) for c in (back, caption)]
        ends = [sorted(e.end_us for e in c.events) for c in (back, caption)]
        for ours, theirs in zip(*starts, strict=True):
            assert 0 <= theirs - ours < 1000
        for ours, theirs in zip(*ends, strict=True):
            assert 0 <= ours - theirs < 1000


@pytest.mark.parametrize("suffix", ["json", "vtt", "srt", "txt"])
def test_files_by_extension(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"caption.{suffix}"
    example().save(path)
    back = TimedCaption.open(path, duration=2.0)
    assert (back.duration_us, back.text) == (2_000_000, "a red ball")
    assert len(back.events) == (0 if suffix == "txt" else 2)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if suffix != "txt":
        shorter = TimedCaption.open(path, duration=0.45)
        assert [event.end_us for event in shorter.events] == [450_000, 450_000]


def test_foreign_subtitles() -> None:
    vtt = (
        "\ufeffWEBVTT - a title\r\n\r\nSTYLE\r\n::cue { color: red }\r\n\r\n"
        "intro\r\n00:01.000 --> 00:02.500 align:start\r\n"
        "<v.loud Mary>Hello <b>there</b> &amp; you\r\n\r\n"
        "01:00:00.000 --> 01:00:01.000\r\n[door slams]\r\n"
    )
    caption = TimedCaption.from_vtt(vtt)
    assert caption.duration_us == 3_601_000_000
    hello, door = caption.events
    assert (hello.text, hello.track, hello.entity, hello.id) == (
        "Hello there & you",
        "speech",
        "Mary",
        "intro",
    )
    assert (door.text, door.track) == ("[door slams]", "sfx")
    srt = "1\n00:00:00,5 --> 00:00:01,000\n<i>Hi\nall</i>\n \n2\n00:00:03,000 --> 00:00:04,000\n\n"
    (hi,) = TimedCaption.from_srt(srt).events
    assert (hi.start_us, hi.text, hi.track) == (500_000, "Hi\nall", "speech")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"start_us": 0.5}, ["start_us", "0.5", "integer microseconds"]),
        ({"start_us": True}, ["start_us", "True"]),
        ({"start_us": -1}, ["start_us", "-1", "0"]),
        ({"end_us": 100}, ["end_us", "100", "after start_us = 100"]),
        ({"track": "sound"}, ["track", "'sound'", "sfx"]),
        ({"text": " "}, ["text", "non-empty"]),
        ({"text": 3}, ["text", "3", "string"]),
        ({"text": "a\0b"}, ["text", "control"]),
        ({"text": "a\ud800"}, ["text", "control"]),
        ({"text": "x" * 200_000}, ["text", "200000", "100000"]),
        ({"entity": ""}, ["entity", "non-empty"]),
        ({"confidence": 1.5}, ["confidence", "1.5", "0 to 1"]),
        ({"confidence": float("nan")}, ["confidence", "nan"]),
        ({"confidence": "high"}, ["confidence", "high"]),
        ({"colour": "red"}, ["colour", "no such field", "entity"]),
        ({"end_us": 9_999_999}, ["end_us", "9999999", "2000000"]),
        ({"cause": "nobody"}, ["cause", "nobody", "id of another event"]),
        ({"cause": "me", "id": "me"}, ["cause", "me"]),
        ({"id": "twin"}, ["id", "twin", "own id"]),
    ],
)
def test_errors_name_event_field_value_and_fix(fields: dict[str, Any], says: list[str]) -> None:
    event = {"start_us": 100, "end_us": 200, "track": "sfx", "text": "bang"} | fields
    twin = {"start_us": 0, "end_us": 50, "track": "sfx", "text": "first", "id": "twin"}
    data = {"schema": SCHEMA, "duration_us": 2_000_000, "text": "x", "events": [twin, event]}
    with pytest.raises(CaptionError) as caught:
        TimedCaption.from_json(data)
    assert "events[1]" in str(caught.value)
    assert all(part in str(caught.value) for part in says), str(caught.value)
    assert caught.value.field == next(iter(fields))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "does not parse"),
        ("[" * 100_000, "does not parse"),
        ("[]", "object"),
        ('{"duration_us": 5, "text": "x"}', SCHEMA),
        (
            json.dumps({"schema": "avgen.caption/9", "duration_us": 5, "text": ""}),
            "avgen.caption/9",
        ),
        (json.dumps({"schema": SCHEMA, "text": ""}), "duration_us"),
        (json.dumps({"schema": SCHEMA, "duration_us": 0, "text": ""}), "above 0"),
        (json.dumps({"schema": SCHEMA, "duration_us": 5, "text": "", "events": "a"}), "list"),
        (
            json.dumps({"schema": SCHEMA, "duration_us": 5, "text": "", "events": [3]}),
            r"events\[0\]",
        ),
        (
            json.dumps({"schema": SCHEMA, "duration_us": 5, "text": "", "event": []}),
            "no such field",
        ),
    ],
)
def test_bad_json_is_refused(source: str, says: str) -> None:
    with pytest.raises(CaptionError, match=says):
        TimedCaption.from_json(source)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.vtt", "00:01.000 --> 00:02.000\nhi", "must start with WEBVTT"),
        ("a.vtt", "WEBVTT\n\nno times here\nat all", "a cue needs a line like"),
        ("a.vtt", "WEBVTT\n\n00:02.000 --> 00:01.000\nhi", "cue 1.*end_us"),
        ("a.srt", "1\n00:00:01 --> 00:00:02\nhi", "write 00:00:01.000"),
        ("a.srt", "", "give duration"),
        ("a.txt", "hello", "give duration"),
        ("a.doc", "hello", "use .json, .vtt, .srt or .txt"),
        ("a.json", "{", "does not parse"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(CaptionError, match=rf"{name}.*{says}"):
        TimedCaption.open(path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CaptionError, match=r"missing\.json.*No such file"):
        TimedCaption.open(tmp_path / "missing.json")
    latin = tmp_path / "latin.srt"
    latin.write_bytes("1\n00:00:00,000 --> 00:00:01,000\ncaf\xe9\n".encode("latin-1"))
    with pytest.raises(CaptionError, match=r"latin\.srt.*UTF-8"):
        TimedCaption.open(latin)
    with pytest.raises(CaptionError, match="extension"):
        example().save(tmp_path / "a.doc")


def test_events_are_ordered_and_integers_normalised() -> None:
    caption = example()
    assert [event.start_us for event in caption.events] == [400_000, 410_000]
    numpy = pytest.importorskip("numpy")
    event = Event(start_us=numpy.int64(1), end_us=numpy.int32(2), track="sfx", text="x")
    assert type(event.start_us) is int
    assert event.start == 1e-6


def test_untimed_keeps_the_words_and_drops_the_when() -> None:
    untimed = example().untimed()
    assert {(event.start_us, event.end_us) for event in untimed.events} == {(0, 2_000_000)}
    assert [e.text for e in untimed.events] == [e.text for e in example().events]


@quick
@given(captions(), st.floats(0.001, 5))
def test_shifting_there_and_back_changes_nothing(caption: TimedCaption, seconds: float) -> None:
    shifted = caption.shifted(seconds)
    assert shifted.shifted(-seconds).duration_us == caption.duration_us
    assert shifted.shifted(-seconds).events == caption.events
    assert shifted.duration_us > caption.duration_us


@quick
@given(captions(), st.floats(0, 9), st.floats(0.01, 4))
def test_cropping_keeps_what_overlaps(caption: TimedCaption, start: float, length: float) -> None:
    part = caption.cropped(start, start + length)
    a = round(start * 1e6)
    b = a + part.duration_us
    expected = [e for e in caption.events if e.start_us < b and e.end_us > a]
    assert len(part.events) == len(expected)
    inside = [e for e in expected if e.start_us >= a and e.end_us <= b]
    kept = {(e.start_us, e.end_us, e.text) for e in part.events}
    assert {(e.start_us - a, e.end_us - a, e.text) for e in inside} <= kept


def test_cropping_drops_links_to_dropped_events() -> None:
    (clank,) = example().cropped(0.55, 1.0).events
    assert clank.cause is None
    assert [e.cause for e in example().cropped(0.0, 1.0).events] == [None, "hit"]
    with pytest.raises(CaptionError, match="span"):
        example().cropped(1.0, 1.0)
