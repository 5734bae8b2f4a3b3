"""What a caption asks for: the moments at which something should be heard and seen."""

from dataclasses import dataclass

from avgen.caption import Event, TimedCaption
from avgen_eval.events import distinct

SOUND_TRACKS = ("sfx", "speech", "music")
PICTURE_TRACKS = ("visual", "action")
BRIEF = 0.2


@dataclass(frozen=True, kw_only=True)
class Requested:
    """Times in seconds, in order, at which something should be heard, and be seen, to happen."""

    sound: tuple[float, ...] = ()
    picture: tuple[float, ...] = ()


def requested_moments(caption: TimedCaption) -> Requested:
    """The moments that the events of a caption name.

    A sound event (tracks sfx, speech, music) happens when it starts. A picture event (tracks
    visual, action) happens when the sound that names it as its cause starts; else in its middle if
    it lasts at most 0.2 s, and at its start if it lasts longer. Events that span the whole clip
    name no moment, and neither do the tracks ambience and camera. Moments less than 20 ms apart
    count once.
    """
    events = [event for event in caption.events if not _spans(event, caption)]
    heard = {e.cause: e.start for e in events if e.track in SOUND_TRACKS and e.cause is not None}
    sound = [event.start for event in events if event.track in SOUND_TRACKS]
    picture = [heard.get(e.id or "", moment(e)) for e in events if e.track in PICTURE_TRACKS]
    return Requested(sound=tuple(distinct(sound)), picture=tuple(distinct(picture)))


def moment(event: Event) -> float:
    """Middle of a brief event, start of a longer one, in seconds."""
    return 0.5 * (event.start + event.end) if event.end - event.start <= BRIEF else event.start


def _spans(event: Event, caption: TimedCaption) -> bool:
    return event.start_us == 0 and event.end_us == caption.duration_us
