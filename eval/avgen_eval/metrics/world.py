"""Clips of worlds by the worlds' own detectors: events against the caption, objects, and attributes."""

from typing import ClassVar

from avgen.caption import TimedCaption
from avgen_eval.clips import DetectionLike, pair_offset
from avgen_eval.events import WINDOWS_MS, EventScore, score_events, timing_error
from avgen_eval.metrics.base import ClipMetric, Field, Values
from avgen_eval.requested import Requested, requested_moments

ATTRIBUTES = ("colour", "pad", "mouth", "vowel", "turn")
"""Attributes that the detectors of the worlds report; one that a world lacks is None."""
STREAMS = ("sound", "picture")

_SHARE, _ERROR = Field(unit="share", better="higher"), Field(unit="ms", better="lower")


class WorldMetric(ClipMetric):
    """Mean over clips of what a known-answer detector finds.

    ``sound_`` and ``picture_`` followed by ``precision``, ``recall`` and ``f1`` at 60 and 120 ms, as in
    ``sound_f1_60ms``, and the median size of the errors of pairs within 120 ms; ``pair_offset_ms``, the median of sound
    minus picture over events at most 200 ms apart; ``objects_visible``, the share of frames with the described objects
    and no others; ``attribute_colour`` and the like, the share of correct values.

    Fails on: pictures so far from those of the world that its detector sees nothing.
    """

    fields: ClassVar = {
        **{
            f"{stream}_{name}_{window}ms": _SHARE
            for stream in STREAMS
            for window in WINDOWS_MS
            for name in ("precision", "recall", "f1")
        },
        **{f"{stream}_error_median_ms": _ERROR for stream in STREAMS},
        "pair_offset_ms": Field(unit="ms", better="target"),
        "objects_visible": _SHARE,
        **{f"attribute_{name}": _SHARE for name in ATTRIBUTES},
    }

    def measure(self, caption: TimedCaption | None, detection: DetectionLike) -> Values:
        """Values of one clip; those of events are None where none are requested."""
        values: dict[str, float | None] = dict.fromkeys(self.fields)
        asked = requested_moments(caption) if caption is not None else Requested()
        sound, picture = detection.sound_times, detection.picture_times
        for stream, wanted, found in zip(
            STREAMS, (asked.sound, asked.picture), (sound, picture), strict=True
        ):
            if wanted:
                scores = [score_events(wanted, found, window) for window in WINDOWS_MS]
                values |= _event_values(stream, scores)
        values["pair_offset_ms"] = pair_offset(sound, picture)
        values["objects_visible"] = float(detection.objects_visible)
        for name in ATTRIBUTES:
            share = detection.attributes.get(name)
            values[f"attribute_{name}"] = None if share is None else float(share)
        return values


def _event_values(stream: str, scores: list[EventScore]) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for score in scores:
        for name in ("precision", "recall", "f1"):
            values[f"{stream}_{name}_{score.window_ms:g}ms"] = getattr(score, name)
    error = timing_error(scores[-1].errors_ms)
    return {**values, f"{stream}_error_median_ms": error and error.median_ms}
