"""By how much the sound of a whole source is late: what its windows agree on."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pyarrow as pa

from avgen import media
from avgen.clip import Clip
from avgen.clock import MICROSECONDS, as_rate
from avgen.measure.motion import measure_motion
from avgen.measure.offset import NOT_MEASURABLE, measure_offset
from avgen.measure.onsets import find_onsets, onset_train
from avgen_data_prep.pipeline.stage import Measure, Row
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.stages.reading import fitted, read_span, refusing

_SAMPLE_RATE = 16_000
_SHORT_SIDE = 64
_MAX_FPS = 30.0
_FRAMES_MIN = 5
_AGREE_MS = 25.0
# Soft attacks are dated late in the picture and agree less: the confident windows say when.
_SHARPNESS = 10


@dataclass(frozen=True, kw_only=True)
class SourceSync(Measure):
    """The constant A/V offset of a source.

    Windows within shots (a cut looks like an impact) are measured by themselves; the answer is the
    mean, weighted by the tenth power of the confidence, of the largest group that lies within 25 ms
    of one of them. Of 300 films of 10 to 60 s cut from clips of all worlds, with offsets up to 250 ms
    and a third of them with missing or shifted pictures, 239 with one pass the thresholds of `Cut`: 230
    are within 10 ms, half within 2.5 and the worst within 22. Sounds with a soft attack (the talker's)
    are dated some 20 ms early. Fails on: sources whose sounds have no visible cause, or whose offset
    drifts (the share tells) or exceeds half a second.

    Columns: ``source_offset_ms`` (positive: the sound is late; null where too few windows count and
    agree); ``source_offset_confidence`` (0 to 1, mean of the windows that agree, weighted likewise;
    null without an offset); ``source_offset_share`` (of the windows that count, by confidence, that
    agree; null where fewer than ``min_windows`` count).

    Attributes:
        min_confidence: Of a window that counts.
        min_windows: Windows that count and agree that it takes.
        max_windows: Windows that are looked at, spread over the source.
        seconds_min: Shortest window; shorter shots are not looked at.
        seconds_max: Longest window.
    """

    name: ClassVar[str] = "source_sync"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = (
        "shot_us",
        "source_fps",
        "source_height",
        "source_width",
        "source_channels",
    )
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            ("source_offset_ms", pa.float64()),
            ("source_offset_confidence", pa.float64()),
            ("source_offset_share", pa.float64()),
        ]
    )
    min_confidence: float = 0.5
    min_windows: int = 3
    max_windows: int = 60
    seconds_min: float = 1.2
    seconds_max: float = 6.0

    def __post_init__(self) -> None:
        if not 0 < self.seconds_min <= self.seconds_max / 2:
            raise ValueError(
                f"windows of {self.seconds_min} to {self.seconds_max} s: give a seconds_min above "
                "0 and a seconds_max of at least twice as much"
            )
        if not 1 <= self.min_windows <= self.max_windows:
            raise ValueError(
                f"min_windows is {self.min_windows} and max_windows {self.max_windows}; "
                "give 1 <= min_windows <= max_windows"
            )

    def measure(self, row: Row, work: Work) -> Row:
        """See the columns of the class."""
        if row["source_height"] is None or row["source_channels"] is None:
            return {}
        fps = as_rate(min(row["source_fps"], _MAX_FPS))
        size = fitted(row["source_height"], row["source_width"], _SHORT_SIDE)
        found = []
        with refusing():
            times = np.unique([float(time) for time in media.picture_times(work.source(row))])
            for start, end in self._windows(row["shot_us"]):
                frames = int(Fraction(end - start, MICROSECONDS) * fps + Fraction(1, 20))
                options = {"size": size, "sample_rate": _SAMPLE_RATE, "channels": 1}
                clip = read_span(work.source(row), start, frames, fps, **options)
                estimate = estimate_offset(clip, times - start / MICROSECONDS)
                if estimate is not None and estimate[1] >= self.min_confidence:
                    found.append(estimate)
        return self._agreed(found)

    def _windows(self, shot_us: list[int]) -> list[tuple[int, int]]:
        """Equal parts of the shots that are long enough, at most `max_windows` of them."""
        shortest, longest = (round(s * MICROSECONDS) for s in (self.seconds_min, self.seconds_max))
        windows = []
        for start, end in pairwise(shot_us):
            if end - start < shortest:
                continue
            parts = -(-(end - start) // longest)
            cuts = [start + (end - start) * i // parts for i in range(parts + 1)]
            windows += list(pairwise(cuts))
        if len(windows) <= self.max_windows:
            return windows
        return [windows[i * len(windows) // self.max_windows] for i in range(self.max_windows)]

    def _agreed(self, found: list[tuple[float, float]]) -> Row:
        if len(found) < self.min_windows:
            return {}
        groups = [[e for e in found if abs(e[0] - centre) <= _AGREE_MS] for centre, _ in found]
        agreed = np.array(max(groups, key=lambda group: sum(c for _, c in group)))
        share = round(float(agreed[:, 1].sum()) / sum(c for _, c in found), 3)
        if len(agreed) < self.min_windows:
            return {"source_offset_share": share}
        offset, confidence = np.average(agreed, axis=0, weights=agreed[:, 1] ** _SHARPNESS)
        return {
            "source_offset_ms": round(float(offset), 1),
            "source_offset_confidence": round(float(confidence), 3),
            "source_offset_share": share,
        }


def estimate_offset(clip: Clip, times: np.ndarray | None = None) -> tuple[float, float] | None:
    """Milliseconds by which the sound of a clip is late, and a confidence from 0 to 1.

    Sound onsets are slid along the sudden changes of the picture (`avgen.measure.offset`). None
    where there are none, or where no lag brings the two together.

    Args:
        clip: Read by `read_span`, which repeats a picture until the next one comes on.
        times: Seconds from the clip's start at which the file's pictures come on: what happened
            while one was repeated is dated between it and the next, not when the next is seen.
            None: the clip's own frames, evenly.
    """
    if clip.frames is None or clip.waveform is None:
        return None
    frames, came_on = clip.frames, None
    if times is not None:
        middles = (np.arange(clip.num_frames) + 0.5) / float(clip.fps)
        shown = np.maximum(np.searchsorted(times, middles, side="right") - 1, 0)
        new = np.flatnonzero(np.diff(shown, prepend=-1))
        # The first picture may have come on before the clip.
        frames, came_on = frames[new], np.maximum(times[shown[new]], 0.0)
    if len(frames) < _FRAMES_MIN:
        return None
    onsets = find_onsets(clip.waveform, clip.sample_rate)
    motion = measure_motion(frames, clip.fps, times=came_on)
    found = measure_offset(onset_train(*onsets, clip.duration), motion.strength, min_confidence=0)
    return None if found is NOT_MEASURABLE else (found.offset_ms or 0.0, found.confidence)
