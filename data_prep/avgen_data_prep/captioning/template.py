"""Captions without a model: only what was measured, in neutral words."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from avgen_data_prep.captioning.captioner import (
    CaptionDraft,
    Captioner,
    CaptionRequest,
    DraftEvent,
)
from avgen_data_prep.captioning.intervals import Interval

_MOST_STEPS = 16
_FEW = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
_NAMES = {
    "onset": ("sudden sound", "sudden sounds"),
    "motion": ("sudden movement", "sudden movements"),
    "words": ("spoken passage", "spoken passages"),
    "sound": ("lasting sound", "lasting sounds"),
}
_KNOWN = {"speech": "someone speaks", "music": "music plays"}
_STEPS = {"speech": "someone speaking", "music": "music playing"}
_FIRST = ("First", "It begins with", "At the start there is")
_THEN = ("then", "followed by", "next")


@dataclass(frozen=True, kw_only=True)
class TemplateCaptioner(Captioner):
    """Says what the detectors measured: colours, brightness, movement, kinds of sounds, words spoken.

    Attributes:
        paraphrases: Further wordings of the full text, drawn by the clip's id.
    """

    paraphrases: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.paraphrases <= 8:
            raise ValueError(f"paraphrases is {self.paraphrases}; give 0 to 8")

    @property
    def name(self) -> str:
        """``template``."""
        return "template"

    def describe(self, request: CaptionRequest) -> CaptionDraft:
        """See `Captioner.describe`."""
        rng = random.Random(hashlib.sha256(request.id.encode()).digest())
        fulls = [_full(request, rng) for _ in range(1 + self.paraphrases)]
        return CaptionDraft(
            short=_sentence(_streams(request)),
            medium=f"{_sentence(_streams(request))} {_counted(request)}".strip(),
            full=fulls[0],
            paraphrases=tuple(dict.fromkeys(text for text in fulls[1:] if text != fulls[0])),
            events=tuple(DraftEvent(interval=i.id, text=event_text(i)) for i in request.intervals),
            absent=request.absent(),
        )


def event_text(interval: Interval) -> str:
    """What an interval's measurement says: a noun phrase, or the words spoken."""
    if interval.kind in ("words", "shot", "motion"):
        return interval.hint
    if interval.track in _KNOWN:
        return _KNOWN[interval.track]
    return f"{'an' if interval.hint[0] in 'aeiou' else 'a'} {interval.hint}"


def _streams(request: CaptionRequest) -> str:
    seen, heard = request.clip.frames is not None, request.presence()["sound"]
    return (
        "a video with sound"
        if seen and heard
        else "a silent video"
        if seen
        else "a sound recording"
    )


def _counted(request: CaptionRequest) -> str:
    """How the first shot looks, and how many events of each kind there are."""
    shots = [interval for interval in request.intervals if interval.kind == "shot"]
    look = _sentence(shots[0].hint) if shots else ""
    return f"{look} {_numbers(request)}".strip()


def _numbers(request: CaptionRequest) -> str:
    counts = Counter(interval.kind for interval in request.intervals)
    told = [
        f"{_FEW.get(counts[kind], counts[kind])} {names[counts[kind] > 1]}"
        for kind, names in _NAMES.items()
        if counts[kind]
    ]
    verb = "is" if told and told[0].startswith("one ") else "are"
    return f"There {verb} {_listing(told)}." if told else ""


def _full(request: CaptionRequest, rng: random.Random) -> str:
    """Streams, shots and what happens in order, in one of several wordings."""
    parts = [_sentence(_streams(request))]
    shots = [interval for interval in request.intervals if interval.kind == "shot"]
    for number, shot in enumerate(shots, start=1):
        lead = f"shot {number} of {len(shots)}: " if len(shots) > 1 else ""
        parts.append(_sentence(f"{lead}{shot.hint}"))
    steps = [_step(interval) for interval in request.intervals if interval.kind != "shot"]
    if 0 < len(steps) <= _MOST_STEPS:
        first, then = rng.choice(_FIRST), rng.choice(_THEN)
        chain = f", {then} ".join(steps)
        parts.append(f"{first}{',' if first == 'First' else ''} {chain}.")
    elif steps:
        parts.append(_numbers(request))
    return " ".join(parts)


def _step(interval: Interval) -> str:
    if interval.kind == "words":
        return 'the words "{}"'.format(interval.hint.replace('"', "'"))
    if interval.kind == "sound" and interval.track in _STEPS:
        return _STEPS[interval.track]
    return event_text(interval)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _listing(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
