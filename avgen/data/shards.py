"""Writing and reading the shards of a dataset.

A shard is written whole or not at all: the tar first, then its part of the manifest under
``parts/``, which says that
the shard is done. `finish` joins the parts into the dataset's manifest.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen.clock import us_from_seconds
from avgen.data.schema import (
    COLUMNS,
    MANIFEST,
    MEMBERS,
    STREAMS,
    DatasetError,
    DatasetInfo,
    atomic,
    write_info,
)

_DTYPES = {"video": np.float16, "audio": np.float16, "codes": np.int16}
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_BLOCK = 512
_KEY = b"avgen.key"
_EXTRA = b"avgen.extra"


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row of a dataset, in memory.

    Attributes:
        id: Letters, digits, ``_`` and ``-``: WebDataset splits names at the first dot.
        captions: Paraphrases of one caption.
        duration_us: Duration in microseconds.
        num_frames: Frames of the clip, 0 without a picture.
        height: Pixels, 0 without a picture.
        width: Pixels, 0 without a picture.
        fps: Frames per second.
        num_samples: Waveform samples, 0 without sound.
        sample_rate: Waveform samples per second.
        source: World or file that the clip comes from.
        seed: Seed of a rendered clip.
        metadata: Anything JSON-able, such as a world's truth.
        media: An MP4 file, or None.
        latents: ``video`` (C, T, H, W), ``audio`` (C, L), ``codes`` (Q, L), each only where the
            stream exists.
    """

    id: str
    captions: tuple[TimedCaption, ...]
    duration_us: int
    num_frames: int
    height: int
    width: int
    fps: Fraction
    num_samples: int
    sample_rate: int
    source: str
    seed: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    media: bytes | None = None
    latents: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of_clip(cls, clip: Clip, **rest: Any) -> "Example":
        """An example with the counts and rates of ``clip``; ``rest`` gives the other fields."""
        shape = clip.frames.shape if clip.frames is not None else (0, 0, 0, 3)
        samples = clip.waveform.shape[-1] if clip.waveform is not None else 0
        seconds = shape[0] / clip.fps if shape[0] else Fraction(samples, clip.sample_rate)
        return cls(
            duration_us=us_from_seconds(seconds),
            num_frames=shape[0],
            height=shape[1],
            width=shape[2],
            fps=clip.fps,
            num_samples=samples,
            sample_rate=clip.sample_rate,
            **rest,
        )


def split_hash(example_id: str) -> int:
    """A 32-bit hash of an id; a split is a range of it, so adding data moves no example."""
    return int.from_bytes(hashlib.sha256(example_id.encode()).digest()[:4], "big")


def _members(example: Example) -> dict[str, bytes]:
    captions = [caption.to_dict() for caption in example.captions]
    text = {"captions": captions, "metadata": example.metadata}
    members = {"captions": json.dumps(text, sort_keys=True, ensure_ascii=False).encode()}
    if example.latents:
        unknown = set(example.latents) - set(STREAMS)
        if unknown:
            raise DatasetError(
                f"{example.id}: unknown latents {sorted(unknown)}; known are {STREAMS}"
            )
        arrays = {
            k: np.ascontiguousarray(v, dtype=_DTYPES[k]) for k, v in sorted(example.latents.items())
        }
        members["latents"] = save_tensors(arrays)
    if example.media is not None:
        members["media"] = example.media
    return members


def _append(tar: tarfile.TarFile, example: Example, shard: str) -> dict[str, Any]:
    """Append an example's members to a tar and return its manifest row."""
    if not _ID.fullmatch(example.id):
        raise DatasetError(
            f"id {example.id!r}: use 1 to 80 letters, digits, '_' and '-', "
            "as WebDataset splits names at dots"
        )
    if not example.captions:
        raise DatasetError(f"{example.id}: has no caption; give at least one TimedCaption")
    row: dict[str, Any] = dict.fromkeys(COLUMNS.names)
    sha = hashlib.sha256()
    for member, data in _members(example).items():
        header = tarfile.TarInfo(f"{example.id}{MEMBERS[member]}")
        header.size = len(data)
        row[f"{member}_offset"] = tar.offset + _BLOCK
        row[f"{member}_size"] = len(data)
        tar.addfile(header, io.BytesIO(data))
        sha.update(data)
    row |= {f"{stream}_shape": list(array.shape) for stream, array in example.latents.items()}
    row |= {
        name: getattr(example, name)
        for name in ("id", "duration_us", "num_frames", "height", "width", "num_samples")
    }
    row |= {name: getattr(example, name) for name in ("sample_rate", "source", "seed")}
    return row | {
        "shard": shard,
        "fps_numerator": example.fps.numerator,
        "fps_denominator": example.fps.denominator,
        "split_hash": split_hash(example.id),
        "sha256": sha.hexdigest(),
    }


