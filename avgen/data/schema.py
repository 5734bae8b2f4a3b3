"""The on-disk dataset: what data preparation writes and training reads.

A dataset is a folder::

    dataset.json          schema version, codec identities, counts, the size of each shard
    manifest.parquet      one row per example, with the byte offset and size of each member in its
    shard
    shard-00000.tar ...   WebDataset-readable members ``{id}.json``, ``{id}.latents.safetensors``,
    ``{id}.text.safetensors``, ``{id}.mp4``

``{id}.json`` holds ``{"captions": [...], "metadata": {...}}``, the captions being paraphrases of
one another. The latents file holds ``video`` (C, T, H, W) and ``audio`` (C, L) in float16 (or in
eight bits with a scale per channel, see `avgen.data.quantise`) and ``codes`` (Q, L) in int16, each
only where the stream exists. The text file holds encoder states of each caption (see
`avgen.data.text_features`). Shards are uncompressed, so a read at a manifest's offset gives a
member.

Version 2 added the columns of `ADDED`, text features, and latents in eight bits; datasets of
version 1 are read as if they had them empty.
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
from avgen.data.quantise import LATENT_DTYPES, LatentDtype
from avgen.data.storage import DatasetError, Storage, open_storage

SCHEMA = "avgen.dataset"
VERSION = 2
MANIFEST = "manifest.parquet"
INFO = "dataset.json"
STREAMS = ("video", "audio", "codes")
MEMBERS = {
    "captions": ".json",
    "latents": ".latents.safetensors",
    "text": ".text.safetensors",
    "media": ".mp4",
}
RIGHTS = ("licence", "consent", "faces")
ADDED = ("text_offset", "text_size", "source_sha256", *RIGHTS)

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
        ("source_sha256", pa.string()),
        ("licence", pa.string()),
        ("consent", pa.string()),
        ("faces", pa.bool_()),
    ]
)


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
class TextInfo:
    """The text encoder that made a dataset's text features.

    Attributes:
        identity: SHA-256 of the encoder's weights, as `avgen.checkpoint.digest` gives.
        width: Numbers D of a state.
    """

    identity: str
    width: int


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The contents of ``dataset.json``.

    Attributes:
        video_codec: Codec of the video latents, None where the dataset has none.
        audio_codec: Codec of the audio latents and codes, None where the dataset has none.
        text_encoder: Encoder of the text features, None where the dataset has none.
        latent_dtype: How latents are stored; readers give float32 whatever it is.
        num_examples: Rows of the manifest.
        manifest_sha256: Of the manifest's bytes.
        shards: Size in bytes of each shard by file name.
        counts: What the preparation counted (files, failures, examples by source).
        settings: What the preparation was asked for.
        version: Of the schema; datasets are written with the newest.
    """

    video_codec: CodecInfo | None = None
    audio_codec: CodecInfo | None = None
    text_encoder: TextInfo | None = None
    latent_dtype: LatentDtype = "float16"
    num_examples: int = 0
    manifest_sha256: str = ""
    shards: dict[str, int] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, with the schema's name and version."""
        values = asdict(self)
        version = values.pop("version")
        if version < 2:
            del values["text_encoder"], values["latent_dtype"]
        return {"schema": f"{SCHEMA}/{version}", **values}

    @classmethod
    def from_dict(cls, data: dict[str, Any], place: str | Path) -> "DatasetInfo":
        """Read what `to_dict` made.

        Args:
            data: The JSON object.
            place: Of ``dataset.json``, for messages.

        Raises:
            DatasetError: Another schema, a newer version, or missing fields.
        """
        name, _, digits = str(data.get("schema", "")).partition("/")
        if name != SCHEMA or not digits.isdecimal():
            raise DatasetError(
                f"{place}: schema {data.get('schema')!r} is not {SCHEMA!r}; "
                "this folder was not written by `avgen prep`"
            )
        version = int(digits)
        if version > VERSION:
            raise DatasetError(
                f"{place}: schema version {version} is newer than the {VERSION} this avgen "
                "reads; upgrade avgen (pip install -U avgen)"
            )
        values = {"text_encoder": None, "latent_dtype": "float16"} if version < 2 else {}
        values |= data
        try:
            info = cls(
                **{k: _made(CodecInfo, values[k]) for k in ("video_codec", "audio_codec")},
                text_encoder=_made(TextInfo, values["text_encoder"]),
                **{k: values[k] for k in _PLAIN},
                version=version,
            )
        except (KeyError, TypeError) as error:
            raise DatasetError(
                f"{place}: damaged ({error!r}); copy the dataset again, "
                "or run the preparation again"
            ) from error
        if info.latent_dtype not in LATENT_DTYPES:
            raise DatasetError(
                f"{place}: latent_dtype {info.latent_dtype!r} is none of "
                f"{', '.join(LATENT_DTYPES)}; upgrade avgen, or run the preparation again"
            )
        return info


