"""From a draft to captions: the measured times are joined to the words here, and nowhere else."""

from dataclasses import dataclass

from avgen.caption import Event, TimedCaption
from avgen_data_prep.captioning import wording
from avgen_data_prep.captioning.captioner import CaptionDraft, CaptionRequest, DraftEvent
from avgen_data_prep.captioning.intervals import SOUND_TRACKS, Interval

_OFF_SCREEN = ("off screen", "off-screen", "offscreen", "out of sight", "out of view", "unseen")


@dataclass(frozen=True)
class Wording:
    """A caption and which of a clip's wordings it is: ``full``, ``medium``, ``short``, ``paraphrase``."""

    kind: str
    caption: TimedCaption


def compose(draft: CaptionDraft, request: CaptionRequest, provenance: str) -> list[Wording]:
    """The captions of a draft, ``full`` first; all have the same events, and no two the same text."""
    events = tuple(
        _event(event, interval, provenance)
        for event in draft.events
        if (interval := request.interval(event.interval)) is not None
    )
    texts = [("full", draft.full), ("medium", draft.medium), ("short", draft.short)]
    texts += [("paraphrase", text) for text in draft.paraphrases]
    found: dict[str, Wording] = {}
    for kind, text in texts:
        if not text.strip():
            continue
        told = text if kind == "short" else wording.with_absences(text, draft.absent)
        caption = TimedCaption(duration_us=request.duration_us, text=told, events=events)
        found.setdefault(told, Wording(kind, caption))
    silent = TimedCaption(duration_us=request.duration_us, text="", events=events)
    return list(found.values()) or [Wording("full", silent)]


def _event(event: DraftEvent, interval: Interval, provenance: str) -> Event:
    return Event(
        id=interval.id,
        start_us=interval.start_us,
        end_us=interval.end_us,
        track=interval.track,
        text=_text(event, interval),
        cause=event.cause,
        entity=event.entity or None,
        confidence=round(interval.strength, 3),
        provenance=provenance,
    )


def _text(event: DraftEvent, interval: Interval) -> str:
    """The event's text; of a sound whose source is not in the picture, with a word on that."""
    unseen = event.onscreen is False and interval.track in SOUND_TRACKS
    if not unseen or any(phrase in event.text.lower() for phrase in _OFF_SCREEN):
        return event.text
    if interval.kind == "words" and wording.plain(event.text) == wording.plain(interval.hint):
        return f'off screen: "{event.text}"'
    return f"{event.text}, off screen"
