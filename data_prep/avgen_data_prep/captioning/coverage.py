"""How much of what was measured in a clip its caption accounts for; the protocol as a number."""

from dataclasses import dataclass

from avgen.caption import TimedCaption
from avgen_data_prep.captioning import wording
from avgen_data_prep.captioning.captioner import CaptionRequest
from avgen_data_prep.captioning.intervals import SOUND_TRACKS, Interval

SLACK_US = 100_000
_SEEN_TRACKS = ("visual", "camera", "action")


@dataclass(frozen=True)
class Coverage:
    """The result of `coverage`.

    Attributes:
        score: Mean, over the rules that apply, of the share of cases that keep them; in [0, 1].
        missing: Each case that does not, in words.
    """

    score: float
    missing: tuple[str, ...]


def coverage(caption: TimedCaption, request: CaptionRequest) -> Coverage:
    """Hold a caption against a clip's intervals.

    The rules: each shot has an event that is seen in it; each sudden sound an event that begins
    within 100 ms of it, or speech or music around it; each lasting sound an event that is heard
    during it; each utterance a speech event with its words, verbatim; each measured absence is
    stated in the text of the whole; there is such a text, and no text tells times.
    """
    rules: dict[str, list[str]] = {}
    for interval in request.intervals:
        problem = _unexplained(interval, caption)
        if problem is not None:
            rules.setdefault(interval.kind, []).append(problem)
    rules["absence"] = [
        "" if wording.states_absence(caption.text, what) else f"the text does not say: no {what}"
        for what in request.absent()
    ]
    texts = [("the text of the whole", caption.text)]
    spoken = [quote.hint for quote in request.intervals if quote.kind == "words"]
    texts += [(f"event {e.id or e.start}", e.text) for e in caption.events if e.text not in spoken]
    rules["text"] = [_timed(name, text) for name, text in texts]
    if not caption.text.strip():
        rules["text"].append("there is no text of the whole")
    shares = [sum(not case for case in cases) / len(cases) for cases in rules.values() if cases]
    missing = tuple(case for cases in rules.values() for case in cases if case)
    return Coverage(round(sum(shares) / len(shares), 4), missing)


def _unexplained(interval: Interval, caption: TimedCaption) -> str | None:
    """What is missing for an interval, empty if nothing is; None where nothing needs to be said."""
    span = f"{interval.id} at {interval.start_us / 1e6:.2f} s"
    meeting = [e for e in caption.events if interval.overlaps(e.start_us, e.end_us, SLACK_US)]
    if interval.kind == "shot":
        found = any(e.track in _SEEN_TRACKS for e in meeting)
        return "" if found else f"shot {span}: no event tells what is seen"
    if interval.kind == "words":
        told = " ".join(e.text for e in meeting if e.track == "speech")
        quoted = wording.holds(told, interval.hint)
        return "" if quoted else f"words {span}: no speech event quotes {interval.hint!r:.80}"
    if interval.kind == "onset":
        near = [e for e in meeting if abs(e.start_us - interval.start_us) <= SLACK_US]
        found = any(e.track in SOUND_TRACKS for e in near)
        found |= any(e.track in ("speech", "music") for e in meeting)
        return "" if found else f"onset {span}: no event tells what is heard"
    if interval.kind == "sound":
        found = any(e.track in SOUND_TRACKS for e in meeting)
        return "" if found else f"sound {span}: no event tells what is heard"
    return None


def _timed(name: str, text: str) -> str:
    found = wording.times_in(text)
    return f"{name} tells a time ({found!r}); times belong to events" if found else ""
