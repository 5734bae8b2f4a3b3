"""What a release of a dataset would need: rights, faces, exclusions, who wrote the captions, codecs.

Rendered clips (no source file, but a seed) show nobody and belong to whoever rendered them; only
clips of source files are asked for rights. The audit counts what is noted; it judges no licence.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from avgen.caption import TimedCaption
from avgen.data.dataset import MediaDataset
from avgen.data.exclusion import read_exclusion
from avgen.data.schema import INFO, RIGHTS, DatasetInfo
from avgen.data.storage import DatasetError
from avgen_data_prep.annotate import annotations
from avgen_data_prep.pipeline.manifest import MANIFEST
from avgen_data_prep.pipeline.select import select
from avgen_data_prep.pipeline.stage import Row

UNKNOWN = "unknown"
_FACES = {True: "seen", False: "none", None: UNKNOWN}
_COLUMNS = ("id", "source", "source_sha256", "seed", "duration_us", *RIGHTS)
_MOST_NAMED, _MOST_ROWS = 5, 20


@dataclass(frozen=True, kw_only=True)
class Exclusions:
    """An exclusion list against a dataset.

    Attributes:
        file: The list.
        fingerprint: SHA-256 of its entries.
        hits: Ids of clips on it.
        unchecked: Clips that no hash can match, because that of their source was never noted.
    """

    file: str
    fingerprint: str
    hits: tuple[str, ...]
    unchecked: int


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The figures of `audit`.

    Attributes:
        place: Dataset, or folder of a run.
        kind: ``dataset`` or ``run``.
        clips: Clips in all.
        rendered: Clips without a source file.
        sources: Source files.
        hours: Of all clips.
        licences: Clips of source files by licence; ``unknown`` where none is noted.
        consents: Likewise by where consent is noted.
        faces: Likewise by ``seen``, ``none`` and ``unknown``.
        captions: Clips by what wrote the captions: ``human``, ``template``, ``chat:`` with a model,
            ``sidecar``, ``embedded``, a world; two joined by ``+``.
        weights: SHA-256 of codecs and text encoder.
        excluded_when_packed: Fingerprint of the list that the dataset was packed with.
        exclusions: The list that was given now.
        sources_without_licence: Their names.
        faces_unknown: Ids of clips in which nobody looked for faces.
        without_consent: Ids of clips where faces are seen, or may be, and no consent is noted.
        without_hash: Ids of clips whose source's hash is not noted.
        without_caption: Ids of clips whose captions say nothing.
        missing: What a release still needs, in words; empty where nothing does.
    """

    place: str
    kind: str
    clips: int
    rendered: int
    sources: int
    hours: float
    licences: dict[str, int]
    consents: dict[str, int]
    faces: dict[str, int]
    captions: dict[str, int]
    weights: dict[str, str] = field(default_factory=dict)
    excluded_when_packed: str | None = None
    exclusions: Exclusions | None = None
    sources_without_licence: tuple[str, ...] = ()
    faces_unknown: tuple[str, ...] = ()
    without_consent: tuple[str, ...] = ()
    without_hash: tuple[str, ...] = ()
    without_caption: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def to_json(self) -> str:
        """All figures and names as a JSON object."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def tables(self) -> Iterator[RenderableType]:
        """The figures for the terminal, and last what is missing."""
        yield _Lines(
            f"{self.place}: {self.kind} of {self.clips:,} clips, {self.hours:.2f} hours, "
            f"of {self.sources:,} source files ({self.rendered:,} clips are rendered)"
        )
        for name in ("licences", "consents", "faces", "captions"):
            counts: dict[str, int] = getattr(self, name)
            table = Table(name, "clips", box=None)
            for value, number in list(counts.items())[:_MOST_ROWS]:
                table.add_row(Text(value), f"{number:,}")
            if len(counts) > _MOST_ROWS:
                rest = sum(list(counts.values())[_MOST_ROWS:])
                table.add_row(f"{len(counts) - _MOST_ROWS} more", f"{rest:,}")
            if counts:
                yield table
        weights = Table("weights", "SHA-256", box=None)
        for name, identity in self.weights.items():
            weights.add_row(name, identity)
        if self.weights:
            yield weights
        lines = self.missing or ("nothing that this audit looks for; it judges no licence",)
        yield _Lines("\n".join(["a release still needs:", *(f"- {line}" for line in lines)]))


@dataclass(frozen=True)
class _Lines:
    """Lines that are never broken, so that names in them can be copied."""

    text: str

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        console.print(Text(self.text), soft_wrap=True)
        yield from ()


def audit(folder: Path, exclude: Path | None = None) -> Audit:
    """Count what is noted about a packed dataset or about the clips of a run.

    Args:
        folder: Of the dataset, or of the run; in a run a person's captions count as they would when
            packed.
        exclude: File of hashes never to train on, see `read_exclusion`.

    Raises:
        DatasetError: The folder is neither, or is damaged; the list cannot be read.
    """
    if (folder / INFO).is_file():
        opened = MediaDataset(folder)
        told = (opened.provenance(index) for index in range(len(opened)))
        writers = ((row["metadata"].get("caption_source"), row["captions"]) for row in told)
        return _audit(folder, "dataset", opened.manifest, writers, exclude, opened.info)
    if (folder / MANIFEST).is_file():
        table = select(folder)
        return _audit(folder, "run", table, _of_run(folder, table), exclude, None)
    raise DatasetError(
        f"{folder}: holds neither {INFO} nor {MANIFEST}; give a dataset, or the folder of a run"
    )


def _of_run(folder: Path, table: pa.Table) -> Iterator[tuple[str | None, tuple[TimedCaption, ...]]]:
    names = [n for n in ("id", "captions", "caption_source") if n in table.column_names]
    for row in annotations.replaced(folder, table.select(names).to_pylist()):
        found = json.loads(row.get("captions") or "[]")
        yield row.get("caption_source"), tuple(TimedCaption.from_json(item) for item in found)


def _audit(
    folder: Path,
    kind: str,
    table: pa.Table,
    writers: Iterator[tuple[str | None, tuple[TimedCaption, ...]]],
    exclude: Path | None,
    info: DatasetInfo | None,
) -> Audit:
    rows = [
        {**dict.fromkeys(_COLUMNS), **row}
        for row in table.select([n for n in _COLUMNS if n in table.column_names]).to_pylist()
    ]
    filmed = [row for row in rows if row["source_sha256"] is not None or row["seed"] is None]
    wrote: Counter[str] = Counter()
    silent = []
    for row, (writer, captions) in zip(rows, writers, strict=True):
        wrote[writer or _writer(captions)] += 1
        if not any(caption.text.strip() or caption.events for caption in captions):
            silent.append(row["id"])
    settings = info.settings if info else {}
    found = Audit(
        place=str(folder),
        kind=kind,
        clips=len(rows),
        rendered=len(rows) - len(filmed),
        sources=len({row["source_sha256"] or row["source"] for row in filmed}),
        hours=sum(row["duration_us"] or 0 for row in rows) / 3.6e9,
        licences=_counted(row["licence"] or UNKNOWN for row in filmed),
        consents=_counted(row["consent"] or UNKNOWN for row in filmed),
        faces=_counted(_FACES[row["faces"]] for row in filmed),
        captions=_counted(wrote.elements()),
        weights=_weights(info) if info else {},
        excluded_when_packed=settings.get("excluded"),
        exclusions=_exclusions(exclude, table, filmed) if exclude else None,
        sources_without_licence=_names(filmed, "source", lambda row: not row["licence"]),
        faces_unknown=_names(filmed, "id", lambda row: row["faces"] is None),
        without_consent=_names(
            filmed, "id", lambda row: row["faces"] is not False and not row["consent"]
        ),
        without_hash=_names(filmed, "id", lambda row: not row["source_sha256"]),
        without_caption=tuple(silent),
    )
    files = {row["id"]: row["source"] or "" for row in rows}
    return Audit(**{**vars(found), "missing": tuple(_missing(found, files))})


def _writer(captions: Sequence[TimedCaption]) -> str:
    """What the events say wrote them, where nothing says it of the captions."""
    names = {event.provenance for caption in captions for event in caption.events}
    return "+".join(sorted(name or UNKNOWN for name in names)) or UNKNOWN


def _counted(values: Any) -> dict[str, int]:
    counts = Counter(values)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _names(rows: Sequence[Row], column: str, wanted: Callable[[Row], bool]) -> tuple[str, ...]:
    return tuple(sorted({row[column] or "" for row in rows if wanted(row)}))


def _weights(info: DatasetInfo) -> dict[str, str]:
    parts = {
        "video codec": info.video_codec,
        "audio codec": info.audio_codec,
        "text encoder": info.text_encoder,
    }
    return {name: part.identity for name, part in parts.items() if part is not None}


def _exclusions(path: Path, table: pa.Table, filmed: Sequence[Row]) -> Exclusions:
    listed = read_exclusion(path)
    hits = table["id"].filter(pa.array(listed.excluded(table))).to_pylist()
    unhashed = sum(row["source_sha256"] is None for row in filmed)
    return Exclusions(
        file=str(path),
        fingerprint=listed.fingerprint,
        hits=tuple(sorted(hits)),
        unchecked=unhashed if listed.sources else 0,
    )


def _missing(found: Audit, files: Mapping[str, str]) -> Iterator[str]:
    """What a release still needs; ``files`` are the clips' by id."""
    filmed = found.clips - found.rendered
    if found.sources_without_licence:
        yield (
            f"a licence: {found.licences[UNKNOWN]} of {filmed} clips have none, of the sources "
            f"{_named(found.sources_without_licence)}"
        )
    if found.faces_unknown:
        yield (
            f"a look for faces: nobody looked in {len(found.faces_unknown)} of {filmed} clips: "
            f"{_of_files(found.faces_unknown, files)}"
        )
    if found.without_consent:
        yield (
            f"consent: none is noted for {len(found.without_consent)} clips where faces are seen or "
            f"may be: {_of_files(found.without_consent, files)}"
        )
    if found.without_hash:
        yield (
            f"hashes of sources: {len(found.without_hash)} clips have none, so no exclusion list "
            f"can name their files: {_of_files(found.without_hash, files)}"
        )
    if found.exclusions is None and filmed and found.excluded_when_packed is None:
        yield "an exclusion list: none was checked; give one with --exclude"
    if found.exclusions and found.exclusions.hits:
        hits = found.exclusions.hits
        yield (
            f"removal: {len(hits)} clips are on {found.exclusions.file}: {_named(hits)}; pack again "
            "with --exclude"
        )
    if found.without_caption:
        yield (
            f"captions: those of {len(found.without_caption)} clips say nothing: "
            f"{_of_files(found.without_caption, files)}"
        )
    unknown = sum(n for name, n in found.captions.items() if UNKNOWN in name.split("+"))
    if unknown:
        yield f"the origin of captions: it is not noted for {unknown} clips"


def _of_files(ids: Sequence[str], files: Mapping[str, str]) -> str:
    counts = _counted(files[clip_id] for clip_id in ids)
    return _named([f"{name or '(no name)'} ({_clips(n)})" for name, n in counts.items()])


def _clips(number: int) -> str:
    return f"{number:,} clip{'s' * (number != 1)}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(name or "(no name)" for name in names[:_MOST_NAMED]) + more
