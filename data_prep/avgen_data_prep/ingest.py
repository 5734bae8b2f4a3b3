"""Folders of media to a dataset: windows, captioned from sidecars or by candidate events."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avgen import media
from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen.clock import count, frames_on_grid, us_from_seconds
from avgen.data.schema import DatasetError, DatasetInfo, atomic
from avgen.data.shards import Example
from avgen_data_prep.build import Job, Progress, Record, Source, build, fingerprint
from avgen_data_prep.encode import LatentEncoder, Weights
from avgen_data_prep.media_bytes import mp4_bytes
from avgen_data_prep.proposals import propose_events
from avgen_data_prep.scan import MediaFile, read_captions, scan

FAILED = "failed.parquet"
_SHARD_BYTES = 64 << 20
_SHARD_FILES = 64
_TIME_STRIDE = 4
_RECORDS = pa.schema([(name, pa.string()) for name in ("file", "outcome", "reason")])


@dataclass(frozen=True, kw_only=True)
class IngestSource(Source):
    """Windows cut from the media files of a folder.

    Attributes:
        folder: Searched with all folders below it; hidden files are left alone.
        out: The dataset, which is not searched.
        seconds: Length of a window, put on the grid of the video codec; what is left at a file's
            end is dropped.
        size: Pixels in height and width: pictures are scaled to cover it and cut at the centre.
        fps: Frames per second.
        sample_rate: Waveform samples per second, mono.
        weights: Codecs; None writes no latents.
    """

    folder: Path
    out: Path
    seconds: float = 1.96
    size: int = 64
    fps: int = 25
    sample_rate: int = 16_000
    weights: Weights | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "size", "fps", "sample_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)} must be positive")
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder}: no such folder; give a folder of media files")

    @cached_property
    def scanned(self) -> tuple[list[MediaFile], list[Record]]:
        """Media files in order of their path, and a record of every other file."""
        files, records = scan(self.folder, self.out)
        if not files:
            raise DatasetError(f"{self.folder}: holds no media files")
        return files, records

    @cached_property
    def num_frames(self) -> int:
        """Frames of a window."""
        return frames_on_grid(count(self.seconds, self.fps), self._time_stride)

    @property
    def _time_stride(self) -> int:
        return self._encoder.video.time_stride if self._encoder.video else _TIME_STRIDE

    @property
    def window(self) -> Fraction:
        """Seconds of a window."""
        return Fraction(self.num_frames, self.fps)

    @cached_property
    def _encoder(self) -> LatentEncoder:
        if self.weights is None:
            return LatentEncoder(None, None)
        encoder = LatentEncoder.load(self.weights)
        encoder.check(size=self.size, sample_rate=self.sample_rate)
        return encoder

    def __getstate__(self) -> dict[str, Any]:
        return asdict(self) | {"weights": self.weights}

    def info(self) -> DatasetInfo:
        """Codecs and settings."""
        names = ("size", "fps", "sample_rate")
        settings = {name: getattr(self, name) for name in names}
        settings |= {"kind": "ingest", "num_frames": self.num_frames}
        return DatasetInfo(
            video_codec=self._encoder.video_info,
            audio_codec=self._encoder.audio_info,
            settings=settings,
        )

    def jobs(self) -> list[Job]:
        """Shards of neighbouring files, up to a size."""
        groups: list[list[MediaFile]] = []
        room = 0
        for file in self.scanned[0]:
            if not groups or room < file.size or len(groups[-1]) == _SHARD_FILES:
                groups.append([])
                room = _SHARD_BYTES
            groups[-1].append(file)
            room -= file.size
        info = self.info().to_dict()
        return [
            Job(f"shard-{number:05d}.tar", fingerprint(info, [f.key for f in group]), tuple(group))
            for number, group in enumerate(groups)
        ]

    def open(self) -> Callable[[Job, list[Record]], Iterator[Example]]:
        """Return what cuts, captions and encodes a shard's files."""

        def make(job: Job, records: list[Record]) -> Iterator[Example]:
            waiting: list[tuple[Clip, dict[str, Any]]] = []
            for file in job.items:
                for cut in self._cut(file, records):
                    waiting.append(cut)
                    if len(waiting) == self._encoder.batch_size:
                        yield from self._finish(waiting)
                        waiting = []
            yield from self._finish(waiting)

        return make

    def counts(self, rows: int, records: list[Record]) -> dict[str, Any]:
        """Files by what became of them; they add up to the files found."""
        files, others = self.scanned
        lost = Counter(r["outcome"] for r in [*records, *others])
        dropped = {name: lost[name] for name in ("failed", "duplicate", "sidecar", "ignored")}
        return {
            "clips": rows,
            "files_found": len(files) + sum(1 for r in others if r["outcome"] != "bad caption"),
            "files_used": len(files) - sum(1 for r in records if r["outcome"] == "failed"),
            **{f"files_{name}": number for name, number in dropped.items()},
            "files_partly_damaged": lost["damaged"],
            "captions_unreadable": lost["bad caption"],
        }

    def _cut(self, file: MediaFile, records: list[Record]) -> Iterator[tuple[Clip, dict[str, Any]]]:
        """Windows of one file; whatever is wrong with it ends as a record."""
        path = self.folder / file.name
        problems: list[str] = []
        windows = 0
        try:
            info = media.probe(path)
            captions = read_captions(self.folder, file, records) or _embedded(info)
            for start in self._starts(info):
                try:
                    clip = self._read(path, start)
                    yield self._described(file, clip, start, captions)
                    windows += 1
                except media.MediaError as error:
                    problems.append(f"from {float(start):.2f} s: {error.problem}; {error.fix}")
        except Exception as error:  # one file must never end the run
            problems.append(_reason(error))
        if problems:
            reason = (
                f"{len(problems)} windows lost, the first {problems[0]}" if windows else problems[0]
            )
            outcome = "damaged" if windows else "failed"
            records.append(Record(file=file.name, outcome=outcome, reason=reason))

    def _starts(self, info: media.MediaInfo) -> list[Fraction]:
        """Starts of the windows of a file.

        Raises:
            MediaError: Not decodable, where that is what it takes to learn the duration.
            ValueError: Shorter than a window.
        """
        duration = info.duration
        if duration is None:
            whole = media.read(info.path, fps=self.fps, sample_rate=self.sample_rate, size=(16, 16))
            duration = whole.duration
        windows = int((us_from_seconds(duration) + 1000) / us_from_seconds(self.window))
        if windows == 0:
            stride = self._time_stride
            longest = (max(0, int(duration * self.fps) - 1) // stride * stride + 1) / self.fps
            raise ValueError(
                f"{duration:.2f} s long, shorter than a window of {float(self.window):.2f} s; "
                f"use --seconds {longest:.2f} to have it"
            )
        return [self.window * number for number in range(windows)]

    def _read(self, path: Path, start: Fraction) -> Clip:
        return media.read(
            path,
            start=float(start),
            end=float(start + self.window),
            fps=self.fps,
            sample_rate=self.sample_rate,
            size=(self.size, self.size),
            channels=self._encoder.audio.audio_channels if self._encoder.audio else 1,
        )

    def _described(
        self, file: MediaFile, clip: Clip, start: Fraction, captions: list[TimedCaption]
    ) -> tuple[Clip, dict[str, Any]]:
        """A clip and the fields of its example."""
        first, last = float(start), float(start + self.window)
        if captions:
            cut = [caption.cropped(first, last) for caption in captions]
        else:
            cut = [neutral_caption(clip, self.window)]
        if not any(caption.events for caption in captions):
            events = propose_events(clip)
            cut = [caption.replace(events=events) for caption in cut]
        identity = f"{file.sha256}|{us_from_seconds(start)}|{us_from_seconds(self.window)}"
        fields = {
            "id": hashlib.sha256(identity.encode()).hexdigest()[:24],
            "captions": tuple(cut),
            "source": file.name,
            "metadata": {"start_us": us_from_seconds(start), "file_sha256": file.sha256},
        }
        return replace(clip, caption=cut[0]), fields

    def _finish(self, cuts: list[tuple[Clip, dict[str, Any]]]) -> Iterator[Example]:
        latents = self._encoder.encode([clip for clip, _ in cuts])
        for (clip, fields), arrays in zip(cuts, latents, strict=True):
            yield Example.of_clip(clip, media=mp4_bytes(clip), latents=arrays, **fields)


def ingest(
    source: IngestSource, *, workers: int = 0, progress: Progress | None = None
) -> tuple[DatasetInfo, list[Record]]:
    """Make the dataset; a rerun after a kill makes what is missing.

    Returns:
        The dataset's information and a record of every file that was not used, or not wholly; they
        are also written
        to ``failed.parquet``.

    Raises:
        DatasetError: No media files, or the folder holds another dataset.
    """
    info, records = build(source.out, source, workers=workers, progress=progress)
    unreadable = {record["file"] for record in records}
    others = [record for record in source.scanned[1] if record["file"] not in unreadable]
    records = sorted([*others, *records], key=lambda record: record["file"])
    told = [record for record in records if record["outcome"] not in ("sidecar", "ignored")]
    with atomic(source.out / FAILED) as temporary:
        pq.write_table(pa.Table.from_pylist(told, schema=_RECORDS), temporary)
    return info, records


def _reason(error: Exception) -> str:
    """What went wrong, without the path of the folder: records must not depend on where it lies."""
    if isinstance(error, media.MediaError):
        return f"{error.problem}; {error.fix}"
    return str(error) if isinstance(error, ValueError) else repr(error)


def _embedded(info: media.MediaInfo) -> list[TimedCaption]:
    """The caption that a file written by avgen carries."""
    stored = info.embedded.get("caption")
    return [TimedCaption.from_json(stored)] if stored else []


def neutral_caption(clip: Clip, window: Fraction) -> TimedCaption:
    """A caption that says only which streams there are."""
    seen, heard = clip.frames is not None, clip.waveform is not None
    text = (
        "a video with sound"
        if seen and heard
        else "a silent video"
        if seen
        else "a sound recording"
    )
    return TimedCaption(duration_us=us_from_seconds(window), text=text)
