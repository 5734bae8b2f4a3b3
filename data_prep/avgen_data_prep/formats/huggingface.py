"""A folder that Hugging Face `datasets` loads: Parquet with nested events, media as string paths.

Media stay files named by a string: the Video and Audio features of `datasets` decode with other
libraries, and none of them gives the picture and the sound of one file.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avgen.caption import SCHEMA
from avgen.data.schema import COLUMNS, DatasetError, atomic
from avgen_data_prep.build import Record
from avgen_data_prep.formats.entry import FACTS, Entry, Exported, Format, inside, prose

_EVENT = pa.struct(
    [
        ("start_us", pa.int64()),
        ("end_us", pa.int64()),
        *((name, pa.string()) for name in ("track", "text", "id", "cause", "entity")),
        ("confidence", pa.float64()),
        ("provenance", pa.string()),
    ]
)
_CAPTION = pa.struct(
    [
        ("duration_us", pa.int64()),
        ("language", pa.string()),
        ("text", pa.string()),
        ("events", pa.list_(_EVENT)),
    ]
)
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "media", "caption")),
        ("captions", pa.list_(_CAPTION)),
        *((name, COLUMNS.field(name).type) for name in FACTS),
        ("metadata", pa.string()),
        ("media_sha256", pa.string()),
    ]
)
_CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---

Clips with timed captions. `media` is a path from this folder; times are integer microseconds.
"""
_ROWS = 256
_PATHS = ("media", "video", "media_path", "file_name")
_TEXTS = ("caption", "text")


def write(out: Path, clips: Iterable[Exported]) -> None:
    """See `Format.write`."""
    (out / "media").mkdir()
    (out / "data").mkdir()
    rows: list[dict[str, Any]] = []
    with (
        atomic(out / "data" / "train-00000-of-00001.parquet") as temporary,
        pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer,
    ):
        for clip in clips:
            (out / "media" / f"{clip.id}.mp4").write_bytes(clip.media)
            rows.append(_row(clip))
            if len(rows) == _ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
    (out / "README.md").write_text(_CARD, encoding="utf-8")


def _row(clip: Exported) -> dict[str, Any]:
    return {
        **clip.full_record,
        "media": f"media/{clip.id}.mp4",
        "caption": prose(clip.captions[0]),
        "metadata": json.dumps(clip.record["metadata"], ensure_ascii=False, sort_keys=True),
    }


def scan(place: Path) -> tuple[list[Entry], list[Record]]:
    """See `Format.scan`; ``place`` may be one Parquet file.

    Raises:
        DatasetError: A Parquet file is damaged.
    """
    entries: list[Entry] = []
    records: list[Record] = []
    for path in [place] if place.is_file() else sorted(place.rglob("*.parquet")):
        root = place if place.is_dir() else _root(path)
        try:
            rows = [r for b in pq.ParquetFile(path).iter_batches(_ROWS) for r in b.to_pylist()]
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{path}: damaged Parquet ({error}); copy it again") from error
        for number, row in enumerate(rows, 1):
            try:
                entries.append(_entry(row, root))
            except ValueError as error:
                name = f"{path.name}, row {number}"
                records.append(Record(file=name, outcome="failed", reason=str(error)))
    return entries, records


def _root(parquet: Path) -> Path:
    """The folder that paths start from: that of the file, or above it where it is ``data``."""
    return parquet.parent.parent if parquet.parent.name == "data" else parquet.parent


def _entry(row: dict[str, Any], root: Path) -> Entry:
    path = next((row[n] for n in _PATHS if isinstance(row.get(n), str) and row[n]), None)
    if path is None:
        raise ValueError(f"names no file; give a column of strings {', '.join(_PATHS)}")
    media = inside(root, path)
    if row.get("media_sha256"):
        return Entry(name=row["id"], path=media, text=row["caption"], record=_record(row))
    text = next((row[n] for n in _TEXTS if isinstance(row.get(n), str)), "")
    name = str(media.relative_to(root.resolve()).with_suffix(""))
    return Entry(name=name, path=media, text=text)


def _record(row: dict[str, Any]) -> str:
    captions = [
        {
            **caption,
            "schema": SCHEMA,
            "events": [
                {name: value for name, value in event.items() if value is not None}
                for event in caption["events"]
            ],
        }
        for caption in row["captions"]
    ]
    kept = {name: row[name] for name in ("id", "media_sha256", *FACTS)}
    return json.dumps({**kept, "captions": captions, "metadata": json.loads(row["metadata"])})


FORMAT = Format(write, scan)
