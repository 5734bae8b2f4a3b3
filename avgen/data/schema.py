"""The on-disk dataset: what data preparation writes and training reads.

A dataset is a folder::

    dataset.json          schema version, codec identities, counts, the size of each shard
    manifest.parquet      one row per example, with the byte offset and size of each member in its
    shard
    shard-00000.tar ...   WebDataset-readable members ``{id}.json``, ``{id}.latents.safetensors``,
    ``{id}.mp4``

``{id}.json`` holds ``{"captions": [...], "metadata": {...}}``, the captions being paraphrases of
one another. The
latents file holds ``video`` (C, T, H, W) and ``audio`` (C, L) in float16 and ``codes`` (Q, L) in
int16, each only where
the stream exists. Shards are uncompressed, so one `os.pread` at a manifest's offset reads a member.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avgen.codecs.base import AudioCodec, VideoCodec

SCHEMA = "avgen.dataset"
VERSION = 1
MANIFEST = "manifest.parquet"
INFO = "dataset.json"
STREAMS = ("video", "audio", "codes")
MEMBERS = {"captions": ".json", "latents": ".latents.safetensors", "media": ".mp4"}

_SHAPE = pa.list_(pa.int32())
COLUMNS = pa.schema(
    [
        ("id", pa.string()),
        ("shard", pa.string()),
        *((f"{member}_{part}", pa.int64()) for member in MEMBERS for part in ("offset", "size")),
        ("duration_us", pa.int64()),
        ("num_frames", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("fps_numerator", pa.int32()),
        ("fps_denominator", pa.int32()),
        ("num_samples", pa.int64()),
        ("sample_rate", pa.int32()),
        *((f"{stream}_shape", _SHAPE) for stream in STREAMS),
        ("source", pa.string()),
        ("seed", pa.int64()),
        ("split_hash", pa.uint32()),
        ("sha256", pa.string()),
    ]
)


class DatasetError(ValueError):
    """A dataset folder that cannot be used, with what to do about it."""


@dataclass(frozen=True, kw_only=True)
class CodecInfo:
    """The codec that made a dataset's latents, and what a reader must know about their rates.

    Attributes:
        identity: SHA-256 of the codec's weights.
        latent_channels: Channels of a latent.
        time_stride: Video: frames per latent step after the first.
        space_stride: Video: pixels per latent cell.
        sample_rate: Audio: waveform samples per second.
        hop: Audio: waveform samples per latent step.
        num_codebooks: Audio: codebooks Q.
        codebook_size: Audio: entries of a codebook.
    """

    identity: str
    latent_channels: int
    time_stride: int | None = None
    space_stride: int | None = None
    sample_rate: int | None = None
    hop: int | None = None
    num_codebooks: int | None = None
    codebook_size: int | None = None

    @classmethod
    def of(cls, codec: VideoCodec | AudioCodec) -> "CodecInfo":
        """What a dataset records of ``codec``."""
        values = {f.name: getattr(codec, f.name, None) for f in fields(cls)}
        return cls(**values)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The contents of ``dataset.json``.

    Attributes:
        video_codec: Codec of the video latents, None where the dataset has none.
        audio_codec: Codec of the audio latents and codes, None where the dataset has none.
        num_examples: Rows of the manifest.
        manifest_sha256: Of the manifest's bytes.
        shards: Size in bytes of each shard by file name.
        counts: What the preparation counted (files, failures, examples by source).
        settings: What the preparation was asked for.
    """

    video_codec: CodecInfo | None = None
    audio_codec: CodecInfo | None = None
    num_examples: int = 0
    manifest_sha256: str = ""
    shards: dict[str, int] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, with the schema's name and version."""
        return {"schema": f"{SCHEMA}/{VERSION}", **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any], folder: Path) -> "DatasetInfo":
        """Read what `to_dict` made.

        Raises:
            DatasetError: Another schema, a newer version, or missing fields.
        """
        name, _, version = str(data.get("schema", "")).partition("/")
        if name != SCHEMA or not version.isdecimal():
            raise DatasetError(
                f"{folder / INFO}: schema {data.get('schema')!r} is not {SCHEMA!r}; "
                "this folder was not written by `avgen prep`"
            )
        if int(version) > VERSION:
            raise DatasetError(
                f"{folder / INFO}: schema version {version} is newer than the {VERSION} this avgen "
                "reads; upgrade avgen (pip install -U avgen)"
            )
        try:
            codecs = {
                k: CodecInfo(**data[k]) if data[k] else None for k in ("video_codec", "audio_codec")
            }
            rest = {
                k: data[k]
                for k in ("num_examples", "manifest_sha256", "shards", "counts", "settings")
            }
            return cls(**codecs, **rest)
        except (KeyError, TypeError) as error:
            raise DatasetError(
                f"{folder / INFO}: damaged ({error!r}); copy the dataset again, "
                "or run the preparation again"
            ) from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path to write to, which replaces ``path`` if the block ends without an error."""
    handle, name = mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_info(folder: Path, info: DatasetInfo) -> None:
    """Write ``dataset.json`` atomically; call it last, it declares the dataset complete."""
    with atomic(folder / INFO) as temporary:
        temporary.write_text(json.dumps(info.to_dict(), indent=1, sort_keys=True) + "\n")


def read_info(folder: str | Path, *, check_shards: bool = True) -> DatasetInfo:
    """Read ``dataset.json`` and check the sizes of the shards it names.

    Raises:
        DatasetError: Not a dataset, of another schema or a newer version, or with missing or
            truncated shards.
    """
    folder = Path(folder)
    path = folder / INFO
    if not path.is_file():
        raise DatasetError(
            f"{folder}: holds no {INFO}; give a folder written by `avgen prep`, "
            "or run the preparation again to complete it"
        )
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise DatasetError(
            f"{path}: not readable as JSON ({error}); copy the dataset again"
        ) from error
    if not isinstance(data, dict):
        raise DatasetError(
            f"{path}: holds {type(data).__name__}, not an object; copy the dataset again"
        )
    info = DatasetInfo.from_dict(data, folder)
    for name, size in info.shards.items() if check_shards else ():
        shard = folder / name
        actual = shard.stat().st_size if shard.is_file() else None
        if actual != size:
            state = "missing" if actual is None else f"{actual} bytes long instead of {size}"
            raise DatasetError(
                f"{shard}: {state}; copy the shard again, "
                "or delete it and run the preparation again"
            )
    return info


def read_manifest(folder: str | Path, info: DatasetInfo | None = None) -> pa.Table:
    """The manifest of a dataset, with the columns of `COLUMNS`.

    Raises:
        DatasetError: As `read_info`; or the manifest is damaged or does not belong to
            ``dataset.json``.
    """
    folder = Path(folder)
    info = info or read_info(folder)
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error}); copy it again") from error
    if hashlib.sha256(data).hexdigest() != info.manifest_sha256:
        raise DatasetError(
            f"{path}: damaged, or of another dataset than {INFO}; copy the dataset again"
        )
    table = pq.ParquetFile(pa.BufferReader(data)).read()  # read_table would import pandas
    missing = set(COLUMNS.names) - set(table.column_names)
    if missing:
        raise DatasetError(
            f"{path}: columns {sorted(missing)} are missing; run the preparation again"
        )
    return table.select(COLUMNS.names)


def check_identity(
    folder: str | Path, info: DatasetInfo, *, video: str | None = None, audio: str | None = None
) -> None:
    """Refuse latents that another codec made.

    Args:
        folder: For the message.
        info: The dataset's information.
        video: Identity of the video codec that is needed; None accepts any.
        audio: Identity of the audio codec that is needed; None accepts any.

    Raises:
        DatasetError: The dataset was encoded with other weights, or not at all.
    """
    for kind, needed, codec in (
        ("video", video, info.video_codec),
        ("audio", audio, info.audio_codec),
    ):
        if needed is not None and (codec is None or codec.identity != needed):
            made = f"with {codec.identity[:12]}" if codec else "without"
            raise DatasetError(
                f"{folder}: stale: encoded {made} {kind} codec, but {needed[:12]} is needed; "
                "run `avgen prep encode` (or `avgen prep worlds`) with that codec into a new folder"
            )
