"""What is evaluated: a list of clips with what was asked for and what they are compared with.

A manifest is a JSONL file with one object per clip; nothing is encoded in file names. Files and folders of other
systems (``.mp4``, or ``.mp4`` with a ``.wav`` of the same name beside it) become a manifest by `from_paths`.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from avgen.caption import TimedCaption
from avgen_eval.arrivals import SUFFIX as ARRIVALS
from avgen_eval.known import SUFFIX as TRUTH

PICTURES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
CAPTIONS = (".json", ".vtt", ".srt", ".txt")
_PATHS = (
    "video",
    "audio",
    "reference_video",
    "reference_audio",
    "caption_file",
    "arrivals",
    "truth",
)
_EXPORTED = "avgen.jsonl"
_FIELDS = ("id", "prompt", *_PATHS, "seed", "caption", "error", "meta")


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
        arrivals: When the chunks of a live stream arrived, see `avgen_eval.arrivals`.
        truth: What a clip of a world should show, for the world's detector, see `avgen_eval.known`.
        error: Why the clip could not be made; it has no files then, and counts as failed.
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
    arrivals: Path | None = None
    truth: Path | None = None
    error: str | None = None
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


def read_manifest(path: str | Path, *, captions_only: bool = False) -> list[Item]:
    """Read a JSONL manifest; paths are relative to its folder.

    Files need not exist: a missing one is a finding of the evaluation.

    Args:
        path: The file.
        captions_only: Take lines that name no files, of clips that are still to be made.

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
            item = _item(line, path.parent, f"{path.name}:{number}", captions_only)
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


def from_paths(paths: Sequence[Path], reference: str | Path | None = None) -> list[Item]:
    """Clips of files and folders (at any depth), with what lies beside them.

    A sound file of the same stem replaces the sound of the picture; a sidecar caption (``.json``, ``.vtt``, ``.srt``,
    ``.txt``) is what was asked for; ``<stem>.arrivals.jsonl`` says when its chunks arrived, ``<stem>.truth.json`` what
    a world's detector should find; a file at the same place in ``reference`` is what it is compared with. The id is
    the path below the folder that all have in common, without its suffix, and each clip is its own prompt.

    Raises:
        ManifestError: A path does not exist, or there are no clips.
    """
    pictures, sounds = _by_id(paths)
    if not pictures and not sounds:
        suffixes = ", ".join(PICTURES + SOUNDS)
        raise ManifestError(f"{', '.join(map(str, paths))}: holds no clips; they end in {suffixes}")
    if reference is not None and not Path(reference).is_dir():
        raise ManifestError(f"{reference}: no such folder; give a folder of references")
    originals, original_sounds = _by_id([Path(reference)]) if reference else ({}, {})
    items = []
    for name in sorted(pictures | sounds):
        beside = pictures.get(name) or sounds[name]
        items.append(
            Item(
                id=name,
                prompt=name,
                video=pictures.get(name),
                audio=sounds.get(name),
                reference_video=originals.get(name),
                reference_audio=original_sounds.get(name),
                caption_file=_sidecar(beside, CAPTIONS),
                arrivals=_sidecar(beside, (ARRIVALS,)),
                truth=_sidecar(beside, (TRUTH,)),
            )
        )
    return items


def load_items(
    sources: str | Path | Sequence[str | Path], reference: str | Path | None = None
) -> list[Item]:
    """A manifest, or files and folders, whichever they are.

    Raises:
        ManifestError: See `read_manifest` and `from_paths`; a manifest beside other clips or a folder of references.
    """
    paths = [Path(s) for s in ([sources] if isinstance(sources, (str, Path)) else sources)]
    manifest = next((path for path in paths if path.suffix == ".jsonl"), None)
    if manifest is None:
        return from_paths(paths, reference)
    if len(paths) > 1:
        raise ManifestError(f"{manifest}: a manifest is given alone, without other clips")
    if reference is not None:
        raise ManifestError(
            f"{manifest}: a manifest names its references itself, as `reference_video` and "
            "`reference_audio`; leave out --ref"
        )
    return read_manifest(manifest)


def _item(line: str, base: Path, place: str, captions_only: bool) -> Item:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ManifestError(
            f"{place}: not JSON ({error.msg}); write one object per line"
        ) from error
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not row["id"]:
        raise ManifestError(f"{place}: needs an object with a text `id`")
    unknown = sorted(set(row) - set(_FIELDS))
    if unknown and place.startswith(f"{_EXPORTED}:"):
        raise ManifestError(
            f"{place}: is a record of `avgen prep export`, not a manifest; give the folder, {base}"
        )
    if unknown:
        raise ManifestError(
            f"{place}: unknown field {unknown[0]!r}; use {', '.join(_FIELDS)}, and `meta` for the rest"
        )
    named = any(row.get(name) for name in ("video", "audio", "error"))
    if not named and not captions_only:
        raise ManifestError(
            f"{place}: {row['id']!r} names neither `video` nor `audio`; give one, or say in `error` why it was not made"
        )
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


def _by_id(paths: Sequence[Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Pictures and sounds; a name that is taken (``a.mp4`` beside ``a.webm``) keeps its suffix."""
    for path in paths:
        if not path.exists():
            raise ManifestError(
                f"{path}: no such file or folder; give clips, folders of them, or a .jsonl manifest"
            )
    folders = (path if path.is_dir() else path.parent for path in paths)
    base = os.path.commonpath([os.path.normpath(folder.absolute()) for folder in folders])
    found: tuple[dict[str, Path], dict[str, Path]] = ({}, {})
    for file in dict.fromkeys(file for path in paths for file in _media_files(path)):
        table = found[file.suffix.lower() in SOUNDS]
        whole = Path(os.path.relpath(file, base)).as_posix()
        name = Path(whole).with_suffix("").as_posix()
        table[whole if name in table else name] = file
    return found


def _media_files(path: Path) -> list[Path]:
    """A file, whatever its name, or the clips of a folder."""
    if not path.is_dir():
        return [path]
    kinds = PICTURES + SOUNDS
    return sorted(p for p in path.rglob("*") if p.suffix.lower() in kinds and p.is_file())


def _sidecar(path: Path, suffixes: Sequence[str]) -> Path | None:
    return next((p for suffix in suffixes if (p := path.with_suffix(suffix)).is_file()), None)


def _relative(path: Path, base: Path) -> str:
    path = path.resolve()
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)
