"""Candidate events of a clip that nobody described: sudden sounds and sudden movements.

When they begin is measured as in evaluation (`avgen.measure`); when they end, by the fall of the level.
"""

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray

from avgen.caption import Event
from avgen.clip import Clip
from avgen.measure.motion import MIN_STRENGTH, measure_motion, picture_impacts
from avgen.measure.onsets import MIN_RISE_DB, Curve, find_onsets

PROVENANCE = "proposal"
SOUND_TEXT, MOTION_TEXT = "a sound", "a movement"
_STEP = 0.01
_SHORTEST = 0.04
_LONGEST = 1.0
_FRAMES_MIN = 3


def propose_events(clip: Clip) -> tuple[Event, ...]:
    """Events at audio onsets (track ``sfx``) and impacts in the picture (track ``visual``), by start.

    Texts are neutral; ``confidence`` in (0, 1) is ``strength / (strength + least)``, with the least
    strength that counts as an event.
    """
    events: list[Event] = []
    if clip.waveform is not None:
        times, strengths = find_onsets(clip.waveform, clip.sample_rate)
        level = _level(clip.waveform, clip.sample_rate)
        confidences = [s / (s + MIN_RISE_DB) for s in strengths]
        events += _events(times, confidences, level, clip.duration, SOUND_TEXT, "sfx")
    if clip.frames is not None and clip.num_frames >= _FRAMES_MIN:
        motion = measure_motion(clip.frames, clip.fps)
        times = picture_impacts(motion)
        strengths = np.interp(times, motion.strength.times, motion.strength.values)
        confidences = [float(s / (s + MIN_STRENGTH)) for s in strengths]
        events += _events(times, confidences, motion.speed, clip.duration, MOTION_TEXT, "visual")
    return tuple(sorted(events, key=lambda event: (event.start_us, event.track)))


def _level(waveform: Float32[ndarray, "c s"], sample_rate: int) -> Curve:
    """Root mean square of the sound every 10 ms."""
    hop = max(1, round(sample_rate * _STEP))
    power = waveform.mean(axis=0, dtype=np.float64) ** 2
    starts = np.arange(0, len(power), hop)
    sizes = np.diff(np.append(starts, len(power)))
    return Curve(np.sqrt(np.add.reduceat(power, starts) / sizes), hop / sample_rate)


def _events(
    times: list[float],
    confidences: list[float],
    level: Curve,
    duration: float,
    text: str,
    track: str,
) -> list[Event]:
    events = []
    nexts = [*times[1:], duration][: len(times)]
    for time, following, confidence in zip(times, nexts, confidences, strict=True):
        start = min(time, duration - _SHORTEST)
        if start < 0:
            continue
        end = _fallen(level, start, min(following, start + _LONGEST))
        fields = {"confidence": round(confidence, 3), "provenance": PROVENANCE}
        end = min(max(end, start + _SHORTEST), duration)
        events.append(Event.at(start, end, text, track, **fields))  # type: ignore[arg-type]
    return events


def _fallen(level: Curve, start: float, last: float) -> float:
    """Seconds at which the level has lost half of what it gained at ``start``, at most ``last``."""
    values: Float[ndarray, "n"] = level.values
    first = int(np.searchsorted(level.times, start))
    end = int(np.searchsorted(level.times, last))
    before = values[max(0, first - 2)] if len(values) else 0.0
    if end <= first:
        return last
    peak = first + int(np.argmax(values[first : min(end, first + 3)]))
    below = np.flatnonzero(values[peak:end] < (before + values[peak]) / 2)
    return float(level.times[peak + below[0]]) if below.size else last
