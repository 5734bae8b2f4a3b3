"""Measure media files: clips with their captions beside or inside them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen_eval.clips import GENERIC, Detector, failed_clip, measure_clip
from avgen_eval.known import known_detector
from avgen_eval.report import ReportItem

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
CAPTION_SUFFIXES = (".json", ".vtt", ".srt", ".txt")
TRUTH_SUFFIX = ".truth.json"


def find_clips(paths: Sequence[str | Path]) -> list[Path]:
    """Files as they are, and the video files of folders, at any depth, in order of name.

    Raises:
        ValueError: A path does not exist, or there is no clip at all.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(
                p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()
            )
        elif path.exists():
            found.append(path)
        else:
            raise ValueError(f"{path}: no such file or folder")
    if not found:
        raise ValueError(
            f"no clips in {', '.join(map(str, paths))}; "
            f"give files, or folders with {', '.join(SUFFIXES)}"
        )
    return found


def measure_file(path: Path) -> ReportItem:
    """Measure one file against its caption; one that cannot be decoded becomes a failed record.

    The caption is that of ``<stem>.json``, ``.vtt``, ``.srt`` or ``.txt`` beside the file, else the
    one embedded in it. Where ``<stem>.truth.json`` names a world (``{"world": ..., "truth":
    {...}}``), its known-answer detector is used. Sidecars that cannot be used are findings.
    """
    try:
        clip = Clip.open(path)
    except (ValueError, OSError, MemoryError) as error:
        return ReportItem(record=failed_clip(path.name, f"cannot be decoded: {_told(path, error)}"))
    caption, caption_problem = _sidecar_caption(path, clip.duration)
    detector, name, truth_problem = _sidecar_detector(path)
    notes = _notes(clip.request)
    try:
        record = measure_clip(
            clip, caption, detector, name=path.name, detector_name=name, notes=notes
        )
    except (ValueError, KeyError, TypeError) as error:
        if detector is None:
            raise
        truth_problem = f"detector of world {name!r} cannot be used: {error}"
        record = measure_clip(clip, caption, name=path.name, notes=notes)
    problems = tuple(problem for problem in (caption_problem, truth_problem) if problem)
    return ReportItem(
        record=replace(record, findings=record.findings + problems),
        clip=clip,
        path=path if path.suffix.lower() == ".mp4" else None,
        caption=caption,
    )


def write_truth(path: Path, world: str, truth: dict[str, Any]) -> Path:
    """Write the sidecar that tells `measure_file` which detector to use for a clip."""
    sidecar = path.with_suffix(TRUTH_SUFFIX)
    sidecar.write_text(json.dumps({"world": world, "truth": truth}) + "\n", encoding="utf-8")
    return sidecar


def _told(path: Path, error: BaseException) -> str:
    """What an error says, naming the file without its folder."""
    return str(error).replace(str(path), path.name) or type(error).__name__


def _sidecar_caption(path: Path, duration: float) -> tuple[TimedCaption | None, str | None]:
    for suffix in CAPTION_SUFFIXES:
        sidecar = path.with_suffix(suffix)
        if sidecar.is_file():
            try:
                return TimedCaption.open(sidecar, duration), None
            except ValueError as error:
                return None, f"caption beside it cannot be used: {_told(sidecar, error)}"
    return None, None


def _sidecar_detector(path: Path) -> tuple[Detector | None, str, str | None]:
    sidecar = path.with_suffix(TRUTH_SUFFIX)
    if not sidecar.is_file():
        return None, GENERIC, None
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
        return known_detector(content["world"], content["truth"]), content["world"], None
    except (ValueError, KeyError, TypeError, OSError) as error:
        return None, GENERIC, f"truth beside it cannot be used: {error!r}"


def _notes(request: dict[str, Any]) -> tuple[str, ...]:
    """How a clip came about, from the request embedded in it."""
    texts = {
        "prefix": "continued from a given clip",
        "video": "sound added to a silent video",
        "audio": "picture added to a sound",
        "image": "started from a given image",
    }
    given = request.get("given")
    return (texts[given],) if isinstance(given, str) and given in texts else ()