_PLAIN = ("latent_dtype", "num_examples", "manifest_sha256", "shards", "counts", "settings")


def _made(kind: type[Any], values: dict[str, Any] | None) -> Any:
    return kind(**values) if values else None


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


def read_info(
    folder: str | Path | Storage, *, check_shards: bool = True, name: str = INFO
) -> DatasetInfo:
    """Read ``dataset.json`` and check the sizes of the shards it names.

    Args:
        folder: A path, an fsspec URL, or where either was opened.
        check_shards: Whether to look at the shards.
        name: Of the file, where a dataset that is being made again has set it aside.

    Raises:
        DatasetError: Not a dataset, of another schema or a newer version, or with missing or
            truncated shards.
    """
    storage = folder if isinstance(folder, Storage) else open_storage(folder)
    place = f"{storage.location}/{name}"
    try:
        data = json.loads(storage.read_file(name))
    except FileNotFoundError as error:
        raise DatasetError(
            f"{storage.location}: holds no {name}; give a folder written by `avgen prep`, "
            "or run the preparation again to complete it"
        ) from error
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(
            f"{place}: not readable as JSON ({error}); copy the dataset again"
        ) from error
    if not isinstance(data, dict):
        raise DatasetError(
            f"{place}: holds {type(data).__name__}, not an object; copy the dataset again"
        )
    info = DatasetInfo.from_dict(data, place)
    if check_shards:
        _check_shards(storage, info)
    return info


def _check_shards(storage: Storage, info: DatasetInfo) -> None:
    names = list(info.shards)
    for name, actual in zip(names, storage.sizes(names), strict=True):
        size = info.shards[name]
        if actual not in (size, -1):
            state = "missing" if actual is None else f"{actual} bytes long instead of {size}"
            raise DatasetError(
                f"{storage.location}/{name}: {state}; copy the shard again, "
                "or delete it and run the preparation again"
            )


def read_manifest(
    folder: str | Path | Storage, info: DatasetInfo | None = None, columns: list[str] | None = None
) -> pa.Table:
    """The manifest of a dataset, with the columns of `COLUMNS`.

    Args:
        folder: A path, an fsspec URL, or where either was opened.
        info: The dataset's information, where it was read already.
        columns: Which of `COLUMNS`; None gives all.

    Raises:
        DatasetError: As `read_info`; or the manifest is damaged or does not belong to
            ``dataset.json``.
    """
    storage = folder if isinstance(folder, Storage) else open_storage(folder)
    info = info or read_info(storage)
    place = f"{storage.location}/{MANIFEST}"
    try:
        data = storage.read_file(MANIFEST)
    except FileNotFoundError as error:
        raise DatasetError(f"{place}: cannot be read (missing); copy it again") from error
    if hashlib.sha256(data).hexdigest() != info.manifest_sha256:
        raise DatasetError(
            f"{place}: damaged, or of another dataset than {INFO}; copy the dataset again"
        )
    file = pq.ParquetFile(pa.BufferReader(data))  # read_table would import pandas
    wanted = columns or COLUMNS.names
    table = completed(file.read(columns=[n for n in wanted if n in file.schema_arrow.names]))
    missing = set(wanted) - set(table.column_names)
    if missing:
        raise DatasetError(
            f"{place}: columns {sorted(missing)} are missing; run the preparation again"
        )
    return table.select(wanted)


def completed(table: pa.Table) -> pa.Table:
    """Rows of any version with the columns that later versions added, empty."""
    for name in ADDED:
        if name not in table.column_names:
            kind = COLUMNS.field(name).type
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
    return table


def check_identity(
    folder: str | Path,
    info: DatasetInfo,
    *,
    video: str | None = None,
    audio: str | None = None,
    text: str | None = None,
) -> None:
    """Refuse latents that another codec made, and text features of another encoder.

    Args:
        folder: For the message.
        info: The dataset's information.
        video: Identity of the video codec that is needed; None accepts any.
        audio: Identity of the audio codec that is needed; None accepts any.
        text: Identity of the text encoder that is needed; None accepts any.

    Raises:
        DatasetError: The dataset was encoded with other weights, or not at all.
    """
    for kind, needed, made_by in (
        ("video codec", video, info.video_codec),
        ("audio codec", audio, info.audio_codec),
        ("text encoder", text, info.text_encoder),
    ):
        if needed is not None and (made_by is None or made_by.identity != needed):
            made = f"with {made_by.identity[:12]}" if made_by else "without"
            raise DatasetError(
                f"{folder}: stale: encoded {made} {kind}, but {needed[:12]} is needed; "
                "run `avgen prep encode` (or `avgen prep worlds`) with that one into a new folder"
            )
