"""The second pass: what a draft says is held against what was measured, and the measurement wins.

Every change leaves a note with its reason.
"""

from dataclasses import replace

from avgen_data_prep.captioning import measured, wording
from avgen_data_prep.captioning.captioner import CaptionDraft, CaptionRequest, DraftEvent
from avgen_data_prep.captioning.intervals import SOUND_TRACKS
from avgen_data_prep.captioning.template import event_text

# A picture shows an impact up to two frames after its sound begins.
_CAUSE_SLACK_US = 80_000


def verify(draft: CaptionDraft, request: CaptionRequest) -> tuple[CaptionDraft, list[str]]:
    """The draft without what contradicts the clip, and a note for everything that was changed.

    - an event of an interval that was not asked about, or that has an event already, is dropped;
    - a sound is dropped where the clip is silent, a sudden movement where the picture stands still;
    - speech keeps the words that were heard;
    - no text quotes words that were not: of an event it becomes what was measured, of the whole it goes;
    - a link to no event, to a later one, or around in a circle is dropped;
    - an absence of what was heard is dropped.
    """
    notes: list[str] = []
    events: dict[str, DraftEvent] = {}
    for event in draft.events:
        if reason := _objection(event, request, events):
            notes.append(f"dropped {event.interval} {event.text!r:.80}: {reason}")
        else:
            events[event.interval] = _as_heard(event, request, notes)
    linked = tuple(_linked(event, events, request, notes) for event in events.values())
    checked = replace(draft, events=linked, absent=_absent(draft, request, notes))
    return _quoted(checked, request, notes), notes


def _objection(event: DraftEvent, request: CaptionRequest, kept: dict[str, DraftEvent]) -> str:
    """Why an event cannot stay; empty where it can."""
    interval = request.interval(event.interval)
    if interval is None:
        return "no such interval was measured"
    if event.interval in kept:
        return "the interval has an event already"
    if not event.text:
        return "it has no text"
    span = interval.start_us, interval.end_us
    if interval.track in SOUND_TRACKS:
        level = measured.level_db(request.clip, *span)
        if level <= measured.SILENCE_DB:
            return f"the clip is silent there ({level:.0f} dB)"
    elif interval.kind == "motion" and measured.change(request.clip, *span) == 0:
        return "the picture stands still there"
    return ""


def _as_heard(event: DraftEvent, request: CaptionRequest, notes: list[str]) -> DraftEvent:
    """The event, or what was measured in its place where it has other words than were heard."""
    interval = request.interval(event.interval)
    if interval is None:
        return event
    invented = _invented(event.text, request)
    if interval.kind == "words" and (invented or not wording.holds(event.text, interval.hint)):
        reason = f"the words heard are {interval.hint!r:.200}"
    elif invented:
        reason = f"nobody says {invented!r:.80}"
    else:
        return event
    notes.append(f"changed {event.interval} {event.text!r:.80}: {reason}")
    return replace(event, text=event_text(interval))


def _invented(text: str, request: CaptionRequest) -> str:
    """The first quote of words nobody said; empty where there is none, or nobody listened."""
    if request.marks.words is None:
        return ""
    heard = " ".join(word.text for word in request.marks.words)
    return next((quote for quote in wording.quotes(text) if not wording.holds(heard, quote)), "")


def _linked(
    event: DraftEvent,
    events: dict[str, DraftEvent],
    request: CaptionRequest,
    notes: list[str],
) -> DraftEvent:
    """The event, without a cause that cannot be one."""
    if event.cause is None:
        return event
    cause, effect = request.interval(event.cause), request.interval(event.interval)
    reason = ""
    if event.cause not in events or cause is None or effect is None:
        reason = "it is no event of this caption"
    elif cause.start_us > effect.start_us + _CAUSE_SLACK_US:
        reason = "it begins later"
    elif _circular(event, events):
        reason = "the links go around in a circle"
    if not reason:
        return event
    notes.append(f"dropped the link from {event.interval} to its cause {event.cause}: {reason}")
    events[event.interval] = replace(event, cause=None)
    return events[event.interval]


def _circular(event: DraftEvent, events: dict[str, DraftEvent]) -> bool:
    seen = {event.interval}
    cause = event.cause
    while cause is not None and cause in events and cause not in seen:
        seen.add(cause)
        cause = events[cause].cause
    return cause == event.interval


def _absent(draft: CaptionDraft, request: CaptionRequest, notes: list[str]) -> tuple[str, ...]:
    """What the draft says is missing, if nothing heard contradicts it, and what was measured to be."""
    presence = request.presence()
    claimed = []
    for what in draft.absent:
        if presence.get(what):
            notes.append(f"dropped the absence of {what}: it was heard")
        else:
            claimed.append(what)
    claimed = [*claimed, *(what for what in request.absent() if what not in claimed)]
    return ("sound",) if "sound" in claimed else tuple(claimed)


def _quoted(draft: CaptionDraft, request: CaptionRequest, notes: list[str]) -> CaptionDraft:
    """The draft without texts of the whole that quote words nobody heard."""

    def passed(text: str, name: str) -> bool:
        if invented := _invented(text, request):
            notes.append(f"dropped the {name} text: nobody says {invented!r:.80}")
        return not invented

    texts = {
        n: t if passed(t, n) else ""
        for n in ("short", "medium", "full")
        if (t := getattr(draft, n))
    }
    others = tuple(text for text in draft.paraphrases if passed(text, "paraphrase"))
    return replace(draft, **texts, paraphrases=others)
