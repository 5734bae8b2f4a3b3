"""Measure one clip: a record of what was asked for, what was found, and how well they agree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen.measure.motion import Motion, measure_motion, picture_impacts
from avgen.measure.offset import NOT_MEASURABLE, Offset, measure_offset
from avgen.measure.onsets import find_onsets, onset_train
from avgen_eval.events import WINDOWS_MS, EventScore, match_events, score_events
from avgen_eval.requested import Requested, requested_moments

GENERIC = "generic"
PAIR_WINDOW = 0.2
SILENT = 1e-3
STILL = 5e-3


class DetectionLike(Protocol):
    """What a known-answer detector reports; a world's ``Detection`` has these fields."""

    @property
    def sound_times(self) -> Sequence[float]:
        """Seconds at which something was heard."""
        ...

    @property
    def picture_times(self) -> Sequence[float]:
        """Seconds at which something was seen to happen."""
        ...

    @property
    def objects_visible(self) -> float:
        """Share of frames with the described objects and no others."""
        ...

    @property
    def attributes(self) -> Mapping[str, float]:
        """Share of correct values per attribute."""
        ...

    @property
    def extra(self) -> Mapping[str, Any]:
        """Further measurements of the world."""
        ...


Detector = Callable[[Clip], DetectionLike]


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """Everything measured on one clip; seconds, and milliseconds where the name says so.

    Attributes:
        name: Which clip.
        duration: Seconds.
        detector: ``generic``, or the world whose known-answer detector was used.
        requested: Moments asked for by the caption; None without a caption.
        sound_times: Onsets found.
        picture_times: Impacts found.
        sound_scores: One per window; empty where no sound was asked for at a moment.
        picture_scores: Likewise for the picture.
        offset: From the strength curves alone, whatever the detector.
        pair_offset_ms: Median of sound minus picture over detected events at most 200 ms apart;
            None without any.
        objects_visible: Share of frames with the described objects and no others; None without a
            detector.
        attributes: Share of correct values per attribute, from the detector.
        further: Other numbers that the detector gives, such as correlations.
        findings: What is wrong with the clip, in words.
        notes: How the clip came about.
        motion: Curves of the picture, for drawing; not part of the JSON.
    """

    name: str
    duration: float = 0.0
    detector: str = GENERIC
    requested: Requested | None = None
    sound_times: tuple[float, ...] = ()
    picture_times: tuple[float, ...] = ()
    sound_scores: tuple[EventScore, ...] = ()
    picture_scores: tuple[EventScore, ...] = ()
    offset: Offset = NOT_MEASURABLE
    pair_offset_ms: float | None = None
    objects_visible: float | None = None
    attributes: dict[str, float] = field(default_factory=dict)
    further: dict[str, float] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failed: bool = False
    motion: Motion | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        asked = self.requested
        return {
            "name": self.name,
            "duration": self.duration,
            "detector": self.detector,
            "requested": asked and {"sound": list(asked.sound), "picture": list(asked.picture)},
            "detected": {"sound": list(self.sound_times), "picture": list(self.picture_times)},
            "scores": {
                stream: {f"{score.window_ms:g}ms": _score_dict(score) for score in scores}
                for stream, scores in (
                    ("sound", self.sound_scores),
                    ("picture", self.picture_scores),
                )
            },
            "offset_ms": self.offset.offset_ms,
            "offset_confidence": self.offset.confidence,
            "pair_offset_ms": self.pair_offset_ms,
            "objects_visible": self.objects_visible,
            "attributes": self.attributes,
            "further": self.further,
            "findings": list(self.findings),
            "notes": list(self.notes),
            "failed": self.failed,
        }


