"""What is evaluated: a list of clips with what was asked for and what they are compared with.

A manifest is a JSONL file with one object per clip; nothing is encoded in file names. Folders of other systems
(``.mp4`` files, or ``.mp4`` with a ``.wav`` of the same name beside it) become a manifest by `from_folder`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from avgen.caption import TimedCaption

PICTURES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
CAPTIONS = (".json", ".vtt", ".srt", ".txt")
_PATHS = ("video", "audio", "reference_video", "reference_audio", "caption_file")
_FIELDS = ("id", "prompt", *_PATHS, "seed", "caption", "meta")


class ManifestError(ValueError):
    """A manifest or folder that cannot be used; the message names the line and says what to do."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One clip of a manifest.

    Attributes:
        id: Unique within the manifest; records and comparisons are joined by it.
        prompt: Group of the clip for statistics: clips of one prompt with several seeds share it.
        video: File with the picture (and the sound, where ``audio`` is None); None for a sound alone.
        audio: File with the sound, in place of that of ``video``.
        reference_video: Real or original file that the clip is compared with.
        reference_audio: Likewise for the sound, where it is a file of its own.
        seed: Of the generation, where known.
        caption: What was asked for, with timed events.
        caption_file: Where to read it from (JSON, WebVTT, SRT, text), in place of ``caption``.
        meta: Anything else; copied into the records.
    """

    id: str
    prompt: str
    video: Path | None = None
    audio: Path | None = None
    reference_video: Path | None = None
    reference_audio: Path | None = None
    seed: int | None = None
    caption: TimedCaption | None = None
    caption_file: Path | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def to_dict(self, base: Path) -> dict[str, Any]:
        """JSON-able form with paths relative to ``base`` where they lie below it."""
        row = {key: value for key, value in asdict(self).items() if value not in (None, {})}
        for name in _PATHS:
            if name in row:
                row[name] = _relative(row[name], base)
        if self.caption is not None:
            row["caption"] = self.caption.to_dict()
        return row


def read_manifest(path: str | Path) -> list[Item]:
    """Read a JSONL manifest; paths are relative to its folder.

    Files need not exist: a missing one is a finding of the evaluation.

    Raises:
        ManifestError: A line that is not an object with the fields above, or an id that is there twice.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read as text: {error}") from error
    items: dict[str, Item] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            item = _item(line, path.parent, f"{path.name}:{number}")
            if item.id in items:
                raise ManifestError(
                    f"{path.name}:{number}: id {item.id!r} is there twice; give each its own"
                )
            items[item.id] = item
    if not items:
        raise ManifestError(f"{path}: holds no clips; give one JSON object per line")
    return list(items.values())


def write_manifest(path: str | Path, items: Sequence[Item]) -> Path:
    """Write a manifest that `read_manifest` reads back, with paths relative to its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    base = path.parent.resolve()
    rows = [json.dumps(item.to_dict(base), ensure_ascii=False, sort_keys=True) for item in items]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def from_folder(folder: str | Path, reference: str | Path | None = None) -> list[Item]:
    """Every clip of a folder, at any depth, with what lies beside it.

    A sound file of the same stem replaces the sound of the picture; a sidecar caption (``.json``, ``.vtt``, ``.srt``,
    ``.txt``) is what was asked for; a file at the same place in ``reference`` is what it is compared with. The id is
    the path without its suffix, and each clip is its own prompt.

    Raises:
        ManifestError: No folder, or no clips in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ManifestError(
            f"{folder}: no such folder; give a folder of clips or a .jsonl manifest"
        )
    pictures, sounds = _by_id(folder, PICTURES), _by_id(folder, SOUNDS)
    if not pictures and not sounds:
        suffixes = ", ".join(PICTURES + SOUNDS)
        raise ManifestError(f"{folder}: holds no clips; they end in {suffixes}")
    originals = _by_id(Path(reference), PICTURES) if reference else {}
    original_sounds = _by_id(Path(reference), SOUNDS) if reference else {}
    return [
        Item(
            id=name,
            prompt=name,
            video=pictures.get(name),
            audio=sounds.get(name),
            reference_video=originals.get(name),
            reference_audio=original_sounds.get(name),
            caption_file=_sidecar(pictures.get(name) or sounds[name]),
        )
        for name in sorted(pictures | sounds)
    ]


def load_items(source: str | Path, reference: str | Path | None = None) -> list[Item]:
    """A manifest file or a folder, whichever it is.

    Raises:
        ManifestError: See `read_manifest` and `from_folder`; a manifest beside a folder of references.
    """
    path = Path(source)
    if path.suffix != ".jsonl":
        return from_folder(path, reference)
    if reference is not None:
        raise ManifestError(
            f"{path}: a manifest names its references itself, as `reference_video` and "
            "`reference_audio`; leave out --ref"
        )
    return read_manifest(path)


def _item(line: str, base: Path, place: str) -> Item:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ManifestError(
            f"{place}: not JSON ({error.msg}); write one object per line"
        ) from error
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not row["id"]:
        raise ManifestError(f"{place}: needs an object with a text `id`")
    unknown = sorted(set(row) - set(_FIELDS))
    if unknown:
        raise ManifestError(
            f"{place}: unknown field {unknown[0]!r}; use {', '.join(_FIELDS)}, and `meta` for the rest"
        )
    if not row.get("video") and not row.get("audio"):
        raise ManifestError(f"{place}: {row['id']!r} names neither `video` nor `audio`")
    for name in _PATHS:
        if row.get(name) is not None:
            if not isinstance(row[name], str):
                raise ManifestError(f"{place}: {name} is {row[name]!r}; give a path as text")
            row[name] = base / row[name]
    try:
        caption = row.pop("caption", None)
        caption = TimedCaption.from_json(caption) if caption is not None else None
    except ValueError as error:
        raise ManifestError(f"{place}: caption: {error}") from error
    return Item(**{"prompt": row["id"], **row}, caption=caption)


def _by_id(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder")
    found = (p for p in sorted(folder.rglob("*")) if p.suffix.lower() in suffixes and p.is_file())
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in found}


def _sidecar(path: Path) -> Path | None:
    return next((p for suffix in CAPTIONS if (p := path.with_suffix(suffix)).is_file()), None)


def _relative(path: Path, base: Path) -> str:
    path = path.resolve()
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)
