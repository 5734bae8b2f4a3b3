"""One clip on its way between a dataset and another layout: its media, and a record of the rest."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from avgen.caption import TimedCaption
from avgen.data.dataset import MediaDataset
from avgen.data.schema import RIGHTS, DatasetError
from avgen.data.shards import Example
from avgen_data_prep.build import Record

_NUMBERS = ("duration_us", "num_frames", "height", "width", "num_samples", "sample_rate")
_RATE = ("fps_numerator", "fps_denominator")
_OPTIONAL = {"seed": int, "source_sha256": str, **dict.fromkeys(RIGHTS, str), "faces": bool}
FACTS = (*_NUMBERS, *_RATE, "source", *_OPTIONAL)


@dataclass(frozen=True)
class Exported:
    """A clip that leaves a dataset.

    Attributes:
        id: Its id.
        media: An MP4 file.
        captions: Paraphrases of one caption.
        record: JSON-able: the id, what `FACTS` names, ``metadata``, and the SHA-256 of the media.
    """

    id: str
    media: bytes
    captions: tuple[TimedCaption, ...]
    record: dict[str, Any]

    @property
    def full_record(self) -> dict[str, Any]:
        """The record with the captions."""
        return {**self.record, "captions": [caption.to_dict() for caption in self.captions]}


@dataclass(frozen=True)
class Entry:
    """A clip found in another layout; small, as all of a folder are held at once.

    Attributes:
        name: What the layout calls it; becomes the id where it can be one.
        path: File with the media.
        offset: Where the media begin in it.
        size: Bytes of the media; None: to the end of the file.
        text: Caption without times, for clips that avgen did not export.
        record: Where the JSON record lies, as (path, offset, size), or the JSON itself.
        sidecars: Caption files beside the media, best first; they go before the record's captions.
    """

    name: str
    path: Path
    offset: int = 0
    size: int | None = None
    text: str = ""
    record: str | tuple[Path, int, int] = ""
    sidecars: tuple[Path, ...] = ()

    def media(self) -> bytes:
        """The MP4 file.

        Raises:
            ValueError: It is missing, shorter than it should be, or no MP4 file.
        """
        data = _slice(self.path, self.offset, self.size)
        if data[4:8] != b"ftyp":
            raise ValueError(
                f"{self.path.name} is no MP4 file; use `avgen prep ingest` for other media"
            )
        return data

    def told(self) -> dict[str, Any]:
        """The record, empty where there is none.

        Raises:
            ValueError: It is no JSON object.
        """
        text = self.record if isinstance(self.record, str) else _slice(*self.record)
        told = json.loads(text) if text else {}
        if not isinstance(told, dict):
            raise ValueError(f"the record of {self.name} is no JSON object; export it again")
        return told


class Format(NamedTuple):
    """A layout of another tool.

    Attributes:
        write: Clips into an empty folder; returns nothing.
        scan: What a folder (or its metadata file) holds, in a fixed order, and a record of what
            cannot be used. Nothing heavy is read.
    """

    write: Callable[[Path, Iterable[Exported]], None]
    scan: Callable[[Path], tuple[list[Entry], list[Record]]]


def exported(dataset: MediaDataset) -> Iterator[Exported]:
    """The clips of a dataset, in order; latents stay behind, as they belong to a codec."""
    for index in range(len(dataset)):
        rest = dataset.provenance(index)
        media = dataset.media(index)
        row = dataset.manifest.select([*_NUMBERS, *_RATE]).slice(index, 1).to_pylist()[0]
        captions, metadata = rest.pop("captions"), rest.pop("metadata")
        record = {**rest, **row, "metadata": metadata}
        record["media_sha256"] = hashlib.sha256(media).hexdigest()
        yield Exported(rest["id"], media, captions, record)


def example_of_record(record: dict[str, Any], **rest: Any) -> Example:
    """The example that `exported` made ``record`` of; ``rest`` gives id, captions and media.

    Raises:
        DatasetError: A fact is missing or senseless.
    """
    try:
        numbers = {name: int(record[name]) for name in _NUMBERS}
        fps = Fraction(int(record["fps_numerator"]), int(record["fps_denominator"]))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise DatasetError(f"record lacks a usable {error}; export it again") from error
    optional = {name: record.get(name) for name in _OPTIONAL}
    for name, value in optional.items():
        if value is not None and type(value) is not _OPTIONAL[name]:
            raise DatasetError(f"{name} {value!r} of a record is no {_OPTIONAL[name].__name__}")
    metadata = record.get("metadata") or {}
    source = str(record.get("source") or "")
    return Example(**numbers, fps=fps, source=source, metadata=metadata, **optional, **rest)


def prose(caption: TimedCaption) -> str:
    """A caption as one paragraph without times: the whole, then the events in their order."""
    parts = [caption.text, *dict.fromkeys(event.text for event in caption.events)]
    sentences = [" ".join(part.split()) for part in parts]
    return " ".join(s if s[-1] in ".!?\"'" else f"{s}." for s in sentences if s)


def inside(folder: Path, name: str) -> Path:
    """The file that metadata name, which must lie in the metadata's folder.

    Raises:
        ValueError: It lies elsewhere.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{name} lies outside {folder}; move the media below that folder")
    return path


def _slice(path: Path, offset: int, size: int | None) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read() if size is None else file.read(size)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror})") from error
    if size is not None and len(data) != size:
        raise ValueError(f"{path.name} is truncated: {len(data)} of {size} bytes at {offset}")
    return data
