"""Examples of a dataset folder by index."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from torch import Tensor

from avgen import media
from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen.data.schema import (
    RIGHTS,
    STREAMS,
    DatasetError,
    check_identity,
    read_info,
    read_manifest,
)
from avgen.data.shapes import Shape, distinct_shapes
from avgen.data.shards import parse_captions, parse_latents
from avgen.data.storage import open_storage
from avgen.data.text_features import TextFeatures, parse_text

__all__ = ["LatentDataset", "LatentExample", "MediaDataset", "Shape"]
Members = dict[str, bytes]


class LatentExample(TypedDict):
    """One example: latents without a batch axis, None where the clip lacks the stream."""

    id: str
    video: Float[Tensor, "c t h w"] | None
    audio: Float[Tensor, "c l"] | None
    codes: Int[Tensor, "q l"] | None
    captions: tuple[TimedCaption, ...]
    text: tuple[TextFeatures, ...] | None
    fps: float
    duration: float


class LatentDataset:
    """Latents and captions of a dataset folder.

    Opening reads the manifest and nothing else; an item is one read at a known offset. Instances
    can be shared with forked processes and pickled to spawned ones.

    Args:
        folder: Folder with ``dataset.json``: a path, or the URL of an object store or web server
            that fsspec has a driver for.
        video_identity: Identity of the video codec that the latents must be of; None accepts any.
        audio_identity: Likewise for the audio codec.
        text_identity: Likewise for the encoder of the text features.
        text_features: Load the text features too.
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
        text_identity: str | None = None,
        text_features: bool = False,
        cache_bytes: int = 0,
    ):
        self.storage = open_storage(folder)
        self.folder = self.storage.location
        self.info = read_info(self.storage)
        check_identity(
            self.folder, self.info, video=video_identity, audio=audio_identity, text=text_identity
        )
        if text_features and self.info.text_encoder is None:
            raise DatasetError(
                f"{self.folder}: holds no text features; leave out text_features, or write them "
                "with the dataset"
            )
        self.manifest = read_manifest(self.storage, self.info).combine_chunks()
        self.cache_bytes = cache_bytes
        self._wanted = ("captions", "latents", *(("text",) if text_features else ()))
        self._cache: dict[int, LatentExample] = {}
        self._cached_bytes = 0
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
        return self.example(index, self.fetch(index))

    def fetch(self, index: int) -> Members | None:
        """The bytes of a row's members, or None where its example is in memory.

        It only reads, so that threads can do it ahead of time.

        Raises:
            IndexError: There is no such row.
            DatasetError: The row has no latents, or its shard is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of a dataset of {len(self)} examples")
        if index in self._cache:
            return None
        return self._members(index, self._wanted)

    def example(self, index: int, members: Members | None) -> LatentExample:
        """The example of a manifest row, given what `fetch` gave; to be called from one thread."""
        if members is None or index in self._cache:
            return self._cache[index]
        example = self._parsed(index, members)
        size = _bytes_of(example) + 4 * len(members["captions"])
        if self._cached_bytes + size <= self.cache_bytes:
            self._cache[index] = example
            self._cached_bytes += size
        return example

    def num_bytes(self, index: int) -> int:
        """How much `fetch` reads for a row."""
        return sum(max(int(self._numbers[f"{m}_size"][index]), 0) for m in self._wanted)

    def shapes(self) -> tuple[np.ndarray, list[Shape]]:
        """What the examples of a batch share: shapes of streams, and frame rate.

        Returns:
            Of each row the number of its shape, ``(N,)`` int32, and the distinct shapes.
        """
        columns = [f"{stream}_shape" for stream in STREAMS] + ["fps_numerator", "fps_denominator"]
        return distinct_shapes(self.manifest.select(columns))

    @property
    def split_hashes(self) -> np.ndarray:
        """32-bit hash of each id, ``(N,)``."""
        return self._numbers["split_hash"]

    def metadata(self, index: int) -> dict[str, object]:
        """What the preparation noted about an example, such as a world's truth."""
        return parse_captions(self._member(index, "captions"))[1]

    def _parsed(self, index: int, members: Members) -> LatentExample:
        streams: Mapping[str, Tensor] = parse_latents(members["latents"])
        return LatentExample(
            id=self._ids[index],
            video=streams.get("video"),
            audio=streams.get("audio"),
            codes=streams.get("codes"),
            captions=parse_captions(members["captions"])[0],
            text=parse_text(members["text"]) if "text" in members else None,
            fps=float(self._fps(index)),
            duration=float(self._numbers["duration_us"][index]) / 1e6,
        )

    def _fps(self, index: int) -> Fraction:
        numbers = self._numbers
        return Fraction(
            int(numbers["fps_numerator"][index]), int(numbers["fps_denominator"][index])
        )

    def _member(self, index: int, member: str) -> bytes:
        return self._members(index, (member,))[member]

    def _members(self, index: int, names: tuple[str, ...]) -> Members:
        ranges = []
        for name in names:
            offset = int(self._numbers[f"{name}_offset"][index])
            if offset < 0:
                raise DatasetError(
                    f"{self.folder}: example {self._ids[index]!r} has no {name}; "
                    "run `avgen prep` with --encode for latents, with --media for media"
                )
            ranges.append((offset, int(self._numbers[f"{name}_size"][index])))
        return dict(zip(names, self.storage.read_ranges(self._shards[index], ranges), strict=True))


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
        """Fields of a row's `Example` that no clip holds: id, captions, source, rights, metadata."""
        captions, metadata = parse_captions(self._member(index, "captions"))
        names = ["id", "source", "seed", "source_sha256", *RIGHTS]
        row = self.manifest.select(names).slice(index, 1).to_pylist()[0]
        return {**row, "captions": captions, "metadata": metadata}


def _bytes_of(example: LatentExample) -> int:
    tensors = [example["video"], example["audio"], example["codes"]]
    tensors += [features.states for features in example["text"] or ()]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.fill_null(-1) if column.null_count else column


class _Column:
    """A string column by index; Arrow keeps it in one buffer, whatever the number of rows."""

    def __init__(self, column: pa.ChunkedArray):
        self._array = column.combine_chunks()

    def __getitem__(self, index: int) -> str:
        return self._array[index].as_py()
