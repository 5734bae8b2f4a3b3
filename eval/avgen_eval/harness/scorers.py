"""From extracts to values: scorers of single clips, by the names that suites use.

Scoring is cheap and reads extracts alone, so a new window or a new caption costs no decoding.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from avgen.caption import TimedCaption
from avgen.measure.onsets import Curve
from avgen_eval.harness.cache import Extract
from avgen_eval.harness.extractors import (
    Extractor,
    LearnedSyncValues,
    PhysicsValues,
    PictureEvents,
    ReconstructionValues,
    SignalValues,
    SoundEvents,
    TemporalValues,
    stored_motion,
)
from avgen_eval.learned.sync import LearnedSyncMetric
from avgen_eval.metrics.base import ClipMetric, Field, Values
from avgen_eval.metrics.legacy import LegacyAVAlign
from avgen_eval.metrics.physics import PhysicsMetric
from avgen_eval.metrics.reconstruction import ReconstructionMetric
from avgen_eval.metrics.signal import SignalMetric
from avgen_eval.metrics.sync import SyncMetric
from avgen_eval.metrics.temporal import TemporalMetric
from avgen_eval.metrics.timing import TimingMetric
from avgen_eval.requested import Requested, requested_moments


@dataclass(frozen=True, kw_only=True)
class About:
    """What a scorer may know of a clip besides its extracts."""

    duration: float
    fps: float | None
    caption: TimedCaption | None


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Times of one stream in seconds, in order: what the caption asks for, and what was found."""

    requested: tuple[float, ...]
    found: tuple[float, ...]


def moments(
    about: About, sound: Sequence[float] | None, picture: Sequence[float] | None
) -> dict[str, Moments]:
    """Requested and found times by stream; a stream in which nobody looked is left out."""
    asked = Requested() if about.caption is None else requested_moments(about.caption)
    pairs = {"sound": (asked.sound, sound), "picture": (asked.picture, picture)}
    return {
        stream: Moments(requested=wanted, found=tuple(found))
        for stream, (wanted, found) in pairs.items()
        if found is not None
    }


@dataclass(frozen=True, kw_only=True)
class ClipScorer(ABC):
    """Values of one clip; a dataclass whose fields are its settings."""

    name: ClassVar[str]
    version: ClassVar[int]
    metric: ClassVar[type[ClipMetric]]

    @property
    def fields(self) -> Mapping[str, Field]:
        """Unit and direction of each value."""
        return self.metric.fields

    @property
    def signature(self) -> str:
        """Name, version and those of the extractors that it reads."""
        return "+".join([f"{self.name}-v{self.version}", *(e.signature for e in self.extractors)])

    @property
    @abstractmethod
    def extractors(self) -> tuple[Extractor, ...]:
        """What it reads."""

    @abstractmethod
    def score(self, extracts: Mapping[str, Extract], about: About) -> Values | str:
        """Values by name, or why there are none."""

    def curves(self, extracts: Mapping[str, Extract], about: About) -> Mapping[str, Curve]:
        """Values in the course of the clip, by name, that are kept with its record; none by default."""
        return {}

    def events(self, extracts: Mapping[str, Extract], about: About) -> dict[str, Moments]:
        """Requested and found times by stream, which are kept with its record; none by default."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Sync(ClipScorer):
    """Sound events against picture events."""

    name: ClassVar[str] = "sync"
    version: ClassVar[int] = 1
    metric: ClassVar[type[ClipMetric]] = SyncMetric

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """Events of both streams."""
        return (SoundEvents(), PictureEvents())

    def score(self, extracts: Mapping[str, Extract], about: About) -> Values | str:
        """See `SyncMetric`."""
        sound, picture = (extracts.get(e.signature) for e in self.extractors)
        if sound is None or picture is None:
            return "needs picture and sound"
        return SyncMetric().measure(
            sound_times=sound.arrays["times"].tolist(),
            sound_strengths=sound.arrays["strengths"].tolist(),
            picture_times=picture.arrays["times"].tolist(),
            picture_strength=stored_motion(picture).strength,
            duration=about.duration,
        )


@dataclass(frozen=True, kw_only=True)
class Timing(ClipScorer):
    """Events against the timed caption."""

    name: ClassVar[str] = "timing"
    version: ClassVar[int] = 1
    metric: ClassVar[type[ClipMetric]] = TimingMetric

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """Events of both streams."""
        return (SoundEvents(), PictureEvents())

    def score(self, extracts: Mapping[str, Extract], about: About) -> Values | str:
        """See `TimingMetric`."""
        if about.caption is None:
            return "needs a caption"
        if not about.caption.events:
            return "needs a caption with timed events"
        sound, picture = self._times(extracts)
        return TimingMetric().measure(about.caption, sound_times=sound, picture_times=picture)

    def events(self, extracts: Mapping[str, Extract], about: About) -> dict[str, Moments]:
        """Requested moments, onsets and impacts."""
        return moments(about, *self._times(extracts))

    def _times(self, extracts: Mapping[str, Extract]) -> list[list[float] | None]:
        found = (extracts.get(e.signature) for e in self.extractors)
        return [None if extract is None else extract.arrays["times"].tolist() for extract in found]


@dataclass(frozen=True, kw_only=True)
class Legacy(ClipScorer):
    """AV-Align in its four published forms, on avgen's onsets and flow."""

    name: ClassVar[str] = "legacy_av_align"
    version: ClassVar[int] = 1
    metric: ClassVar[type[ClipMetric]] = LegacyAVAlign

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """Events of both streams."""
        return (SoundEvents(), PictureEvents())

    def score(self, extracts: Mapping[str, Extract], about: About) -> Values | str:
        """See `LegacyAVAlign`."""
        sound, picture = (extracts.get(e.signature) for e in self.extractors)
        if sound is None or picture is None or about.fps is None:
            return "needs picture and sound"
        flow = stored_motion(picture).speed.values
        return LegacyAVAlign().measure(audio_peaks=sound.arrays["times"], flow=flow, fps=about.fps)


