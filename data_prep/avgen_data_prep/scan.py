"""What a folder holds: media files, the captions and rights beside them, and the rest."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from avgen.caption import TimedCaption
from avgen_data_prep.build import Record

_MOVIES = "mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts 3gp flv ogv wmv"
_SOUNDS = "wav flac mp3 m4a aac ogg opus"
MEDIA = frozenset(f".{name}" for name in f"{_MOVIES} {_SOUNDS}".split())
CAPTIONS = (".json", ".vtt", ".srt", ".txt")
RIGHTS_OF_FILE, RIGHTS_OF_FOLDER = (".rights.json", ".rights.yaml"), "rights.yaml"
SCANNED = pa.schema(
    [
        ("source", pa.string()),
        ("source_sha256", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_sidecars", pa.string()),
        ("source_rights", pa.string()),
    ]
)
Hashes = Mapping[tuple[str, int, int], str]


@dataclass(frozen=True)
class MediaFile:
    """A media file of a folder.

    Attributes:
        name: Path from the folder.
        size: Bytes.
        sha256: Of the contents.
        sidecars: Caption files beside it, as (path from the folder, SHA-256), best first.
        rights: Files that say under which rights it may be used, in the same form, nearest first:
            ``<stem>.rights.json`` or ``.yaml`` beside it, ``rights.yaml`` of its folder and of those
            above.
        modified_ns: Time of its last change, read before its contents were.
    """

    name: str
    size: int
    sha256: str
    sidecars: tuple[tuple[str, str], ...]
    rights: tuple[tuple[str, str], ...] = ()
    modified_ns: int = field(default=0, compare=False)

    def row(self) -> dict[str, Any]:
        """The columns of `SCANNED`; files beside as JSON lists of (path from the folder, SHA-256)."""
        beside = json.dumps(self.sidecars), json.dumps(self.rights)
        return dict(zip(SCANNED.names, (self.name, self.sha256, self.size, *beside), strict=True))

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "MediaFile":
        """What `row` was made of."""
        sidecars, rights = (
            tuple((name, sha) for name, sha in json.loads(row[column]))
            for column in ("source_sidecars", "source_rights")
        )
        return cls(row["source"], row["source_bytes"], row["source_sha256"], sidecars, rights)


def scan(
    folder: Path, out: Path, known: Hashes | None = None
) -> tuple[list[MediaFile], list[Record]]:
    """Media files below ``folder`` in order of their path, and a record of every other file.

    Hidden files and the dataset that is being written are left out. Files of equal contents count
    once.

    Args:
        folder: Searched with all below it.
        out: Left out.
        known: SHA-256 by path from the folder, size and time of change (ns), not to be computed again.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = [path for path in paths if not _left_out(path, folder, out)]
    beside = {(path.parent, path.stem, path.suffix.lower()): path for path in paths}
    present, sha_of = set(paths), cache(_sha256)
    files: dict[str, MediaFile] = {}
    records: list[Record] = []
    used: set[Path] = set()
    for path in paths:
        if path.suffix.lower() not in MEDIA:
            continue
        sidecars = [beside.get((path.parent, path.stem, suffix)) for suffix in CAPTIONS]
        found = [sidecar for sidecar in sidecars if sidecar is not None]
        rights = [place for place in _rights(path, folder) if place in present]
        used.update(found, rights)
        try:
            name, size, modified_ns = stamp(path, folder)
            sha = (known or {}).get((name, size, modified_ns)) or _sha256(path)
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
            records.append(
                Record(file=str(path.relative_to(folder)), outcome="failed", reason=reason)
            )
            continue
        if sha in files and size:
            reason = f"same contents as {files[sha].name}"
            records.append(Record(file=name, outcome="duplicate", reason=reason))
            continue
        given, allowed = (
            tuple((str(side.relative_to(folder)), sha_of(side)) for side in sides)
            for sides in (found, rights)
        )
        files[sha if size else name] = MediaFile(name, size, sha, given, allowed, modified_ns)
    for path in paths:
        if path.suffix.lower() not in MEDIA:
            outcome = "sidecar" if path in used else "ignored"
            reason = "" if path in used else "neither media nor captions or rights of some"
            records.append(
                Record(file=str(path.relative_to(folder)), outcome=outcome, reason=reason)
            )
    return list(files.values()), records


def _rights(path: Path, folder: Path) -> list[Path]:
    """Where rights of a media file can be said, nearest first."""
    own = [path.with_name(path.stem + suffix) for suffix in RIGHTS_OF_FILE]
    above = [place for place in path.parents if place.is_relative_to(folder)]
    return own + [place / RIGHTS_OF_FOLDER for place in above]


def read_captions(folder: Path, file: MediaFile, records: list[Record]) -> list[TimedCaption]:
    """Captions of a media file, paraphrases of one another, from the best readable sidecar.

    A ``.txt`` gives the text of the whole where a timed sidecar has none. Unreadable sidecars
    become records.
    """
    captions: list[TimedCaption] = []
    for name, _ in file.sidecars:
        try:
            found = _open(folder / name)
        except ValueError as error:
            reason = str(error).removeprefix(f"{folder / name}: ")
            records.append(Record(file=name, outcome="bad caption", reason=reason))
            continue
        if not captions:
            captions = found
        elif name.endswith(".txt"):
            captions = [c if c.text else c.replace(text=found[0].text) for c in captions]
    return captions


def _open(path: Path) -> list[TimedCaption]:
    if path.suffix.lower() == ".json":
        return captions_of_json(path.read_bytes())
    return [TimedCaption.open(path, duration=_NO_LIMIT)]


def captions_of_json(data: bytes) -> list[TimedCaption]:
    """One caption, or a list of paraphrases."""
    found = json.loads(data)
    return [TimedCaption.from_json(c) for c in (found if isinstance(found, list) else [found])]


_NO_LIMIT = 1e6


def stamp(path: Path, folder: Path) -> tuple[str, int, int]:
    """What tells an unchanged file: path from the folder, size, time of change (ns)."""
    status = path.stat()
    return str(path.relative_to(folder)), status.st_size, status.st_mtime_ns


def _left_out(path: Path, folder: Path, out: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return hidden or path.is_relative_to(out) or path.resolve().is_relative_to(out.resolve())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
