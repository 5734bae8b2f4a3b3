"""What a world is: it renders clips whose events are known, and measures clips made by others."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from avgen.caption import Event, TimedCaption
from avgen.clip import Clip
from avgen.clock import MICROSECONDS, Rate, as_rate, count

MIN_SIZE = 16
MIN_DURATION = 0.45
QUIET_EDGE = 0.1
MIN_GAP = 0.12


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The grid a clip is rendered on: frames, pixels and audio samples.

    Attributes:
        num_frames: Frames; frame ``i`` shows the state at ``i / fps`` seconds.
        fps: Frames per second, exact.
        size: Height and width in pixels.
        num_samples: Audio samples, exactly as long as the frames.
        sample_rate: Audio samples per second.
    """

    num_frames: int
    fps: Fraction
    size: int
    num_samples: int
    sample_rate: int

    @property
    def duration(self) -> float:
        """Seconds of the clip."""
        return float(self.num_frames / self.fps)

    @property
    def frame_times(self) -> np.ndarray:
        """Seconds of each frame, ``(F,)`` float64."""
        return np.arange(self.num_frames) / float(self.fps)

    @property
    def duration_us(self) -> int:
        """Duration in integer microseconds."""
        return round(self.num_frames / self.fps * MICROSECONDS)


@dataclass(frozen=True, kw_only=True)
class WorldExample:
    """A rendered clip, several complete captions of it, and what exactly happens in it.

    Attributes:
        clip: Frames and sound; its caption is the first of ``captions``.
        captions: Paraphrases with the same event times.
        truth: JSON-able ``{"world", "seed", "objects", "events", ...}``; event times in seconds.
    """

    clip: Clip
    captions: tuple[TimedCaption, ...]
    truth: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What a world's detector finds in a clip.

    Attributes:
        sound_times: Seconds at which something was heard to happen.
        picture_times: Seconds at which something was seen to happen.
        objects_visible: Share of frames that show the described objects and no others.
        attributes: Share of correct values for each checked attribute, 0 to 1.
        extra: Further measurements of the world.
    """

    sound_times: list[float]
    picture_times: list[float]
    objects_visible: float
    attributes: dict[str, float]
    extra: dict[str, Any] = field(default_factory=dict)


class World(ABC):
    """A procedural source of clips with exact events; rendering is a function of the seed alone."""

    name: ClassVar[str]

    def render(
        self,
        seed: int,
        *,
        duration: float = 1.96,
        fps: Rate = 25,
        size: int = 64,
        sample_rate: int = 16_000,
    ) -> WorldExample:
        """Render one clip; the scene depends on ``seed`` and ``duration``, not on the grid.

        Args:
            seed: Non-negative; seeds below 1,000,000 are for training, others for evaluation.
            duration: Seconds, rounded to whole frames.
            fps: Frames per second.
            size: Height and width in pixels.
            sample_rate: Audio samples per second.

        Raises:
            ValueError: An argument is out of range.
        """
        stage = make_stage(seed, duration, fps, size, sample_rate)
        return self._render(seed, stage)

    @abstractmethod
    def _render(self, seed: int, stage: Stage) -> WorldExample:
        """Render ``seed`` on a checked grid."""

    @abstractmethod
    def detect(self, clip: Clip, truth: dict[str, Any]) -> Detection:
        """Measure a clip, possibly an imperfect generated one, against what it should show.

        Raises:
            ValueError: The clip lacks picture or sound, or ``truth`` is of another world.
        """


def make_stage(seed: int, duration: float, fps: Rate, size: int, sample_rate: int) -> Stage:
    """Check the arguments of `World.render` and put them on whole frames and samples."""
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; use 0 or above")
    if not MIN_DURATION <= duration < math.inf:
        raise ValueError(f"duration {duration} s is not in [{MIN_DURATION}, inf); change it")
    if size < MIN_SIZE:
        raise ValueError(f"size {size} is below {MIN_SIZE} pixels; ask for a larger picture")
    if sample_rate < 4_000:
        raise ValueError(f"sample_rate {sample_rate} is below 4000 per second; raise it")
    rate = as_rate(fps)
    num_frames = count(duration, rate)
    num_samples = count(Fraction(num_frames) / rate, sample_rate)
    return Stage(
        num_frames=num_frames,
        fps=rate,
        size=size,
        num_samples=num_samples,
        sample_rate=sample_rate,
    )


def spread_out(times: Sequence[float], duration: float) -> bool:
    """Whether times are at least `MIN_GAP` apart and none is within `QUIET_EDGE` of either end."""
    ordered = np.sort(np.asarray(times, dtype=np.float64))
    if ordered.size == 0:
        return True
    inside = ordered[0] >= QUIET_EDGE and ordered[-1] <= duration - QUIET_EDGE
    return bool(inside and (np.diff(ordered) >= MIN_GAP).all())


def timed(start: float, end: float, duration: float, text: str, track: str, **fields: Any) -> Event:
    """An event in seconds, cut to the clip."""
    return Event.at(max(0.0, start), min(end, duration), text, track, **fields)  # type: ignore[arg-type]


def build_caption(stage: Stage, text: str, events: Sequence[Event]) -> TimedCaption:
    """A caption of the whole stage with its events in order of start."""
    ordered = sorted(events, key=lambda event: (event.start_us, event.end_us, event.track))
    return TimedCaption(duration_us=stage.duration_us, text=text, events=tuple(ordered))


def build_clip(
    stage: Stage, frames: np.ndarray, waveform: np.ndarray, caption: TimedCaption
) -> Clip:
    """A clip of float frames in 0..255 ``(F, H, W, 3)`` and a mono waveform ``(S,)``."""
    picture = np.clip(np.rint(frames), 0, 255).astype(np.uint8)
    sound = np.clip(waveform, -0.99, 0.99).astype(np.float32)[None]
    return Clip(
        frames=picture,
        fps=stage.fps,
        waveform=sound,
        sample_rate=stage.sample_rate,
        caption=caption,
    )


def check_measurable(clip: Clip, truth: dict[str, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames ``(F, H, W, 3)`` and mono waveform ``(S,)`` of a clip that world ``name`` can measure.

    Raises:
        ValueError: The clip lacks picture or sound, or the truth is of another world.
    """
    if truth.get("world") != name:
        found = truth.get("world")
        raise ValueError(f"truth is of world {found!r}, not {name!r}; use that world's detector")
    if clip.frames is None or len(clip.frames) < 3:
        raise ValueError(f"a clip needs at least 3 frames to be measured by {name!r}")
    if clip.waveform is None or clip.waveform.shape[-1] == 0:
        raise ValueError(f"a clip needs sound to be measured by {name!r}")
    return clip.frames, clip.waveform.mean(axis=0)