@dataclass(frozen=True, kw_only=True)
class _Direct(ClipScorer):
    """Values that the extractor has measured already."""

    source: ClassVar[Extractor]
    needs: ClassVar[str]

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """The one extractor."""
        return (self.source,)

    def score(self, extracts: Mapping[str, Extract], about: About) -> Values | str:
        """The stored values."""
        extract = extracts.get(self.source.signature)
        return self.needs if extract is None else extract.values


@dataclass(frozen=True, kw_only=True)
class Signal(_Direct):
    """Level, peak, bandwidth, stereo of the sound."""

    name: ClassVar[str] = "signal"
    version: ClassVar[int] = 1
    metric: ClassVar[type[ClipMetric]] = SignalMetric
    source: ClassVar[Extractor] = SignalValues()
    needs: ClassVar[str] = "needs sound"


@dataclass(frozen=True, kw_only=True)
class Temporal(_Direct):
    """Freezes, duplicates, flicker, cuts, motion of the picture."""

    name: ClassVar[str] = "temporal"
    version: ClassVar[int] = 1
    metric: ClassVar[type[ClipMetric]] = TemporalMetric
    source: ClassVar[Extractor] = TemporalValues()
    needs: ClassVar[str] = "needs a picture"


@dataclass(frozen=True, kw_only=True)
class Reconstruction(_Direct):
    """A decoded clip against its original."""

    name: ClassVar[str] = "reconstruction"
    version: ClassVar[int] = 1
    metric: ClassVar[type[ClipMetric]] = ReconstructionMetric
    source: ClassVar[Extractor] = ReconstructionValues()
    needs: ClassVar[str] = "needs a reference of equal size and length"


@dataclass(frozen=True, kw_only=True)
class Physics(_Direct):
    """Where and when things move, against a reference (Physics-IQ)."""

    name: ClassVar[str] = "physics"
    version: ClassVar[int] = 1
    metric: ClassVar[type[ClipMetric]] = PhysicsMetric
    source: ClassVar[Extractor] = PhysicsValues()
    needs: ClassVar[str] = "needs a reference picture of equal size and length"


@dataclass(frozen=True, kw_only=True)
class LearnedSync(_Direct):
    """Offset by the project's own network."""

    name: ClassVar[str] = "learned_sync"
    version: ClassVar[int] = 1
    metric: ClassVar[type[ClipMetric]] = LearnedSyncMetric
    source: ClassVar[Extractor] = LearnedSyncValues()
    needs: ClassVar[str] = "needs picture and sound"
