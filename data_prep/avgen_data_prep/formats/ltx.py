"""The metadata file that LTX's trainer reads: captions and paths of media, as CSV or JSON lines.

Columns as its guide to preparing datasets names them: ``caption``, and ``media_path``, which newer
versions take beside ``video``. The trainer knows no times, so a caption becomes one paragraph; what
that loses is kept in ``avgen.jsonl``, which the trainer does not read.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from avgen.data.schema import DatasetError, atomic
from avgen_data_prep.build import Record
from avgen_data_prep.formats.entry import Entry, Exported, Format, inside, prose
from avgen_data_prep.formats.records import read_records, write_records

_VIDEOS = "videos"
_PATHS = ("video", "media_path")
_COLUMNS: tuple[str, ...] = ("caption", "media_path")


def _write_csv(file: TextIO, rows: Iterable[dict[str, str]]) -> None:
    writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _write_jsonl(file: TextIO, rows: Iterable[dict[str, str]]) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _read_csv(text: str) -> Iterator[dict[str, Any]]:
    yield from csv.DictReader(io.StringIO(text, newline=""))


def _read_jsonl(text: str) -> Iterator[dict[str, Any]]:
    yield from (json.loads(line) for line in text.split("\n") if line.strip())


def _read_json(text: str) -> Iterator[dict[str, Any]]:
    yield from json.loads(text)


_WRITERS = {"csv": _write_csv, "jsonl": _write_jsonl}
_READERS: dict[str, Callable[[str], Iterator[dict[str, Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
}


def write(kind: str, out: Path, clips: Iterable[Exported]) -> None:
    """See `Format.write`."""
    (out / _VIDEOS).mkdir()
    rows: list[dict[str, str]] = []
    records: list[dict[str, Any]] = []
    for clip in clips:
        path = f"{_VIDEOS}/{clip.id}.mp4"
        (out / path).write_bytes(clip.media)
        rows.append({"caption": prose(clip.captions[0]), "media_path": path})
        records.append(clip.full_record)
    write_records(out, records)
    with (
        atomic(out / f"dataset.{kind}") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        _WRITERS[kind](file, rows)


def scan(place: Path) -> tuple[list[Entry], list[Record]]:
    """See `Format.scan`.

    Raises:
        DatasetError: There is no metadata file, or it is damaged.
    """
    file = place if place.is_file() else _metadata_file(place)
    told = read_records(file.parent)
    entries: list[Entry] = []
    records: list[Record] = []
    for number, row in enumerate(_rows(file), 1):
        try:
            entries.append(_entry(row, file.parent, told))
        except ValueError as error:
            name = f"{file.name}, row {number}"
            records.append(Record(file=name, outcome="failed", reason=str(error)))
    return entries, records


def _rows(file: Path) -> list[Any]:
    try:
        return list(_READERS[file.suffix.lower()](file.read_text(encoding="utf-8-sig")))
    except (ValueError, csv.Error, TypeError) as error:
        raise DatasetError(f"{file}: not readable as {file.suffix[1:]} ({error})") from error


def _metadata_file(folder: Path) -> Path:
    names = [f"dataset{suffix}" for suffix in _READERS]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DatasetError(f"{folder}: holds none of {', '.join(names)}; give the metadata file itself")


def _entry(row: Any, folder: Path, told: dict[str, str]) -> Entry:
    if not isinstance(row, dict) or not (path := next(filter(None, map(row.get, _PATHS)), None)):
        raise ValueError(f"names no file; give a column {' or '.join(_PATHS)}")
    media = inside(folder, str(path))
    name = str(media.relative_to(folder.resolve()).with_suffix(""))
    record = told.get(media.stem, "")
    return Entry(
        name=media.stem if record else name,
        path=media,
        text=str(row.get("caption") or ""),
        record=record,
    )


CSV = Format(partial(write, "csv"), scan)
JSONL = Format(partial(write, "jsonl"), scan)
