"""What people wrote about the clips of a run: ``WORK/annotations/<id>.json``, a JSON list of captions.

It wins over every captioner. A file never says who wrote it or when; its events have the
provenance ``human``, and no confidence, because a person stands behind each of them.
"""

import fcntl
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from avgen.caption import TimedCaption
from avgen.data.schema import atomic
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.pipeline.stage import Row

FOLDER = "annotations"
PROVENANCE = "human"
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_REPLACED = ("captions", "caption_source", "caption_coverage", "caption_notes")


class ConflictError(ValueError):
    """The annotation is not the one that was edited: another page has saved meanwhile."""


def annotated(folder: Path) -> set[str]:
    """Ids of the clips of a run that have an annotation."""
    return {path.stem for path in (folder / FOLDER).glob("*.json")}


def read(folder: Path, clip_id: str) -> tuple[TimedCaption, ...] | None:
    """The captions that a person wrote for a clip, wordings of one another; None without any.

    Raises:
        PipelineError: The file is damaged. What it held is a person's work, so it is neither
            passed over nor replaced.
    """
    return read_with_version(folder, clip_id)[0]


def read_with_version(folder: Path, clip_id: str) -> tuple[tuple[TimedCaption, ...] | None, str]:
    """Like `read`, with the version that `write` wants back; empty without an annotation."""
    path = _path(folder, clip_id)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, ""
    try:
        captions = tuple(TimedCaption.from_json(item) for item in _listed(json.loads(data)))
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{path}: {error}; mend the file, or move it away") from error
    return captions, _version(data)


def write(folder: Path, clip_id: str, captions: Sequence[TimedCaption], version: str) -> str:
    """Keep captions for a clip, on disk whole or not at all.

    Args:
        folder: Of the run.
        clip_id: Of the clip.
        captions: Wordings of one another, the fullest first.
        version: Of the annotation that was edited; empty where there was none.

    Returns:
        The version of what is kept.

    Raises:
        ConflictError: The annotation on disk has another version.
    """
    path = _path(folder, clip_id)
    items = [_signed(caption).to_dict() for caption in captions]
    data = (json.dumps(items, ensure_ascii=False, indent=1) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.parent):
        if (_version(path.read_bytes()) if path.exists() else "") != version:
            raise ConflictError(
                f"clip {clip_id} was saved from another page meanwhile; load that, or save again over it"
            )
        with atomic(path) as temporary:
            temporary.write_bytes(data)
    return _version(data)


def replaced(folder: Path, rows: Sequence[Row]) -> list[Row]:
    """Rows of a manifest, those of annotated clips with what a person wrote in place of their captions."""
    known = annotated(folder)
    return [_replaced(folder, row) if row["id"] in known else row for row in rows]


def _replaced(folder: Path, row: Row) -> Row:
    captions = read(folder, row["id"]) or ()
    told = json.dumps([caption.to_dict() for caption in captions], ensure_ascii=False)
    provenance = {"captioner": PROVENANCE, "wordings": [PROVENANCE] * len(captions)}
    values = (told, PROVENANCE, None, [])
    return {
        **row,
        **dict(zip(_REPLACED, values, strict=True)),
        "caption_provenance": json.dumps(provenance, sort_keys=True),
    }


def _signed(caption: TimedCaption) -> TimedCaption:
    events = (event.replace(provenance=PROVENANCE, confidence=None) for event in caption.events)
    return caption.replace(events=tuple(events))


def _listed(data: object) -> list[dict[str, object]]:
    if not isinstance(data, list) or not data:
        raise ValueError("is no list of captions")
    return data


def _path(folder: Path, clip_id: str) -> Path:
    if not _ID.fullmatch(clip_id):
        raise PipelineError(f"{clip_id[:80]!r} is no clip's id: letters, digits, _ and - make one")
    return folder / FOLDER / f"{clip_id}.json"


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else compares and writes meanwhile, in this process or another."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
