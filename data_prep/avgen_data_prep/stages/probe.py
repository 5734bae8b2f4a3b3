"""What a source is, by its header, its first picture and the times of its packets."""

from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import ClassVar

import pyarrow as pa

from avgen import media
from avgen.clock import us_from_seconds
from avgen_data_prep.pipeline.stage import Measure, Row, StageError
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.stages.reading import refusing

# Pictures are stored this far out of order at most, so the last of a part may lack some before them.
_REORDERED = 16
_HOLE_SECONDS = 0.5
_MIN_JITTER = Fraction(1, 400)
_MAX_JITTER = Fraction(1, 10)


@dataclass(frozen=True, kw_only=True)
class Probe(Measure):
    """Facts of a source; all are null where it lacks the stream they are of.

    Fails where both streams have a hole of half a second and more: a stretch of the file is damaged.

    Columns: ``container`` (name of the format); ``source_duration_us`` (as the header claims, from
    the earliest start of a stream; null where the format has none); ``video_codec``; ``source_fps``
    (pictures per second: nominal, or the mean of what was looked at where it varies);
    ``variable_rate`` (pictures are not evenly spaced: an interval differs from the median one by
    over a tenth of it and over 2.5 ms); ``source_height`` and ``source_width`` (pixels of the
    picture turned upright); ``audio_codec``; ``source_sample_rate`` (Hz); ``source_channels``;
    ``video_start_us`` and ``audio_start_us`` (of the streams, after the earliest of them).

    Attributes:
        packets: Pictures, from the first, whose times are looked at; they are not decoded.
    """

    name: ClassVar[str] = "probe"
    version: ClassVar[int] = 2
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            ("container", pa.string()),
            ("source_duration_us", pa.int64()),
            ("video_codec", pa.string()),
            ("source_fps", pa.float64()),
            ("variable_rate", pa.bool_()),
            ("source_height", pa.int32()),
            ("source_width", pa.int32()),
            ("audio_codec", pa.string()),
            ("source_sample_rate", pa.int32()),
            ("source_channels", pa.int32()),
            ("video_start_us", pa.int64()),
            ("audio_start_us", pa.int64()),
        ]
    )
    packets: int = 2000

    def __post_init__(self) -> None:
        if self.packets < 2 * _REORDERED:
            raise ValueError(f"packets is {self.packets}; give at least {2 * _REORDERED}")

    def measure(self, row: Row, work: Work) -> Row:
        """See the columns of the class."""
        path = work.source(row)
        with refusing():
            info = media.probe(path)
            if info.duration is not None and info.duration <= 0:
                raise StageError("lasts 0 seconds; give a file with content")
            found: Row = {
                "container": info.container,
                "source_duration_us": info.duration and us_from_seconds(info.duration),
            }
            holes = media.holes(path, seconds=_HOLE_SECONDS)
            if holes:
                start, end = holes[0]
                raise StageError(
                    f"has a hole: neither picture nor sound from {start:.2f} to {end:.2f} s; "
                    "get the complete file"
                )
            if info.video is not None:
                found |= self._picture(path, info.video)
            if info.audio is not None:
                found |= {
                    "audio_codec": info.audio.codec,
                    "source_sample_rate": info.audio.sample_rate,
                    "source_channels": info.audio.channels,
                    "audio_start_us": us_from_seconds(info.audio.start),
                }
        return found

    def _picture(self, path: Path, info: media.VideoInfo) -> Row:
        times = media.picture_times(path, most=self.packets)
        if len(times) > self.packets - _REORDERED:
            times = times[:-_REORDERED]
        varies = _varies(times)
        with closing(media.read_pictures(path)) as pictures:
            first = next(pictures, None)
        if first is None:
            raise StageError("has no picture that decodes; re-encode the file")
        fps = (len(times) - 1) / (times[-1] - times[0]) if varies else info.fps
        return {
            "video_codec": info.codec,
            "source_fps": round(float(fps), 6),
            "variable_rate": varies,
            "source_height": first[2].shape[0],
            "source_width": first[2].shape[1],
            "video_start_us": us_from_seconds(times[0]),
        }


def _varies(times: list[Fraction]) -> bool:
    """Whether an interval between neighbours differs from the median one by more than rounding."""
    if len(times) < 3:
        return False
    steps = [after - before for before, after in pairwise(times)]
    usual = median(steps)
    slack = max(_MIN_JITTER, usual * _MAX_JITTER)
    return any(abs(step - usual) > slack for step in steps)
