"""Live streams: when their chunks arrived, and how that plays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from avgen_eval.arrivals import SUFFIX
from avgen_eval.harness.cache import Extract
from avgen_eval.harness.decode import Decoded
from avgen_eval.harness.extractors import Extractor, Need
from avgen_eval.harness.scorers import About, ClipScorer
from avgen_eval.metrics.base import ClipMetric, Values
from avgen_eval.metrics.live import Arrivals, LiveMetric


@dataclass(frozen=True, kw_only=True)
class ArrivalTimes(Extractor):
    """When the chunks of each stream arrived, and what they hold."""

    name: ClassVar[str] = "arrivals"
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset()

    def applies(self, decoded: Decoded) -> bool:
        """Whether arrivals came with the clip and could be read."""
        return decoded.arrivals is not None

    def run(self, decoded: Decoded) -> Extract:
        """``video`` and ``audio``, ``(2, N)``: wall-clock seconds since the request, media seconds."""
        assert decoded.arrivals is not None
        return Extract(
            arrays={
                stream: np.stack([arrivals.times, arrivals.durations])
                for stream, arrivals in decoded.arrivals.items()
            }
        )


@dataclass(frozen=True, kw_only=True)
class Live(ClipScorer):
    """Latency and continuity, for a player that collects 0.2 s before it starts."""

    name: ClassVar[str] = "live"
    version: ClassVar[int] = 1
    metric: ClassVar[type[ClipMetric]] = LiveMetric

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """When chunks arrived."""
        return (ArrivalTimes(),)

    def score(self, extracts: Mapping[str, Extract], about: About) -> Values | str:
        """See `LiveMetric`."""
        extract = extracts.get(ArrivalTimes().signature)
        if extract is None:
            return f"needs the times at which chunks arrived, beside the clip as <its name>{SUFFIX}"
        picture, sound = (
            Arrivals(*extract.arrays[stream]) if stream in extract.arrays else None
            for stream in ("video", "audio")
        )
        return LiveMetric().measure(picture, sound)
