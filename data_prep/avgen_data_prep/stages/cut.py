"""From sources to clips: within shots, at a constant rate, the sound put where the picture is."""

import logging
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pyarrow as pa

from avgen import media
from avgen.clip import Clip
from avgen.clock import MICROSECONDS, as_rate, us_from_seconds
from avgen_data_prep.pipeline.stage import Row, Split, StageError, clip_id
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.stages.reading import fitted, read_span, refusing

_SAMPLE_RATE = 48_000
# A shot counts as so many frames even where rounded times make it this much shorter.
_SLACK = Fraction(1, 20)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cut(Split):
    """Clips within shots: MP4 files of H.264 and AAC at a constant rate and 48 kHz.

    A clip starts with the first picture of its shot, or where the clip before it ends; its frames
    are those on screen at the middle of each interval (see `read_span`), its sound begins with its
    first frame to the sample. Captions and requests inside the source are not copied.

    Columns: ``start_us`` and ``duration_us`` (in the source, from the earliest start of its
    streams); ``num_frames``, ``height``, ``width`` (pixels; all 0 without a picture);
    ``fps_numerator``, ``fps_denominator``; ``num_samples``, ``sample_rate``, ``channels`` (all 0
    without sound); ``sound_shift_us`` (by how much the sound was moved; negative: it was late);
    ``source_dropped_us`` (of the whole source, what is in no clip: shots and ends too short, and
    where the shifted sound has no picture to go with).

    Attributes:
        seconds_min: Shortest clip.
        seconds_max: Longest clip; longer shots become several.
        fps: Frames per second of the clips.
        time_stride: Clips have ``1 + k * time_stride`` frames, as causal codecs need; 1 takes any.
        size: Shorter side in pixels; pictures are never enlarged. None keeps the source's.
        square: Cut the longer side to the shorter, at the centre.
        multiple: Both sides are cut to a multiple of this.
        min_confidence: Of the source's offset, for the sound to be moved.
        min_share: Of the source's windows that agree on it, likewise.
        crf: Picture quality of x264: 0 is lossless, 23 is typical, smaller is better.
        preset: Speed of x264.
    """

    name: ClassVar[str] = "cut"
    reads: ClassVar[tuple[str, ...]] = (
        "shot_us",
        "source_height",
        "source_width",
        "source_channels",
        "source_offset_ms",
        "source_offset_confidence",
        "source_offset_share",
    )
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            ("start_us", pa.int64()),
            ("duration_us", pa.int64()),
            ("num_frames", pa.int32()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("fps_numerator", pa.int32()),
            ("fps_denominator", pa.int32()),
            ("num_samples", pa.int64()),
            ("sample_rate", pa.int32()),
            ("channels", pa.int32()),
            ("sound_shift_us", pa.int64()),
            ("source_dropped_us", pa.int64()),
        ]
    )
    seconds_min: float = 1.0
    seconds_max: float = 10.0
    fps: float = 25.0
    time_stride: int = 4
    size: int | None = 256
    square: bool = False
    multiple: int = 16
    min_confidence: float = 0.65
    min_share: float = 0.7
    crf: float = 16
    preset: str = "fast"

    def __post_init__(self) -> None:
        for name in ("fps", "seconds_min", "time_stride", "multiple"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give more than 0")
        if self.size is not None and self.size < self.multiple:
            raise ValueError(f"size is {self.size}; give at least {self.multiple}, the multiple")
        if self._frames_max < self._frames_min:
            stride, rate = self.time_stride, float(self.rate)
            raise ValueError(
                f"no clip of {self.seconds_min} to {self.seconds_max} s has 1 + {stride}k frames "
                f"at {rate:g} per second; seconds_max of {self._frames_min / rate:.4f} allows one"
            )

    @property
    def rate(self) -> Fraction:
        """Frames per second, exact."""
        return as_rate(self.fps)

    @property
    def _frames_min(self) -> int:
        least = -(-Fraction(str(self.seconds_min)) * self.rate // 1)
        return 1 + -(-max(0, int(least) - 1) // self.time_stride) * self.time_stride

    @property
    def _frames_max(self) -> int:
        return self._on_grid(int(Fraction(str(self.seconds_max)) * self.rate))

    def _on_grid(self, frames: int) -> int:
        """The largest number of frames on the grid that is not above ``frames``; 0 for none."""
        return 0 if frames < 1 else 1 + (frames - 1) // self.time_stride * self.time_stride

    def split(self, row: Row, work: Work) -> list[Row]:
        """See the columns of the class."""
        shift_us = self._shift(row)
        spans = self._spans(row["shot_us"], shift_us)
        if not spans:
            longest = max((end - start for start, end in pairwise(row["shot_us"])), default=0)
            raise StageError(
                f"no shot is as long as {self.seconds_min:g} s, the longest is "
                f"{longest / MICROSECONDS:.2f} s; give a smaller seconds_min"
            )
        total = row["shot_us"][-1] - row["shot_us"][0]
        dropped = total - sum(self._microseconds(frames) for _, frames in spans)
        _log.info("%s: %d clips, %.2f s left over", row["source"], len(spans), dropped / 1e6)
        rest = {"sound_shift_us": shift_us, "source_dropped_us": max(0, dropped)}
        return [self._clip(row, work, start, frames, rest) for start, frames in spans]

    def _shift(self, row: Row) -> int:
        """Microseconds by which the sound is moved."""
        offset = row["source_offset_ms"]
        if offset is None or row["source_height"] is None or row["source_channels"] is None:
            return 0
        confident = row["source_offset_confidence"] >= self.min_confidence
        return -round(1000 * offset) if confident and self._agreed(row) else 0

    def _agreed(self, row: Row) -> bool:
        return row["source_offset_share"] >= self.min_share

    def _spans(self, shot_us: list[int], shift_us: int) -> list[tuple[int, int]]:
        """Start and frames of each clip: as long as may be, the rest where it is long enough."""
        spans = []
        # Where the sound is moved away from an end of the source, there is silence and no sound.
        lead = -(-Fraction(max(0, shift_us), MICROSECONDS) * self.rate // 1)
        first = shot_us[0] + self._microseconds(int(lead))
        last = shot_us[-1] + min(0, shift_us)
        for shot_start, shot_end in pairwise(shot_us):
            start, end = max(shot_start, first), min(shot_end, last)
            room = int(Fraction(max(0, end - start), MICROSECONDS) * self.rate + _SLACK)
            done = 0
            while self._on_grid(room - done) >= self._frames_min:
                frames = min(self._frames_max, self._on_grid(room - done))
                spans.append((start + self._microseconds(done), frames))
                done += frames
        return spans

    def _microseconds(self, frames: int) -> int:
        return us_from_seconds(frames / self.rate)

    def _clip(self, row: Row, work: Work, start_us: int, frames: int, rest: Row) -> Row:
        duration_us = self._microseconds(frames)
        name = clip_id(row["source_sha256"], start_us, start_us + duration_us, work.key)
        with refusing():
            clip = self._read(row, work, start_us, frames, rest["sound_shift_us"])
        path = work.clip_file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        media.write(path, clip, crf=self.crf, preset=self.preset)
        seen = (0, 0, 0) if clip.frames is None else clip.frames.shape[:3]
        sound = np.zeros((0, 0)) if clip.waveform is None else clip.waveform
        return {
            "id": name,
            "start_us": start_us,
            "duration_us": duration_us,
            "num_frames": seen[0],
            "height": seen[1],
            "width": seen[2],
            "fps_numerator": self.rate.numerator,
            "fps_denominator": self.rate.denominator,
            "num_samples": sound.shape[1],
            "sample_rate": _SAMPLE_RATE if len(sound) else 0,
            "channels": len(sound),
            **rest,
        }

    def _read(self, row: Row, work: Work, start_us: int, frames: int, shift_us: int) -> Clip:
        picture = row["source_height"] is not None
        size = None
        if picture:
            sides = row["source_height"], row["source_width"]
            size = fitted(*sides, self.size, square=self.square, multiple=self.multiple)
        channels = row["source_channels"]
        clip = read_span(
            work.source(row),
            start_us,
            frames,
            self.rate,
            sound_offset_us=-shift_us,
            picture=picture,
            size=size,
            sample_rate=_SAMPLE_RATE,
            channels=None if channels is None else min(channels, 2),
        )
        return clip.replace(caption=None, request={})
