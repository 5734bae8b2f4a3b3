"""A dataset with media to the same dataset with the latents of given codecs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from avgen.data.dataset import MediaDataset
from avgen.data.quantise import LatentDtype
from avgen.data.schema import DatasetInfo
from avgen.data.shards import Example
from avgen_data_prep.build import Job, Record, Source, fingerprint
from avgen_data_prep.encode import LatentEncoder, Weights
from avgen_data_prep.latent_loss import MEASURED_CLIPS, decode_loss

_FIELDS = ("folder", "weights", "keep_media", "latent_dtype")


@dataclass(frozen=True, kw_only=True)
class EncodeSource(Source):
    """The examples of a dataset, encoded (again) from their media.

    Attributes:
        folder: Dataset with MP4 members.
        weights: Codecs.
        keep_media: Copy the MP4 members too.
        latent_dtype: How latents are stored; with eight bits ``dataset.json`` counts what was lost.
    """

    folder: Path
    weights: Weights
    keep_media: bool = False
    latent_dtype: LatentDtype = "float16"

    @cached_property
    def _dataset(self) -> MediaDataset:
        return MediaDataset(self.folder)

    @cached_property
    def _encoder(self) -> LatentEncoder:
        return LatentEncoder.load(self.weights)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _FIELDS}

    def info(self) -> DatasetInfo:
        """Codecs, and the settings of the dataset that is read."""
        settings = self._dataset.info.settings | {"keep_media": self.keep_media}
        return DatasetInfo(
            video_codec=self._encoder.video_info,
            audio_codec=self._encoder.audio_info,
            latent_dtype=self.latent_dtype,
            settings=settings,
        )

    def jobs(self) -> list[Job]:
        """One shard per shard."""
        rows: dict[str, list[int]] = {}
        for index, shard in enumerate(self._dataset.manifest["shard"].to_pylist()):
            rows.setdefault(shard, []).append(index)
        hashes = self._dataset.manifest["sha256"].to_pylist()
        info = self.info().to_dict()
        return [
            Job(shard, fingerprint(info, [hashes[i] for i in indices]), tuple(indices))
            for shard, indices in rows.items()
        ]

    def open(self) -> Callable[[Job, list[Record]], Iterator[Example]]:
        """Return what reads and encodes a shard's examples."""

        def make(job: Job, records: list[Record]) -> Iterator[Example]:
            size = self._encoder.batch_size
            for start in range(0, len(job.items), size):
                indices = job.items[start : start + size]
                clips = [self._dataset.clip(index) for index in indices]
                latents = self._encoder.encode(clips)
                for index, clip, arrays in zip(indices, clips, latents, strict=True):
                    rest = self._dataset.provenance(index)
                    media = self._dataset.media(index) if self.keep_media else None
                    yield Example.of_clip(clip, latents=arrays, media=media, **rest)

        return make

    def counts(self, rows: int, records: list[Record]) -> dict[str, Any]:
        """Those of the dataset that is read, and what eight bits cost on its first clips."""
        counts = {k: v for k, v in self._dataset.info.counts.items() if k != "latent_loss"}
        if self.latent_dtype == "float16":
            return counts
        clips = [self._dataset.clip(i) for i in range(min(rows, MEASURED_CLIPS))]
        return counts | {"latent_loss": decode_loss(self._encoder, clips, self.latent_dtype)}
