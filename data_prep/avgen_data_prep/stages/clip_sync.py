"""By how much the sound of a clip is still late, after its source was put right."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from avgen_data_prep.pipeline.stage import Measure, Row
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.stages.mel import RATE, mono
from avgen_data_prep.stages.pictures import shrunk
from avgen_data_prep.stages.reading import fitted
from avgen_data_prep.stages.source_sync import estimate_offset

_SHORT_SIDE = 64


@dataclass(frozen=True, kw_only=True)
class ClipSync(Measure):
    """The A/V offset of each clip, by the method of `source_sync`.

    One clip holds few events, so the offset is to be believed only with a high confidence; a filter
    should ask for both, or pass clips whose confidence is low. Fails on: sounds whose cause is not
    seen, periodic events (any period may be taken), offsets above half a second. When within a frame
    something happened cannot be seen: half a frame of error remains.

    Columns:
        offset_ms: Milliseconds, positive: the sound is late; null where nothing can be told (no
            picture, no sound, below five frames, no onset or no sudden change of the picture).
        offset_confidence: 0 to 1: how well onsets and changes agree at that offset; null with it.
    """

    name: ClassVar[str] = "clip_sync"
    writes: ClassVar[pa.Schema] = pa.schema(
        [("offset_ms", pa.float64()), ("offset_confidence", pa.float64())]
    )

    def measure(self, row: Row, work: Work) -> Row:
        """See the columns of the class."""
        clip = work.clip(row)
        if clip.frames is None or clip.waveform is None:
            return {}
        height, width = clip.frames.shape[1:3]
        small = shrunk(clip.frames, *fitted(height, width, _SHORT_SIDE))
        wave = mono(clip.waveform, clip.sample_rate)[None]
        estimate = estimate_offset(clip.replace(frames=small, waveform=wave, sample_rate=RATE))
        if estimate is None:
            return {}
        offset, confidence = estimate
        return {"offset_ms": round(offset, 1), "offset_confidence": round(confidence, 3)}
