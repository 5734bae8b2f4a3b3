"""Candidate intervals of a clip: when something happens, as measured. Nothing later moves or adds one."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from avgen.caption import Track
from avgen.clip import Clip
from avgen_data_prep.captioning import measured
from avgen_data_prep.proposals import propose_events

Kind = Literal["shot", "motion", "onset", "sound", "words"]
SOUND_TRACKS = ("speech", "music", "sfx", "ambience")
MOST_INTERVALS = 64
_PAUSE_US = 600_000
_SHORTEST_SHOT_US = 80_000
_SHORTEST_SOUND_US = 1_000_000
_STEP_US = 50_000
_GAP_STEPS = 4
_SLACK_US = 50_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A stretch of a clip in which a detector found something.

    Attributes:
        id: Name within the clip: ``e1``, ``e2`` and so on by start.
        kind: ``shot``, ``motion`` (a sudden movement), ``onset`` (a sudden sound), ``sound`` (a
            lasting one), ``words`` (spoken without a pause).
        track: Of the event it becomes.
        start_us: Start in integer microseconds from the clip's.
        end_us: End, after the start.
        strength: How far it stands out of its surroundings, in [0, 1].
        hint: What was measured, in words; of ``words`` what was said, verbatim.
    """

    id: str
    kind: Kind
    track: Track
    start_us: int
    end_us: int
    strength: float
    hint: str

    def overlaps(self, start_us: int, end_us: int, slack_us: int = 0) -> bool:
        """Whether the interval and the half-open span share a moment, or nearly."""
        return self.start_us < end_us + slack_us and start_us - slack_us < self.end_us


@dataclass(frozen=True)
class Span:
    """Words, or how something sounds, and when, in microseconds of the clip."""

    start_us: int
    end_us: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What earlier stages found in a clip.

    Attributes:
        shots: Boundaries between shots inside the clip, in microseconds of the clip.
        words: Spoken words; None where nobody listened for them.
        speech: Whether somebody speaks; None where nothing tells.
        music: Whether there is music; None where nothing tells.
    """

    shots: tuple[int, ...] = ()
    words: tuple[Span, ...] | None = None
    speech: bool | None = None
    music: bool | None = None


def propose(clip: Clip, duration_us: int, marks: Marks) -> tuple[tuple[Interval, ...], int]:
    """Candidate intervals of a clip in order of start, and how many weaker ones were left out."""
    found: list[dict[str, Any]] = []
    if clip.frames is not None:
        found += _shots(clip, duration_us, marks.shots)
    spoken = _utterances(marks.words or ())
    found += [_of(s, "words", "speech", 1.0, s.text) for s in spoken]
    track = _lasting_track(marks)
    lasting = _lasting(clip, duration_us) if clip.waveform is not None else []
    found += [_of(s, "sound", track, 0.5, s.text) for s in lasting if not _inside(s, spoken)]
    found += _sudden(clip, [*spoken, *(lasting if track != "ambience" else ())])
    return _chosen(found, duration_us)


def _lasting_track(marks: Marks) -> Track:
    """What lasting sounds are taken for: speech nobody wrote down, music, or else ambience."""
    if marks.speech and marks.words is None:
        return "speech"
    return "music" if marks.music else "ambience"


def _chosen(found: list[dict[str, Any]], duration_us: int) -> tuple[tuple[Interval, ...], int]:
    """The strongest, cut to the clip, in order and named."""
    for item in found:
        item["start_us"], item["end_us"] = (
            max(0, item["start_us"]),
            min(item["end_us"], duration_us),
        )
    found = [item for item in found if item["start_us"] < item["end_us"]]
    strongest = sorted(found, key=lambda item: (-item["strength"], item["start_us"], item["track"]))
    kept = sorted(
        strongest[:MOST_INTERVALS],
        key=lambda item: (item["start_us"], item["end_us"], item["track"], item["hint"]),
    )
    intervals = tuple(Interval(id=f"e{n}", **item) for n, item in enumerate(kept, start=1))
    return intervals, len(found) - len(kept)


def _of(span: Span, kind: Kind, track: Track, strength: float, hint: str) -> dict[str, Any]:
    times = {"start_us": span.start_us, "end_us": span.end_us}
    return {"kind": kind, "track": track, "strength": strength, "hint": hint, **times}


def _shots(clip: Clip, duration_us: int, boundaries: Sequence[int]) -> list[dict[str, Any]]:
    """Shots of the clip; slivers at its ends belong to their neighbours."""
    near, far = _SHORTEST_SHOT_US, duration_us - _SHORTEST_SHOT_US
    edges = [0, *(us for us in sorted(set(boundaries)) if near <= us <= far), duration_us]
    spans = [Span(a, b, "") for a, b in itertools.pairwise(edges)]
    return [
        _of(s, "shot", "visual", 1.0, measured.picture_words(clip, s.start_us, s.end_us))
        for s in spans
    ]


def _utterances(words: Sequence[Span]) -> list[Span]:
    """Words joined where no pause parts them."""
    joined: list[Span] = []
    for word in sorted(words, key=lambda word: (word.start_us, word.end_us)):
        if joined and word.start_us - joined[-1].end_us < _PAUSE_US:
            last = joined.pop()
            end = max(last.end_us, word.end_us)
            word = Span(last.start_us, end, f"{last.text} {word.text.strip()}")
        joined.append(Span(word.start_us, word.end_us, word.text.strip()))
    return joined


def _sudden(clip: Clip, explained: Sequence[Span]) -> list[dict[str, Any]]:
    """Onsets and sudden movements; onsets within speech or music belong to those."""
    found = []
    for event in propose_events(clip):
        start, end, strength = event.start_us, event.end_us, event.confidence or 0.0
        if event.track == "visual":
            where = measured.place(clip, start, end)
            hint = f"a sudden movement {where}".strip()
            found.append(_of(Span(start, end, ""), "motion", "visual", strength, hint))
        else:
            sound = f"{measured.sound_words(clip, start, end)} sound".strip()
            item = _of(Span(start, end, ""), "onset", "sfx", strength, sound)
            if not any(s.start_us - _SLACK_US <= start < s.end_us + _SLACK_US for s in explained):
                found.append(item)
    return found


def _lasting(clip: Clip, duration_us: int) -> list[Span]:
    """Stretches of a second and more in which it is never silent for long, with how they sound."""
    starts = range(0, duration_us, _STEP_US)
    levels = [measured.level_db(clip, us, min(us + _STEP_US, duration_us)) for us in starts]
    heard = np.flatnonzero(np.array(levels) > measured.SILENCE_DB)
    if not heard.size:
        return []
    parts = np.split(heard, np.flatnonzero(np.diff(heard) > _GAP_STEPS) + 1)
    spans = [(int(p[0]) * _STEP_US, (int(p[-1]) + 1) * _STEP_US) for p in parts]
    return [
        Span(start, end, " ".join(f"lasting {_lasting_words(clip, start, end)} sound".split()))
        for start, end in spans
        if end - start >= _SHORTEST_SOUND_US
    ]


def _lasting_words(clip: Clip, start_us: int, end_us: int) -> str:
    return measured.sound_words(clip, start_us, end_us, lasting=True)


def _inside(span: Span, others: Sequence[Span]) -> bool:
    return any(
        o.start_us - _PAUSE_US <= span.start_us and span.end_us <= o.end_us + _PAUSE_US
        for o in others
    )