def measure_clip(
    clip: Clip,
    caption: TimedCaption | None = None,
    detector: Detector | None = None,
    *,
    name: str = "clip",
    detector_name: str = GENERIC,
    requested: Requested | None = None,
    notes: Sequence[str] = (),
) -> ClipRecord:
    """Measure a clip against what was asked for.

    Args:
        clip: Picture, sound, or both.
        caption: What was asked for; the clip's own caption if None.
        detector: Known-answer detector; generic onsets and impacts if None. It needs both streams.
        name: Label of the record.
        detector_name: Label of the detector.
        requested: Moments asked for, in place of those of the caption (for captions without times).
        notes: How the clip came about, for the report.
    """
    caption = caption or clip.caption
    if requested is None and caption is not None:
        requested = requested_moments(caption)
    motion = None if clip.frames is None else measure_motion(clip.frames, clip.fps)
    onsets, strengths = (
        ([], []) if clip.waveform is None else find_onsets(clip.waveform, clip.sample_rate)
    )
    record = ClipRecord(
        name=name,
        duration=clip.duration,
        requested=requested,
        sound_times=tuple(onsets),
        picture_times=tuple(picture_impacts(motion)) if motion else (),
        findings=tuple(inspect_clip(clip)),
        notes=tuple(notes),
        motion=motion,
    )
    if motion is not None and onsets:
        sound = onset_train(onsets, strengths, clip.duration)
        record = replace(record, offset=measure_offset(sound, motion.strength))
    if detector is not None and clip.frames is not None and clip.waveform is not None:
        record = _with_detection(record, detector(clip), detector_name)
    return _with_scores(record)


def failed_clip(name: str, reason: str) -> ClipRecord:
    """The record of a clip that could not be decoded or generated."""
    return ClipRecord(name=name, findings=(reason,), failed=True)


def inspect_clip(clip: Clip) -> list[str]:
    """What is wrong with a clip, in words; nothing is inferred beyond what is measured."""
    found = [
        text
        for text, missing in (
            ("no sound", clip.waveform is None),
            ("no picture", clip.frames is None),
        )
        if missing
    ]
    found += inspect_content(clip)
    if clip.frames is not None and clip.waveform is not None:
        gap = clip.waveform.shape[-1] / clip.sample_rate - float(len(clip.frames) / clip.fps)
        if abs(gap) > max(0.005, 0.5 / float(clip.fps)):
            side = "longer" if gap > 0 else "shorter"
            found.append(f"sound is {1000 * abs(gap):.0f} ms {side} than the picture")
    return found


def inspect_content(clip: Clip) -> list[str]:
    """What is wrong with the streams that are there: silent, clipped, or still."""
    found = []
    if clip.waveform is not None:
        size = np.abs(clip.waveform)
        if float(size.max(initial=0.0)) < SILENT:
            found.append("silent: no sample above -60 dB of full scale")
        elif float(np.mean(size >= 0.999)) > 0.001:
            found.append("clipped: over 0.1% of the samples at full scale")
    if clip.frames is not None and len(clip.frames) > 1 and _largest_change(clip.frames) < STILL:
        found.append("still: the picture never changes")
    return found


def _largest_change(frames: np.ndarray) -> float:
    """Largest difference of any value over time, as a share of full scale."""
    return int((frames.max(axis=0) - frames.min(axis=0)).max()) / 255


def pair_offset(sound: Sequence[float], picture: Sequence[float]) -> float | None:
    """Median of ``sound - picture`` in milliseconds over events matched within 200 ms."""
    pairs = match_events(picture, sound, PAIR_WINDOW)
    return 1000 * float(np.median([sound[j] - picture[i] for i, j in pairs])) if pairs else None


def _with_detection(record: ClipRecord, detection: DetectionLike, name: str) -> ClipRecord:
    return replace(
        record,
        detector=name,
        sound_times=tuple(sorted(map(float, detection.sound_times))),
        picture_times=tuple(sorted(map(float, detection.picture_times))),
        objects_visible=float(detection.objects_visible),
        attributes={key: float(value) for key, value in detection.attributes.items()},
        further={
            key: float(value)
            for key, value in detection.extra.items()
            if isinstance(value, (int, float))
        },
    )


def _with_scores(record: ClipRecord) -> ClipRecord:
    asked = record.requested or Requested()
    return replace(
        record,
        sound_scores=_scores(asked.sound, record.sound_times),
        picture_scores=_scores(asked.picture, record.picture_times),
        pair_offset_ms=pair_offset(record.sound_times, record.picture_times),
    )


def _scores(requested: Sequence[float], detected: Sequence[float]) -> tuple[EventScore, ...]:
    return (
        tuple(score_events(requested, detected, window) for window in WINDOWS_MS)
        if requested
        else ()
    )


def _score_dict(score: EventScore) -> dict[str, Any]:
    return {
        "requested": score.num_requested,
        "detected": score.num_detected,
        "matched": score.num_matched,
        "precision": score.precision,
        "recall": score.recall,
        "f1": score.f1,
        "errors_ms": [round(error, 3) for error in score.errors_ms],
    }
