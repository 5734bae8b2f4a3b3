"""Clips of a run to a training dataset: those that pass a filter, with captions, and latents where wanted."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from avgen import media
from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen.data.exclusion import read_exclusion
from avgen.data.quantise import LatentDtype
from avgen.data.schema import DatasetInfo
from avgen.data.shards import Example
from avgen_data_prep.annotate import annotations
from avgen_data_prep.build import Job, Record, Source, fingerprint
from avgen_data_prep.encode import LatentEncoder, Weights
from avgen_data_prep.pipeline.manifest import stage_keys
from avgen_data_prep.pipeline.select import select
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.pipeline.stage import Row
from avgen_data_prep.pipeline.work import Work

_RIGHTS = ("source_sha256", "licence", "consent", "faces")
_NEEDED = ("captions", "num_frames", "fps_numerator")


@dataclass(frozen=True, kw_only=True)
class PackSource(Source):
    """The clips of a run.

    Attributes:
        run: Folder of the run.
        where: Filter (see `select`); empty passes all.
        exclude: File of hashes never to train on; None: there is none.
        weights: Codecs; None writes no latents.
        keep_media: Copy the clips' MP4 files.
        latent_dtype: How latents are stored.
        sample_rate: Waveform samples per second, where no codec says.
        shard_size: Clips per shard.
    """

    run: Path
    where: str = ""
    exclude: Path | None = None
    weights: Weights | None = None
    keep_media: bool = True
    latent_dtype: LatentDtype = "float16"
    sample_rate: int = 16_000
    shard_size: int = 256

    def __post_init__(self) -> None:
        if self.weights is None and not self.keep_media:
            raise PipelineError("neither latents nor media asked for; give codec weights or media")

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def rows(self) -> list[Row]:
        """The rows that pass, with a person's captions where a clip is annotated.

        Raises:
            PipelineError: None does, the run made no captions, or an annotation is damaged.
        """
        table = select(self.run, self.where)
        missing = [name for name in _NEEDED if name not in table.column_names]
        if missing:
            raise PipelineError(
                f"{self.run}: the manifest lacks {missing}; run a pipeline with `cut` and `captions`"
            )
        if not table.num_rows:
            raise PipelineError(f"{self.run}: no clip passes the filter {self.where!r}")
        if self.exclude is not None:
            table = table.filter(pa.array(~read_exclusion(self.exclude).excluded(table)))
            if not table.num_rows:
                raise PipelineError(f"{self.exclude}: every clip that passes is on this list")
        bare = table["captions"].null_count
        if bare:
            raise PipelineError(
                f"{self.run}: {bare} clips have no captions; run the whole pipeline, or give "
                "--where 'captions is not null'"
            )
        return annotations.replaced(self.run, table.to_pylist())

    @cached_property
    def _encoder(self) -> LatentEncoder:
        return LatentEncoder.load(self.weights) if self.weights else LatentEncoder(None, None)

    def info(self) -> DatasetInfo:
        """Codecs, the filter, and the keys of the stages."""
        encoder = self._encoder
        for size in {(row["height"], row["width"]) for row in self.rows if row["num_frames"]}:
            for side in size if self.weights else ():
                encoder.check(size=side, sample_rate=self._rate)
        settings = {
            "kind": "run",
            "where": self.where,
            "excluded": self.exclude and read_exclusion(self.exclude).fingerprint,
            "stages": stage_keys(self.run),
            "media": self.keep_media,
            "sample_rate": self._rate,
        }
        return DatasetInfo(
            video_codec=encoder.video_info,
            audio_codec=encoder.audio_info,
            latent_dtype=self.latent_dtype,
            settings=settings,
        )

    @property
    def _rate(self) -> int:
        return self._encoder.audio.sample_rate if self._encoder.audio else self.sample_rate

    def jobs(self) -> list[Job]:
        """Shards of clips in order of their ids."""
        info, jobs = self.info().to_dict(), []
        for start in range(0, len(self.rows), self.shard_size):
            rows = self.rows[start : start + self.shard_size]
            key = fingerprint(info, [json.dumps(row, default=str) for row in rows])
            items = tuple(json.dumps(row, default=str) for row in rows)
            jobs.append(Job(f"shard-{len(jobs):05d}.tar", key, items))
        return jobs

    def open(self) -> Callable[[Job, list[Record]], Iterator[Example]]:
        """Return what reads and encodes a shard's clips."""
        work = Work(Path(), self.run)

        def make(job: Job, records: list[Record]) -> Iterator[Example]:
            rows = [json.loads(item) for item in job.items]
            for start in range(0, len(rows), self._encoder.batch_size):
                batch = rows[start : start + self._encoder.batch_size]
                clips = [self._clip(work, row) for row in batch]
                for row, clip, arrays in zip(
                    batch, clips, self._encoder.encode(clips), strict=True
                ):
                    yield self._example(work, row, clip, arrays)

        return make

    def _clip(self, work: Work, row: Row) -> Clip:
        audio = self._encoder.audio
        path = work.clip_file(row["id"])
        return media.read(
            path, sample_rate=self._rate, channels=audio.audio_channels if audio else None
        )

    def _example(self, work: Work, row: Row, clip: Clip, arrays: dict[str, Any]) -> Example:
        captions = tuple(TimedCaption.from_json(caption) for caption in json.loads(row["captions"]))
        media_bytes = work.clip_file(row["id"]).read_bytes() if self.keep_media else None
        metadata = {name: value for name, value in row.items() if name not in ("id", "captions")}
        return Example.of_clip(
            clip,
            id=row["id"],
            captions=captions,
            source=row["source"],
            metadata=metadata,
            media=media_bytes,
            latents=arrays,
            **{name: row.get(name) for name in _RIGHTS},
        )
