"""Long clips: curves over their windows, kept with the records, and what they say of the whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from avgen.clip import Clip
from avgen.measure.flow import reduce_frames
from avgen.measure.loudness import integrated_loudness
from avgen.measure.onsets import Curve
from avgen_eval.harness.cache import Extract
from avgen_eval.harness.decode import Decoded
from avgen_eval.harness.extractors import (
    Extractor,
    Need,
    PictureEvents,
    SoundEvents,
    stored_motion,
)
from avgen_eval.harness.scorers import About, ClipScorer
from avgen_eval.metrics.base import ClipMetric, Values
from avgen_eval.metrics.drift import HOP, WINDOW, windowed_offsets
from avgen_eval.metrics.features import LogMelStatistics
from avgen_eval.metrics.longform import CURVES, LongClipMetric
from avgen_eval.metrics.temporal import saturation, sharpness

STEP = 1.0
"""Seconds of a window; windows do not overlap."""
MIN_SECONDS = 8.0
FRAMES = 8
GRID = 8


@dataclass(frozen=True, kw_only=True)
class SecondBySecond(Extractor):
    """Level, light and colour of each second, and vectors that say what it looks and sounds like.

    Seconds are measured one after the other, each from 8 of its frames at most, so that the memory taken does not grow
    with the clip. The picture's vector is the mean frame as 8 by 8 colours less their mean (their cosine is a
    correlation); the sound's is the mean log-mel spectrum in 32 bands less its mean.
    """

    name: ClassVar[str] = "seconds"
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset()

    def applies(self, decoded: Decoded) -> bool:
        """Whether the clip is long enough to have a course."""
        return decoded.clip is not None and decoded.clip.duration >= MIN_SECONDS

    def run(self, decoded: Decoded) -> Extract:
        """A curve by each name with NaN where there is no value, ``picture`` and ``sound`` (N, D)."""
        assert decoded.clip is not None
        clip = decoded.clip
        seconds = range(int((clip.duration + 1e-6) / STEP))
        pictures = [_picture(part) for s in seconds if len(part := _frames(clip, s))]
        sounds = [
            _sound(part, clip.sample_rate) for s in seconds if (part := _samples(clip, s)).size
        ]
        return Extract(arrays=_stacked(pictures) | _stacked(sounds))


@dataclass(frozen=True, kw_only=True)
class LongForm(ClipScorer):
    """How a long clip changes in its course."""

    name: ClassVar[str] = "longform"
    version: ClassVar[int] = 1
    metric: ClassVar[type[ClipMetric]] = LongClipMetric

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """Events of both streams, and what is measured in each second."""
        return (SoundEvents(), PictureEvents(), SecondBySecond())

    def score(self, extracts: Mapping[str, Extract], about: About) -> Values | str:
        """See `LongClipMetric`."""
        seconds = extracts.get(SecondBySecond().signature)
        if seconds is None:
            return f"needs a clip of {MIN_SECONDS:g} s or more"
        return LongClipMetric().measure(
            self.curves(extracts, about),
            seconds.arrays.get("picture"),
            seconds.arrays.get("sound"),
        )

    def curves(self, extracts: Mapping[str, Extract], about: About) -> Mapping[str, Curve]:
        """Those of `avgen_eval.metrics.longform.CURVES` that the clip has."""
        sound, picture, seconds = (extracts.get(e.signature) for e in self.extractors)
        if seconds is None:
            return {}
        found = {
            name: Curve(values, STEP, STEP / 2)
            for name, values in seconds.arrays.items()
            if values.ndim == 1
        }
        if picture is not None:
            found["motion"] = _averaged(stored_motion(picture).speed, about.duration)
        if picture is not None and sound is not None:
            found["offset"] = _offsets(sound, picture, about.duration)
        return {n: found[n] for n in CURVES if n in found and np.isfinite(found[n].values).any()}


def _frames(clip: Clip, second: int) -> np.ndarray:
    """Evenly spaced frames of one second, as a view of what is not copied."""
    if clip.frames is None:
        return np.empty((0, 1, 1, 3), np.uint8)
    first, last = (round(float(clip.fps) * STEP * (second + i)) for i in (0, 1))
    part = clip.frames[first:last]
    count = min(FRAMES, len(part))
    return part[((np.arange(count) + 0.5) * len(part) / max(count, 1)).astype(int)]


def _samples(clip: Clip, second: int) -> np.ndarray:
    if clip.waveform is None:
        return np.empty((1, 0), np.float32)
    first, last = (round(clip.sample_rate * STEP * (second + i)) for i in (0, 1))
    return clip.waveform[:, first:last]


def _picture(frames: np.ndarray) -> dict[str, np.ndarray | float | None]:
    grey = reduce_frames(frames)
    return {
        "picture": _layout(frames),
        "brightness": float(grey.mean(dtype=np.float64)),
        "contrast": float(grey.std(axis=(1, 2)).mean()),
        "saturation": saturation(frames),
        "sharpness": sharpness(frames),
    }


def _layout(frames: np.ndarray) -> np.ndarray:
    """The mean frame as a grid of colours, less their mean, ``(D,)``."""
    mean = frames.mean(axis=0, dtype=np.float64) / 255
    for axis in (0, 1):
        size = mean.shape[axis]
        edges = np.linspace(0, size, min(GRID, size) + 1).astype(int)
        parts = np.add.reduceat(mean, edges[:-1], axis=axis)
        widths = np.diff(edges).reshape([-1 if i == axis else 1 for i in range(3)])
        mean = parts / widths
    return (mean - mean.mean()).ravel()


def _sound(waveform: np.ndarray, sample_rate: int) -> dict[str, np.ndarray | float | None]:
    describer = LogMelStatistics()
    clip = Clip(frames=None, waveform=waveform, sample_rate=sample_rate)
    levels = describer.extract(clip)[0, : describer.num_bands]
    return {
        "sound": levels - levels.mean(),
        "loudness": integrated_loudness(waveform, sample_rate),
    }


def _stacked(rows: list[dict[str, np.ndarray | float | None]]) -> dict[str, np.ndarray]:
    """One array per name with a row for each second; NaN in place of None."""
    names = rows[0] if rows else ()
    return {name: np.array([row[name] for row in rows], np.float64) for name in names}


def _averaged(curve: Curve, duration: float) -> Curve:
    """Mean of a curve in each whole second; NaN in one that it does not reach."""
    second = (curve.times / STEP).astype(int)
    count = int((duration + 1e-6) / STEP)
    inside = second < count
    sums = np.bincount(second[inside], curve.values[inside], count)
    counts = np.bincount(second[inside], minlength=count)
    means = np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0)
    return Curve(means, STEP, STEP / 2)


def _offsets(sound: Extract, picture: Extract, duration: float) -> Curve:
    """Offset in milliseconds in windows of 2 s, a second apart; NaN where it cannot be measured."""
    points = windowed_offsets(
        sound.arrays["times"].tolist(),
        sound.arrays["strengths"].tolist(),
        stored_motion(picture).strength,
        duration,
    )
    start = WINDOW / 2
    values = np.full(max(1, int((duration - WINDOW + 1e-6) / HOP) + 1), np.nan)
    for time, offset in points:
        values[round((time - start) / HOP)] = offset
    return Curve(values, HOP, start)
