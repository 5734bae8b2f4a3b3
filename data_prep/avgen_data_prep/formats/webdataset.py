"""A WebDataset folder: tar files in which ``{id}.json`` and ``{id}.mp4`` follow one another.

The name of a member up to the first dot of its last part is the key that its files share.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from avgen.data.schema import atomic
from avgen_data_prep.build import Record
from avgen_data_prep.formats.entry import Entry, Exported, Format, prose

_MOST_CLIPS = 1000
_MOST_BYTES = 1 << 30
_MOST_TEXT = 1 << 20


def write(out: Path, clips: Iterable[Exported]) -> None:
    """See `Format.write`."""
    waiting = iter(clips)
    first, number = next(waiting, None), 0
    while first is not None:
        with (
            atomic(out / f"shard-{number:06d}.tar") as temporary,
            tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            count = 0
            while first is not None and count < _MOST_CLIPS and tar.offset < _MOST_BYTES:
                _append(tar, first)
                first, count = next(waiting, None), count + 1
        number += 1


def _append(tar: tarfile.TarFile, clip: Exported) -> None:
    record = {**clip.full_record, "caption": prose(clip.captions[0])}
    text = json.dumps(record, ensure_ascii=False, sort_keys=True).encode()
    for suffix, data in (("json", text), ("mp4", clip.media)):
        header = tarfile.TarInfo(f"{clip.id}.{suffix}")
        header.size = len(data)
        tar.addfile(header, io.BytesIO(data))


def scan(place: Path) -> tuple[list[Entry], list[Record]]:
    """See `Format.scan`; ``place`` may be one tar file."""
    entries: list[Entry] = []
    records: list[Record] = []
    for path in [place] if place.is_file() else sorted(place.rglob("*.tar")):
        for key, group in groupby(_members(path, records), lambda member: member[0]):
            parts = {extension: header for _, extension, header in group}
            media = parts.get("mp4")
            if media is None:
                found = ", ".join(sorted(parts))
                reason = f"key {key} has no mp4 member (only {found})"
                records.append(Record(file=path.name, outcome="failed", reason=reason))
                continue
            entries.append(_entry(key, path, media, parts))
    return entries, records


def _members(path: Path, records: list[Record]) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Key, extension and header of each regular file of a tar; a damaged rest becomes a record."""
    try:
        with tarfile.open(path, "r:") as tar:
            for header in tar:
                folder, _, base = header.name.rpartition("/")
                stem, _, extension = base.partition(".")
                if header.isreg() and stem:
                    yield f"{folder}/{stem}".lstrip("/"), extension.lower(), header
    except (tarfile.TarError, OSError, EOFError) as error:
        reason = f"damaged ({error}); the clips before the damage are kept"
        records.append(Record(file=path.name, outcome="failed", reason=reason))


def _entry(
    key: str, path: Path, media: tarfile.TarInfo, parts: dict[str, tarfile.TarInfo]
) -> Entry:
    record, text = parts.get("json"), parts.get("txt")
    return Entry(
        name=key,
        path=path,
        offset=media.offset_data,
        size=media.size,
        text=_text(path, text) if text else "",
        record=(path, record.offset_data, record.size) if record else "",
    )


def _text(path: Path, header: tarfile.TarInfo) -> str:
    with path.open("rb") as file:
        file.seek(header.offset_data)
        return file.read(min(header.size, _MOST_TEXT)).decode(errors="replace")


FORMAT = Format(write, scan)
