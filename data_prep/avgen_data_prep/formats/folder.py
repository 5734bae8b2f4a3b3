"""A plain folder: ``{id}.mp4`` with ``{id}.json`` and ``{id}.vtt`` beside it.

``.json`` holds the list of captions, and is what an import reads; ``.vtt`` is the first of them,
for players. `avgen prep ingest` reads such a folder too, and cuts what is in it.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from avgen_data_prep.build import Record
from avgen_data_prep.formats.entry import Entry, Exported, Format
from avgen_data_prep.formats.records import read_records, write_records
from avgen_data_prep.scan import MEDIA

_SIDECARS = (".json", ".vtt", ".srt")


def write(out: Path, clips: Iterable[Exported]) -> None:
    """See `Format.write`."""
    records: list[dict[str, Any]] = []
    for clip in clips:
        (out / f"{clip.id}.mp4").write_bytes(clip.media)
        captions = [caption.to_dict() for caption in clip.captions]
        text = json.dumps(captions, ensure_ascii=False, indent=1)
        (out / f"{clip.id}.json").write_text(text + "\n", encoding="utf-8")
        clip.captions[0].save(out / f"{clip.id}.vtt")
        records.append(clip.record)
    write_records(out, records)


def scan(place: Path) -> tuple[list[Entry], list[Record]]:
    """See `Format.scan`; folders below are searched, hidden ones left out."""
    told = read_records(place)
    entries: list[Entry] = []
    records: list[Record] = []
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place)
        if path.suffix.lower() not in MEDIA or any(p.startswith(".") for p in name.parts):
            continue
        if path.suffix.lower() != ".mp4":
            reason = f"{path.suffix} is no MP4 file; use `avgen prep ingest`"
            records.append(Record(file=str(name), outcome="failed", reason=reason))
            continue
        beside = [path.with_suffix(suffix) for suffix in _SIDECARS]
        text = path.with_suffix(".txt")
        entries.append(
            Entry(
                name=str(name.with_suffix("")),
                path=path,
                text=text.read_text(encoding="utf-8", errors="replace") if text.is_file() else "",
                record=told.get(path.stem, ""),
                sidecars=tuple(sidecar for sidecar in beside if sidecar.is_file()),
            )
        )
    return entries, records


FORMAT = Format(write, scan)
