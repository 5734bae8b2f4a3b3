"""Do sound and picture happen together: events that coincide beyond chance, offset, drift, mouth and voice.

Everything here works on what is extracted from a clip once: times and strengths of onsets
(`avgen.measure.onsets.find_onsets`), the strength curve of the picture
(`avgen.measure.motion.measure_motion`) and the times of its impacts
(`avgen.measure.motion.picture_impacts`). Positive offsets mean that the sound is late.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from avgen.measure.offset import MIN_CONFIDENCE, Offset, measure_offset
from avgen.measure.onsets import Curve, onset_train
from avgen_eval.clips import pair_offset
from avgen_eval.events import WINDOWS_MS, score_events
from avgen_eval.metrics.base import ClipMetric, Field, Values
from avgen_eval.metrics.drift import measure_drift
from avgen_eval.metrics.mouth import MIN_CONFIDENCE as MIN_MOUTH_CONFIDENCE
from avgen_eval.metrics.mouth import mouth_voice_lag

NUM_SHIFTS = 200
GRADED_MS = (20, 40, 60, 80, 100, 120)
"""Windows of `graded_f1`."""
DETECTABLE_MS = (-45.0, 125.0)
ACCEPTABLE_MS = (-90.0, 185.0)
"""Windows of ITU-R BT.1359-1 (1998) with the sign turned: there +45 ms and +90 ms is sound that is *early*."""

EDGE = 1e-9


@dataclass(frozen=True, kw_only=True)
class ChanceCorrected:
    """F1 of sound against picture beside what it is when their times have nothing to do with each other.

    Attributes:
        f1: Of the clip as it is.
        chance: Mean F1 under circular shifts of the sound.
        corrected: ``f1 - chance``; 0 is chance, negative is out of step.
        z: ``corrected`` in standard deviations of F1 under the shifts; None where every shift gives the same.
    """

    f1: float
    chance: float
    corrected: float
    z: float | None


def chance_corrected_f1(
    sound_times: Sequence[float],
    picture_times: Sequence[float],
    duration: float,
    window_ms: float,
    *,
    num_shifts: int = NUM_SHIFTS,
) -> ChanceCorrected | None:
    """F1 of sounds and impacts, and F1 under circular shifts of the sounds over the clip.

    Shift k of n moves every sound to ``(time + duration * k / (n + 1)) mod duration``: the rhythm and the number of
    events stay, only the relation to the picture goes. A clip full of events matches by chance, and a regular rhythm
    again one period later; both raise ``chance``. Shifts smaller than the window are among them, so that n events in
    perfect sync have a ``chance`` of about ``n * 2 * window / duration`` and not 0. Uniformly random times have a
    ``corrected`` of 0 on average.

    Fails on: clips with few events, in which ``z`` is far from normal: a single event in sync has a z of 4 in two
    seconds at 60 ms, although one shift in 16 does as well.

    Args:
        sound_times: Onsets, seconds.
        picture_times: Impacts, seconds.
        duration: Of the clip, seconds.
        window_ms: Half width of the matching window.
        num_shifts: Evenly spaced, so that the result is the same each time.

    Returns:
        None where there is neither sound nor impact.

    Raises:
        ValueError: The duration or the number of shifts is not positive, or a time is not finite.
    """
    _check_duration(duration)
    if num_shifts < 1:
        raise ValueError(f"num_shifts is {num_shifts}; give at least 1, such as {NUM_SHIFTS}")
    f1 = score_events(picture_times, sound_times, window_ms).f1
    if f1 is None:
        return None
    heard = np.asarray(sound_times, dtype=np.float64)
    seen = sorted(picture_times)
    shifts = duration * np.arange(1, num_shifts + 1) / (num_shifts + 1)
    moved = np.sort((heard + shifts[:, None]) % duration, axis=1).tolist()
    matches = np.array([count_matches(seen, row, window_ms / 1000) for row in moved])
    values = 2 * matches / (len(seen) + len(heard))
    chance, spread = float(values.mean()), float(values.std())
    z = (f1 - chance) / spread if spread > EDGE else None
    return ChanceCorrected(f1=f1, chance=chance, corrected=f1 - chance, z=z)


def graded_f1(
    sound_times: Sequence[float], picture_times: Sequence[float], duration: float
) -> float | None:
    """Mean of the chance-corrected F1 over windows of 20 to 120 ms: an event that is nearer counts more.

    A single window is blind to shifts within it. After the mean over thresholds of detection in pictures (Lin et al.
    2014, arXiv 1405.0312). None where there is neither sound nor impact.
    """
    scores = [
        chance_corrected_f1(sound_times, picture_times, duration, window) for window in GRADED_MS
    ]
    known = [score.corrected for score in scores if score is not None]
    return sum(known) / len(known) if known else None


def count_matches(first: Sequence[float], second: Sequence[float], window: float) -> int:
    """How many pairs `avgen_eval.events.match_events` finds between two *sorted* lists, in linear time.

    On a line, pairing the earliest two that are within ``window`` seconds never loses a pair.
    """
    i = j = count = 0
    while i < len(first) and j < len(second):
        gap = second[j] - first[i]
        if abs(gap) <= window + EDGE:
            i, j, count = i + 1, j + 1, count + 1
        elif gap > 0:
            i += 1
        else:
            j += 1
    return count


def clip_offset(
    sound_times: Sequence[float],
    sound_strengths: Sequence[float],
    picture_strength: Curve,
    duration: float,
    *,
    min_confidence: float = MIN_CONFIDENCE,
) -> Offset:
    """Offset of a clip from its onsets and its picture strength; see `avgen.measure.offset.measure_offset`."""
    train = onset_train(sound_times, sound_strengths, duration)
    return measure_offset(train, picture_strength, min_confidence=min_confidence)


def within(offset_ms: float | None, window_ms: tuple[float, float]) -> float | None:
    """1 where an offset lies in a window, ends included, 0 where not, None where there is none."""
    return None if offset_ms is None else float(window_ms[0] <= offset_ms <= window_ms[1])


def event_values(
    sound_times: Sequence[float], picture_times: Sequence[float], duration: float
) -> Values:
    """Precision, recall, F1 and its form without chance, at 60 and 120 ms; see `SyncMetric` for the names."""
    values: dict[str, float | None] = {}
    for window in WINDOWS_MS:
        score = score_events(picture_times, sound_times, window)
        beyond = chance_corrected_f1(sound_times, picture_times, duration, window)
        values |= {
            f"precision_{window}ms": score.precision,
            f"recall_{window}ms": score.recall,
            f"f1_{window}ms": score.f1,
            f"f1_chance_{window}ms": beyond and beyond.chance,
            f"f1_corrected_{window}ms": beyond and beyond.corrected,
            f"f1_z_{window}ms": beyond and beyond.z,
        }
    return values


def _event_fields() -> dict[str, Field]:
    share, figure = Field(unit="share", better="higher"), Field(better="higher")
    fields: dict[str, Field] = {}
    for window in WINDOWS_MS:
        fields |= {f"{name}_{window}ms": share for name in ("precision", "recall", "f1")}
        fields |= {f"f1_chance_{window}ms": Field(unit="share")}
        fields |= {f"{name}_{window}ms": figure for name in ("f1_corrected", "f1_z")}
    return fields


class SyncMetric(ClipMetric):
    """Mean over clips of everything in this module; a share is a mean of 0 and 1.

    Values per window of 60 and 120 ms: ``precision`` (of the sounds, how many have an impact), ``recall`` (of the
    impacts, how many have a sound), ``f1``, and of `chance_corrected_f1` ``f1_chance``, ``f1_corrected`` and ``f1_z``.
    ``f1_graded_corrected`` is `graded_f1`.
    ``offset_ms`` and ``drift_ppm`` are signed, so that errors of opposite sign cancel in their mean; beside each is the
    mean of its size. ``pair_offset_ms`` needs no confidence but only sees what is at most 200 ms apart.
    ``offset_measurable`` is the share of clips whose offset is known, on which alone the values made of it rest:
    ``within_detectability`` and ``within_acceptability`` after ITU-R BT.1359-1, sound from 45 (90) ms early to 125
    (185) ms late.

    Fails on: pictures whose sounds have no visible source, and the other way round; music and ambience; camera motion.
    There, ``f1_corrected`` is near 0 and ``offset_measurable`` low: read these first.

    Args:
        min_confidence: Of the offset; see `avgen.measure.offset.MIN_CONFIDENCE`.
        min_mouth_confidence: Of the lag of the voice; see `avgen_eval.metrics.mouth`.
        kwargs: Of `torchmetrics.Metric`.
    """

    fields: ClassVar = {
        **_event_fields(),
        "f1_graded_corrected": Field(better="higher"),
        "offset_ms": Field(unit="ms", better="target"),
        "offset_abs_ms": Field(unit="ms", better="lower"),
        "offset_confidence": Field(better="higher"),
        "offset_measurable": Field(unit="share", better="higher"),
        "within_detectability": Field(unit="share", better="higher"),
        "within_acceptability": Field(unit="share", better="higher"),
        "pair_offset_ms": Field(unit="ms", better="target"),
        "drift_ppm": Field(unit="ppm", better="target"),
        "drift_abs_ppm": Field(unit="ppm", better="lower"),
        "mouth_lag_ms": Field(unit="ms", better="target"),
        "mouth_lag_abs_ms": Field(unit="ms", better="lower"),
        "mouth_confidence": Field(better="higher"),
    }

    def __init__(
        self,
        *,
        min_confidence: float = MIN_CONFIDENCE,
        min_mouth_confidence: float = MIN_MOUTH_CONFIDENCE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.min_confidence = min_confidence
        self.min_mouth_confidence = min_mouth_confidence

    def measure(
        self,
        *,
        sound_times: Sequence[float],
        sound_strengths: Sequence[float],
        picture_times: Sequence[float],
        picture_strength: Curve,
        duration: float,
        mouth: Curve | None = None,
        voice: Curve | None = None,
    ) -> Values:
        """Values of one clip.

        Args:
            sound_times: Onsets, seconds.
            sound_strengths: Strength of each onset.
            picture_times: Impacts, seconds.
            picture_strength: Strength curve of the picture.
            duration: Of the clip, seconds.
            mouth: Opening of a mouth, where somebody is seen to speak.
            voice: Loudness of the voice.

        Raises:
            ValueError: Times and strengths differ in number, a time is not finite, or the duration is not positive.
        """
        _check_duration(duration)
        if len(sound_times) != len(sound_strengths):
            raise ValueError(
                f"{len(sound_times)} sound times with {len(sound_strengths)} strengths; give one for each, "
                "as find_onsets does"
            )
        sound = (sound_times, sound_strengths, picture_strength, duration)
        offset = clip_offset(*sound, min_confidence=self.min_confidence)
        drift = measure_drift(*sound, min_confidence=self.min_confidence)
        ppm = None if drift is None else drift.ppm
        return {
            **event_values(sound_times, picture_times, duration),
            "f1_graded_corrected": graded_f1(sound_times, picture_times, duration),
            "offset_ms": offset.offset_ms,
            "offset_abs_ms": _size(offset.offset_ms),
            "offset_confidence": offset.confidence,
            "offset_measurable": float(offset.offset_ms is not None),
            "within_detectability": within(offset.offset_ms, DETECTABLE_MS),
            "within_acceptability": within(offset.offset_ms, ACCEPTABLE_MS),
            "pair_offset_ms": pair_offset(sound_times, picture_times),
            "drift_ppm": ppm,
            "drift_abs_ppm": _size(ppm),
            **self._mouth(mouth, voice),
        }

    def _mouth(self, mouth: Curve | None, voice: Curve | None) -> Values:
        if mouth is None or voice is None:
            return dict.fromkeys(("mouth_lag_ms", "mouth_lag_abs_ms", "mouth_confidence"))
        lag = mouth_voice_lag(mouth, voice, min_confidence=self.min_mouth_confidence)
        return {
            "mouth_lag_ms": lag.lag_ms,
            "mouth_lag_abs_ms": _size(lag.lag_ms),
            "mouth_confidence": lag.confidence,
        }


def _size(value: float | None) -> float | None:
    return None if value is None else abs(value)


def _check_duration(duration: float) -> None:
    if not (math.isfinite(duration) and duration > 0):
        raise ValueError(f"duration is {duration}; give the length of the clip in seconds, above 0")
