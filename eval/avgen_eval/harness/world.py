"""Clips of worlds: what the world's known-answer detector finds in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from avgen_eval.harness.cache import Extract
from avgen_eval.harness.decode import Decoded
from avgen_eval.harness.extractors import Extractor, Need
from avgen_eval.harness.scorers import About, ClipScorer, Moments, moments
from avgen_eval.known import SUFFIX
from avgen_eval.metrics.base import ClipMetric, Values
from avgen_eval.metrics.world import WorldMetric


@dataclass(frozen=True, kw_only=True)
class WorldDetection(Extractor):
    """What the detector of the world finds that a clip says it shows."""

    name: ClassVar[str] = "world_detection"
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset({"video", "audio"})

    def applies(self, decoded: Decoded) -> bool:
        """Whether both streams are there, and the truth."""
        return super().applies(decoded) and decoded.truth is not None

    def run(self, decoded: Decoded) -> Extract:
        """``sound_times`` and ``picture_times`` in seconds; ``objects_visible`` and ``attributes``."""
        assert decoded.clip is not None
        assert decoded.truth is not None
        found = decoded.truth.detect(decoded.clip)
        return Extract(
            arrays={
                "sound_times": np.sort(np.array(found.sound_times, np.float64)),
                "picture_times": np.sort(np.array(found.picture_times, np.float64)),
            },
            values={
                "objects_visible": float(found.objects_visible),
                "attributes": {name: float(share) for name, share in found.attributes.items()},
            },
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """A stored detection, as `DetectionLike`; what is further measured is not kept."""

    sound_times: list[float]
    picture_times: list[float]
    objects_visible: float
    attributes: dict[str, float]
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class World(ClipScorer):
    """Events, objects and attributes by the detector of the world that a clip shows."""

    name: ClassVar[str] = "world"
    version: ClassVar[int] = 1
    metric: ClassVar[type[ClipMetric]] = WorldMetric

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """What the detector finds."""
        return (WorldDetection(),)

    def score(self, extracts: Mapping[str, Extract], about: About) -> Values | str:
        """See `WorldMetric`."""
        found = self._found(extracts)
        if found is None:
            return (
                f"needs picture and sound, and what a world knows of the clip as <its name>{SUFFIX}"
            )
        return WorldMetric().measure(about.caption, found)

    def events(self, extracts: Mapping[str, Extract], about: About) -> dict[str, Moments]:
        """Requested moments, and those of the detector."""
        found = self._found(extracts)
        return {} if found is None else moments(about, found.sound_times, found.picture_times)

    def _found(self, extracts: Mapping[str, Extract]) -> Found | None:
        extract = extracts.get(WorldDetection().signature)
        if extract is None:
            return None
        times = {name: array.tolist() for name, array in extract.arrays.items()}
        return Found(**times, **extract.values)
