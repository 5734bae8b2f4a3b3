"""What a folder holds: media files, the captions beside them, and the rest."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from avgen.caption import TimedCaption
from avgen_data_prep.build import Record, fingerprint

_MOVIES = "mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts 3gp flv ogv wmv"
_SOUNDS = "wav flac mp3 m4a aac ogg opus"
MEDIA = frozenset(f".{name}" for name in f"{_MOVIES} {_SOUNDS}".split())
CAPTIONS = (".json", ".vtt", ".srt", ".txt")


@dataclass(frozen=True)
class MediaFile:
    """A media file of a folder.

    Attributes:
        name: Path from the folder.
        size: Bytes.
        sha256: Of the contents.
        sidecars: Caption files beside it, as (path from the folder, SHA-256), best first.
    """

    name: str
    size: int
    sha256: str
    sidecars: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """Changes whenever the clips made from the file would."""
        return fingerprint(self.name, self.sha256, self.sidecars)


def scan(folder: Path, out: Path) -> tuple[list[MediaFile], list[Record]]:
    """Media files below ``folder`` in order of their path, and a record of every other file.

    Hidden files and the dataset that is being written are left out. Files of equal contents count
    once.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = [path for path in paths if not _left_out(path, folder, out)]
    beside = {(path.parent, path.stem, path.suffix.lower()): path for path in paths}
    files: dict[str, MediaFile] = {}
    records: list[Record] = []
    used: set[Path] = set()
    for path in paths:
        if path.suffix.lower() not in MEDIA:
            continue
        sidecars = [beside.get((path.parent, path.stem, suffix)) for suffix in CAPTIONS]
        found = [sidecar for sidecar in sidecars if sidecar is not None]
        used.update(found)
        name, sha = str(path.relative_to(folder)), _sha256(path)
        if sha in files and path.stat().st_size:
            reason = f"same contents as {files[sha].name}"
            records.append(Record(file=name, outcome="duplicate", reason=reason))
            continue
        hashed = tuple((str(side.relative_to(folder)), _sha256(side)) for side in found)
        files[sha if path.stat().st_size else name] = MediaFile(
            name, path.stat().st_size, sha, hashed
        )
    for path in paths:
        if path.suffix.lower() not in MEDIA:
            outcome = "sidecar" if path in used else "ignored"
            reason = "" if path in used else "neither media nor a caption beside one"
            records.append(
                Record(file=str(path.relative_to(folder)), outcome=outcome, reason=reason)
            )
    return list(files.values()), records


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
        data = json.loads(path.read_bytes())
        return [
            TimedCaption.from_json(item) for item in (data if isinstance(data, list) else [data])
        ]
    return [TimedCaption.open(path, duration=_NO_LIMIT)]


_NO_LIMIT = 1e6


def _left_out(path: Path, folder: Path, out: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return hidden or path.is_relative_to(out) or path.resolve().is_relative_to(out.resolve())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
