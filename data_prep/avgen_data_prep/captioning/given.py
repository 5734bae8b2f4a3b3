"""Captions that a source came with: in a file beside it, or inside one that avgen wrote."""

from typing import Literal

from avgen import media
from avgen.caption import Event, TimedCaption
from avgen.clock import seconds_from_us
from avgen_data_prep.build import Record
from avgen_data_prep.captioning.intervals import SOUND_TRACKS
from avgen_data_prep.pipeline.stage import Row
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.scan import MediaFile, read_captions

Origin = Literal["sidecar", "embedded"]


def given_captions(row: Row, work: Work) -> tuple[list[TimedCaption], Origin, list[str]]:
    """Captions of a clip row, cut out of those of its source, with notes on files that cannot be read.

    Texts are verbatim. Events that are heard move with the sound where the cut moved it. A caption
    with nothing to say about the clip's span is left out.
    """
    records: list[Record] = []
    found = read_captions(work.sources, MediaFile.of_row(row), records)
    notes = [f"{record['file']}: {record['reason']}" for record in records]
    origin: Origin = "sidecar"
    if not found:
        stored = media.probe(work.source(row)).embedded.get("caption")
        found, origin = [TimedCaption.from_json(stored)] if stored else [], "embedded"
    cut = [_cut(caption, row) for caption in found]
    return [caption for caption in cut if caption.text.strip() or caption.events], origin, notes


def _cut(caption: TimedCaption, row: Row) -> TimedCaption:
    """The part of a source's caption that belongs to a clip."""
    first = row["start_us"]
    last = first + row["duration_us"]
    moved = caption.replace(
        duration_us=max(caption.duration_us, last) + abs(row.get("sound_shift_us") or 0),
        events=_moved(caption, row.get("sound_shift_us") or 0),
    )
    return moved.cropped(seconds_from_us(first), seconds_from_us(last))


def _moved(caption: TimedCaption, shift_us: int) -> tuple[Event, ...]:
    """Events, those that are heard moved by ``shift_us``; what ends before time zero goes."""
    events = []
    for event in caption.events:
        shift = shift_us if event.track in SOUND_TRACKS else 0
        if event.end_us + shift > 0:
            start = max(0, event.start_us + shift)
            events.append(event.replace(start_us=start, end_us=event.end_us + shift))
    left = {event.id for event in events}
    return tuple(e if e.cause in left else e.replace(cause=None) for e in events)