def _part_path(folder: Path, shard: str) -> Path:
    return folder / "parts" / f"{Path(shard).stem}.parquet"


def write_shard(
    folder: Path, shard: str, examples: Iterable[Example], *, key: str = "", extra: Any = None
) -> int:
    """Write one shard and its part of the manifest, atomically, and return the number of examples.

    Args:
        folder: The dataset.
        shard: File name ending in ``.tar``.
        examples: Consumed one at a time.
        key: What the shard was made from; `read_part` refuses a part with another key.
        extra: JSON-able facts to keep with the part, or a function that gives them after the last
            example.
    """
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    _part_path(folder, shard).unlink(missing_ok=True)
    rows = []
    with (
        atomic(folder / shard) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        rows = [_append(tar, example, shard) for example in examples]
    metadata = {
        _KEY: key.encode(),
        _EXTRA: json.dumps(extra() if callable(extra) else extra).encode(),
    }
    table = pa.Table.from_pylist(rows, schema=COLUMNS.with_metadata(metadata))
    with atomic(_part_path(folder, shard)) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return len(rows)


def read_part(folder: Path, shard: str, key: str | None = None) -> tuple[pa.Table, Any] | None:
    """The rows and extra facts of a finished shard, or None where it must be made (again)."""
    path = _part_path(folder, shard)
    if not path.is_file() or not (folder / shard).is_file():
        return None
    try:
        table = pq.ParquetFile(path).read()
        metadata = table.schema.metadata or {}
        if key is not None and metadata.get(_KEY) != key.encode():
            return None
        return table, json.loads(metadata[_EXTRA])
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def finish(folder: Path, shards: list[str], info: DatasetInfo) -> DatasetInfo:
    """Complete a dataset: join the parts of ``shards`` into the manifest, write ``dataset.json``.

    Raises:
        DatasetError: A shard is not done, or two examples have one id.
    """
    parts = []
    for shard in shards:
        part = read_part(folder, shard)
        if part is None:
            raise DatasetError(
                f"{folder / shard}: not finished; run the preparation again to complete it"
            )
        parts.append(part[0].replace_schema_metadata(None))
    table = pa.concat_tables([COLUMNS.empty_table(), *parts])
    ids = table["id"].to_pylist()
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        double = next(i for i in ids if i in seen or seen.add(i))
        raise DatasetError(f"{folder}: id {double!r} occurs twice; ids must be unique in a dataset")
    with atomic(folder / MANIFEST) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    info = replace(
        info,
        num_examples=table.num_rows,
        manifest_sha256=hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
        shards={shard: (folder / shard).stat().st_size for shard in shards},
    )
    write_info(folder, info)
    return info


class ShardReader:
    """Reads members at byte offsets; safe to share with forked processes.

    `os.pread` has no position that they could move under each other.

    Args:
        folder: The dataset.
        max_open: File descriptors kept open.
    """

    def __init__(self, folder: str | Path, max_open: int = 64):
        self.folder = Path(folder)
        self.max_open = max_open
        self._files: OrderedDict[str, int] = OrderedDict()

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """``size`` bytes at ``offset`` of ``shard``.

        Raises:
            DatasetError: The shard is missing or shorter.
        """
        data = os.pread(self._descriptor(shard), size, offset)
        if len(data) != size:
            raise DatasetError(
                f"{self.folder / shard}: {len(data)} of {size} bytes at {offset}: truncated; "
                "copy the shard again"
            )
        return data

    def _descriptor(self, shard: str) -> int:
        if shard in self._files:
            return self._files[shard]
        try:
            descriptor = os.open(self.folder / shard, os.O_RDONLY)
        except OSError as error:
            raise DatasetError(
                f"{self.folder / shard}: cannot be opened ({error}); copy it again"
            ) from error
        self._files[shard] = descriptor
        if len(self._files) > self.max_open:
            os.close(self._files.popitem(last=False)[1])
        return descriptor

    def close(self) -> None:
        """Close all files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "max_open": self.max_open, "_files": OrderedDict()}


def parse_captions(data: bytes) -> tuple[tuple[TimedCaption, ...], dict[str, Any]]:
    """Captions and metadata of a ``{id}.json`` member."""
    text = json.loads(data)
    return tuple(TimedCaption.from_json(c) for c in text["captions"]), text["metadata"]


def parse_latents(data: bytes) -> dict[str, np.ndarray]:
    """Arrays of a ``{id}.latents.safetensors`` member."""
    return load_tensors(data)
