"""Examples of a dataset folder by index."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avgen import media
from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen.data.schema import (
    STREAMS,
    DatasetError,
    check_identity,
    read_info,
    read_manifest,
)
from avgen.data.shards import ShardReader, parse_captions, parse_latents

Shape = tuple[tuple[int, ...] | None, ...]


class LatentExample(TypedDict):
    """One example: latents without a batch axis, None where the clip lacks the stream."""

    id: str
    video: Float[Tensor, "c t h w"] | None
    audio: Float[Tensor, "c l"] | None
    codes: Int[Tensor, "q l"] | None
    captions: tuple[TimedCaption, ...]
    fps: float
    duration: float


class LatentDataset:
    """Latents and captions of a dataset folder.

    Opening reads the manifest and nothing else; an item is two reads at known offsets. Instances
    can be shared with
    forked processes and pickled to spawned ones.

    Args:
        folder: Folder with ``dataset.json``.
        video_identity: Identity of the video codec that the latents must be of; None accepts any.
        audio_identity: Likewise for the audio codec.
        cache_bytes: Keep examples in memory up to about this many bytes; 0 keeps none.

    Raises:
        DatasetError: Not a dataset; newer, damaged, or stale (encoded with another codec).
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        video_identity: str | None = None,
        audio_identity: str | None = None,
        cache_bytes: int = 0,
    ):
        self.folder = Path(folder)
        self.info = read_info(self.folder)
        check_identity(self.folder, self.info, video=video_identity, audio=audio_identity)
        self.manifest = read_manifest(self.folder, self.info)
        self.cache_bytes = cache_bytes
        self._cache: dict[int, LatentExample] = {}
        self._cached_bytes = 0
        self._reader = ShardReader(self.folder)
        self._shards = _Column(self.manifest["shard"])
        self._ids = _Column(self.manifest["id"])
        self._numbers = {
            name: _filled(self.manifest[name]).to_numpy()
            for name in self.manifest.column_names
            if pa.types.is_integer(self.manifest.schema.field(name).type)
        }

    def __len__(self) -> int:
        return self.manifest.num_rows

    def __getitem__(self, index: int) -> LatentExample:
        """The example of a manifest row.

        Raises:
            IndexError: There is no such row.
            DatasetError: The row has no latents, or its shard is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of a dataset of {len(self)} examples")
        if index in self._cache:
            return self._cache[index]
        example, size = self._load(index)
        if self._cached_bytes + size <= self.cache_bytes:
            self._cache[index] = example
            self._cached_bytes += size
        return example

    @property
    def shapes(self) -> list[Shape]:
        """Of each row, what the examples of a batch share: shapes of streams, and frame rate."""
        columns = [self.manifest[f"{stream}_shape"].to_pylist() for stream in STREAMS]
        rates = zip(self._numbers["fps_numerator"], self._numbers["fps_denominator"], strict=True)
        shapes = zip(*columns, strict=True)
        return [
            (*(tuple(s) if s else None for s in row), (int(n), int(d)))
            for row, (n, d) in zip(shapes, rates, strict=True)
        ]

    @property
    def split_hashes(self) -> np.ndarray:
        """32-bit hash of each id, ``(N,)``."""
        return self._numbers["split_hash"]

    def metadata(self, index: int) -> dict[str, object]:
        """What the preparation noted about an example, such as a world's truth."""
        return parse_captions(self._member(index, "captions"))[1]

    def _load(self, index: int) -> tuple[LatentExample, int]:
        captions = self._member(index, "captions")
        latents = self._member(index, "latents")
        arrays = parse_latents(latents)
        video, audio, codes = (
            torch.from_numpy(arrays[stream]) if stream in arrays else None for stream in STREAMS
        )
        example = LatentExample(
            id=self._ids[index],
            video=None if video is None else video.float(),
            audio=None if audio is None else audio.float(),
            codes=None if codes is None else codes.long(),
            captions=parse_captions(captions)[0],
            fps=float(self._fps(index)),
            duration=float(self._numbers["duration_us"][index]) / 1e6,
        )
        return example, 2 * len(latents) + 4 * len(captions)

    def _fps(self, index: int) -> Fraction:
        numbers = self._numbers
        return Fraction(
            int(numbers["fps_numerator"][index]), int(numbers["fps_denominator"][index])
        )

    def _member(self, index: int, member: str) -> bytes:
        offset = int(self._numbers[f"{member}_offset"][index])
        if offset < 0:
            raise DatasetError(
                f"{self.folder}: example {self._ids[index]!r} has no {member}; "
                "run `avgen prep` with --encode for latents, with --media for media"
            )
        size = int(self._numbers[f"{member}_size"][index])
        return self._reader.read(self._shards[index], offset, size)


class MediaDataset(LatentDataset):
    """Clips and captions of a dataset folder with MP4 members, to encode or to look at."""

    def clip(self, index: int) -> Clip:
        """The clip of a manifest row, at its own rates, with its first caption.

        Raises:
            DatasetError: The row has no media.
            MediaError: Its media is damaged.
        """
        caption = self.provenance(index)["captions"][0]
        rate = int(self._numbers["sample_rate"][index])
        with NamedTemporaryFile(prefix="avgen-", suffix=".mp4") as file:
            file.write(self.media(index))
            file.flush()
            clip = media.read(file.name, fps=self._fps(index), sample_rate=rate)
        return replace(clip, caption=caption)

    def media(self, index: int) -> bytes:
        """The MP4 file of a manifest row."""
        return self._member(index, "media")

    def provenance(self, index: int) -> dict[str, Any]:
        """Fields of a row's `Example` that no clip holds: id, captions, source, seed, metadata."""
        captions, metadata = parse_captions(self._member(index, "captions"))
        row = self.manifest.select(["id", "source", "seed"]).slice(index, 1).to_pylist()[0]
        return {**row, "captions": captions, "metadata": metadata}


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.fill_null(-1) if column.null_count else column


class _Column:
    """A string column by index; Arrow keeps it in one buffer, whatever the number of rows."""

    def __init__(self, column: pa.ChunkedArray):
        self._array = column.combine_chunks()

    def __getitem__(self, index: int) -> str:
        return self._array[index].as_py()
