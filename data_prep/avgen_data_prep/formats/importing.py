"""The layout of another tool to a dataset with media, ready for ``avgen prep encode``."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avgen import media
from avgen.caption import TimedCaption
from avgen.clock import us_from_seconds
from avgen.data.schema import DatasetError, DatasetInfo, atomic
from avgen.data.shards import Example
from avgen_data_prep.build import Job, Progress, Record, Source, build, fingerprint
from avgen_data_prep.formats.entry import Entry, Format, example_of_record, prose
from avgen_data_prep.scan import captions_of_json

FAILED = "failed.parquet"
_SHARD = 256
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_RECORDS = pa.schema([(name, pa.string()) for name in ("file", "outcome", "reason")])


@dataclass(frozen=True)
class ImportSource(Source):
    """Clips of another layout.

    Attributes:
        layout: One of `avgen_data_prep.formats.FORMATS`.
        place: Folder, or its metadata file.
    """

    layout: Format
    place: Path

    @cached_property
    def scanned(self) -> tuple[list[Entry], list[Record]]:
        """What the layout holds, and a record of what cannot be used."""
        if not self.place.exists():
            raise DatasetError(f"{self.place}: no such file or folder; give what is to be imported")
        entries, records = self.layout.scan(self.place)
        if not entries:
            found = f"; the first problem: {records[0]['reason']}" if records else ""
            raise DatasetError(f"{self.place}: holds no clips in this format{found}")
        return entries, records

    def __getstate__(self) -> dict[str, Any]:
        return {"layout": self.layout, "place": self.place}

    def info(self) -> DatasetInfo:
        """Settings; there are no latents yet."""
        return DatasetInfo(settings={"kind": "import", "place": self.place.name})

    def jobs(self) -> list[Job]:
        """Shards of neighbouring clips."""
        entries = self.scanned[0]
        groups = [tuple(entries[i : i + _SHARD]) for i in range(0, len(entries), _SHARD)]
        return [
            Job(f"shard-{number:05d}.tar", fingerprint([_stamp(e) for e in group]), group)
            for number, group in enumerate(groups)
        ]

    def open(self) -> Callable[[Job, list[Record]], Iterator[Example]]:
        """Return what makes the examples of a shard."""

        def make(job: Job, records: list[Record]) -> Iterator[Example]:
            for entry in job.items:
                try:
                    example = example_of(entry)
                except Exception as error:  # one clip must never end the import
                    reason = str(error) if isinstance(error, ValueError) else repr(error)
                    records.append(Record(file=entry.name, outcome="failed", reason=reason))
                    continue
                yield example

        return make

    def counts(self, rows: int, records: list[Record]) -> dict[str, Any]:
        """Clips by what became of them."""
        failed = Counter(record["outcome"] for record in [*records, *self.scanned[1]])
        return {"clips": rows, "found": len(self.scanned[0]), "failed": failed["failed"]}


def import_dataset(
    layout: Format, place: Path, out: Path, *, workers: int = 0, progress: Progress | None = None
) -> tuple[DatasetInfo, list[Record]]:
    """Make a dataset with media of another layout; a rerun after a kill makes what is missing.

    Args:
        layout: One of `avgen_data_prep.formats.FORMATS`.
        place: Folder, or its metadata file.
        out: The dataset.
        workers: Processes; 0 works in this one.
        progress: Called with the number of clips of each shard that is done.

    Returns:
        The dataset's information and a record of every clip that was not used; they are also
        written to ``failed.parquet``.

    Raises:
        DatasetError: Nothing to import, two clips of one id, or ``out`` holds another dataset.
    """
    source = ImportSource(layout, place)
    info, records = build(out, source, workers=workers, progress=progress)
    records = sorted([*source.scanned[1], *records], key=lambda record: record["file"])
    with atomic(out / FAILED) as temporary:
        pq.write_table(pa.Table.from_pylist(records, schema=_RECORDS), temporary)
    return info, records


def example_of(entry: Entry) -> Example:
    """The example of a clip: as its record says, where avgen exported it; else by looking at it.

    Raises:
        ValueError: Media or captions are damaged, or differ from what was exported.
    """
    data, record = entry.media(), entry.told()
    sha = hashlib.sha256(data).hexdigest()
    if "media_sha256" not in record:
        return _foreign(entry, record, data, sha)
    if record["media_sha256"] != sha:
        raise ValueError(f"the media of {entry.name} are not those that were exported; copy again")
    captions = _sidecar_captions(entry, record["duration_us"] / 1e6) or _recorded(entry, record)
    if not captions:
        raise ValueError(f"{entry.name} has no caption; put one beside it")
    name = str(record.get("id"))
    if not _ID.fullmatch(name):
        raise ValueError(f"id {name!r} is no id of a clip; use 1 to 80 letters, digits, '_', '-'")
    return example_of_record(record, id=name, captions=captions, media=data)


def _recorded(entry: Entry, record: dict[str, Any]) -> tuple[TimedCaption, ...]:
    """Captions of the record; a text that was edited since replaces them, with the same events."""
    captions = tuple(TimedCaption.from_json(c) for c in record.get("captions", ()))
    if captions and entry.text.strip() not in ("", prose(captions[0])):
        return (captions[0].replace(text=entry.text.strip()),)
    return captions


def _foreign(entry: Entry, record: dict[str, Any], data: bytes, sha: str) -> Example:
    """A clip of unknown origin, decoded to learn its size and to know that it can be."""
    with NamedTemporaryFile(prefix="avgen-", suffix=".mp4") as file:
        file.write(data)
        file.flush()
        clip = media.read(file.name)
    captions = _sidecar_captions(entry, float(clip.duration))
    if not captions:
        text = entry.text or str(record.get("caption") or record.get("text") or "")
        if not text.strip():
            raise ValueError(f"{entry.name} has no caption; put one beside it")
        captions = (TimedCaption(duration_us=us_from_seconds(clip.duration), text=text.strip()),)
    name = entry.name if _ID.fullmatch(entry.name) else _hashed(entry.name, sha)
    return Example.of_clip(
        clip, id=name, captions=captions, source=entry.name, source_sha256=sha, media=data
    )


def _sidecar_captions(entry: Entry, duration: float) -> tuple[TimedCaption, ...]:
    for path in entry.sidecars:
        if path.suffix.lower() != ".json":
            return (TimedCaption.open(path, duration=duration),)
        return tuple(captions_of_json(path.read_bytes()))
    return ()


def _hashed(name: str, sha: str) -> str:
    return hashlib.sha256(f"{name}|{sha}".encode()).hexdigest()[:24]


def _stamp(entry: Entry) -> list[Any]:
    """Changes whenever the example would; files by size and time, as reading them all is slow."""
    paths = [entry.path, *entry.sidecars]
    if isinstance(entry.record, tuple):
        paths.append(entry.record[0])
    stats = [path.stat() if path.exists() else None for path in paths]
    times = [(s.st_size, s.st_mtime_ns) if s else None for s in stats]
    record = entry.record if isinstance(entry.record, str) else entry.record[1:]
    return [entry.name, entry.offset, entry.size, entry.text, record, times]
