"""Writing the shards of a dataset, and what their members hold.

A shard is written whole or not at all: the tar first, then its part of the manifest under
``parts/``, which says that the shard is done. `finish` joins the parts into the dataset's manifest.
"""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen.clock import us_from_seconds
from avgen.data.quantise import LatentDtype, RoundingLoss, restored, stored
from avgen.data.schema import (
    COLUMNS,
    MANIFEST,
    MEMBERS,
    RIGHTS,
    STREAMS,
    DatasetError,
    DatasetInfo,
    atomic,
    completed,
    write_info,
)
from avgen.data.text_features import TextFeatures, text_bytes

_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_BLOCK = 512
_KEY = b"avgen.key"
_EXTRA = b"avgen.extra"
_LOSS = b"avgen.loss"


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
        text_features: Of each caption, or None.
        source_sha256: Of the file that the clip was cut from; None for a rendered one.
        licence: Of the source, best an SPDX identifier or URL; None where unknown.
        consent: Where the consent of the people in it is noted; None where unknown.
        faces: Whether faces are seen; None where nobody looked.
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
    text_features: tuple[TextFeatures, ...] | None = None
    source_sha256: str | None = None
    licence: str | None = None
    consent: str | None = None
    faces: bool | None = None

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


def split_hash(origin: str) -> int:
    """A 32-bit hash of what an example was cut from (else of its id); a split is a range of it.

    So adding data moves no example, and clips of one source are on one side.
    """
    return int.from_bytes(hashlib.sha256(origin.encode()).digest()[:4], "big")


def _members(example: Example, dtype: LatentDtype, loss: RoundingLoss) -> dict[str, bytes]:
    captions = [caption.to_dict() for caption in example.captions]
    text = {"captions": captions, "metadata": example.metadata}
    members = {"captions": json.dumps(text, sort_keys=True, ensure_ascii=False).encode()}
    if example.latents:
        unknown = set(example.latents) - set(STREAMS)
        if unknown:
            raise DatasetError(
                f"{example.id}: unknown latents {sorted(unknown)}; known are {STREAMS}"
            )
        tensors = stored(example.latents, dtype)
        if dtype != "float16":
            loss.add(example.latents, tensors)
        members["latents"] = save_tensors(tensors)
    if example.text_features is not None:
        if len(example.text_features) != len(example.captions):
            raise DatasetError(
                f"{example.id}: {len(example.text_features)} text features for "
                f"{len(example.captions)} captions; give one of each"
            )
        members["text"] = text_bytes(example.text_features)
    if example.media is not None:
        members["media"] = example.media
    return members


def _append(
    tar: tarfile.TarFile, example: Example, shard: str, dtype: LatentDtype, loss: RoundingLoss
) -> dict[str, Any]:
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
    for member, data in _members(example, dtype, loss).items():
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
    row |= {name: getattr(example, name) for name in ("source_sha256", *RIGHTS)}
    return row | {
        "shard": shard,
        "fps_numerator": example.fps.numerator,
        "fps_denominator": example.fps.denominator,
        "split_hash": split_hash(example.source_sha256 or example.id),
        "sha256": sha.hexdigest(),
    }


def _part_path(folder: Path, shard: str) -> Path:
    return folder / "parts" / f"{Path(shard).stem}.parquet"


def write_shard(
    folder: Path,
    shard: str,
    examples: Iterable[Example],
    *,
    key: str = "",
    extra: Any = None,
    latent_dtype: LatentDtype = "float16",
) -> int:
    """Write one shard and its part of the manifest, atomically, and return the number of examples.

    Args:
        folder: The dataset.
        shard: File name ending in ``.tar``.
        examples: Consumed one at a time.
        key: What the shard was made from; `read_part` refuses a part with another key.
        extra: JSON-able facts to keep with the part, or a function that gives them after the last
            example.
        latent_dtype: How latents are stored; that of the `DatasetInfo` given to `finish`.
    """
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    _part_path(folder, shard).unlink(missing_ok=True)
    rows, loss = [], RoundingLoss()
    with (
        atomic(folder / shard) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        rows = [_append(tar, example, shard, latent_dtype, loss) for example in examples]
    metadata = {
        _KEY: key.encode(),
        _LOSS: json.dumps({latent_dtype: loss.sums}).encode(),
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
    parts, loss = [], RoundingLoss()
    for shard in shards:
        part = read_part(folder, shard)
        if part is None:
            raise DatasetError(
                f"{folder / shard}: not finished; run the preparation again to complete it"
            )
        loss.join(_loss_of(folder, shard, part[0], info.latent_dtype))
        parts.append(completed(part[0].replace_schema_metadata(None)).select(COLUMNS.names))
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
        counts=_with_loss(info, loss),
    )
    write_info(folder, info)
    return info


def _loss_of(folder: Path, shard: str, part: pa.Table, dtype: LatentDtype) -> RoundingLoss:
    told = json.loads((part.schema.metadata or {}).get(_LOSS, b'{"float16": {}}'))
    if dtype not in told:
        raise DatasetError(
            f"{folder / shard}: latents in {next(iter(told))}, but the dataset is to hold {dtype}; "
            "write all shards with the latent_dtype of the dataset"
        )
    return RoundingLoss(told[dtype])


def _with_loss(info: DatasetInfo, loss: RoundingLoss) -> dict[str, Any]:
    """Counts with what eight bits cost; what the preparation measured beside it stays."""
    if info.latent_dtype == "float16":
        return info.counts
    known = info.counts.get("latent_loss", {})
    told = {name: {**known.get(name, {}), **values} for name, values in loss.report().items()}
    return {**info.counts, "latent_loss": told}


def parse_captions(data: bytes) -> tuple[tuple[TimedCaption, ...], dict[str, Any]]:
    """Captions and metadata of a ``{id}.json`` member."""
    text = json.loads(data)
    return tuple(TimedCaption.from_json(c) for c in text["captions"]), text["metadata"]


def parse_latents(data: bytes) -> dict[str, Tensor]:
    """Streams of a ``{id}.latents.safetensors`` member: latents in float32, codes in int64."""
    return restored(load_tensors(data))
