"""From files to clips, integrity first: what is wrong with a file is a finding, never a crash."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from avgen import media
from avgen.caption import CaptionError, TimedCaption
from avgen.caption_formats import MAX_CHARACTERS
from avgen.clip import Clip
from avgen.measure.flow import PictureFlow, measure_flow
from avgen_eval.arrivals import ArrivalError, read_arrivals
from avgen_eval.clips import inspect_content
from avgen_eval.harness.manifest import Item
from avgen_eval.known import Truth, read_truth
from avgen_eval.metrics.live import Arrivals

MAX_SKEW = 0.04
_BLOCK = 1 << 20
# Extracts rest on how files become clips: raise it where that changes.
_DECODING = b"decoding-2"
_NO_LIMIT = 1e6


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong with a clip.

    Attributes:
        code: Short name that does not change, such as ``undecodable`` or ``no_audio``.
        text: What it is, in words, without the name of the file.
        fatal: Whether nothing can be measured.
    """

    code: str
    text: str
    fatal: bool = False


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A clip of a manifest as it came out of its files.

    Attributes:
        clip: None where nothing could be decoded.
        reference: The clip that it is compared with, if there is one.
        caption: What was asked for.
        arrivals: When the chunks of each stream arrived, where that is known.
        truth: What it should show, where a world knows that.
        findings: What is wrong.
    """

    clip: Clip | None
    reference: Clip | None = None
    caption: TimedCaption | None = None
    arrivals: dict[str, Arrivals] | None = None
    truth: Truth | None = None
    findings: tuple[Finding, ...] = ()

    @cached_property
    def flow(self) -> PictureFlow:
        """Optical flow of a clip that has a picture, for all that measure motion."""
        assert self.clip is not None
        assert self.clip.frames is not None
        return measure_flow(self.clip.frames)


def content_hash(item: Item) -> str:
    """SHA-256 of the bytes of all files of an item and of its caption; missing files count as empty.

    The same clip under another name has the same hash.
    """
    digest = hashlib.sha256(_DECODING)
    named = (item.video, item.audio, item.reference_video, item.reference_audio, item.caption_file)
    for path in named:
        digest.update(_file_hash(path))
    if item.arrivals is not None:
        digest.update(_file_hash(item.arrivals))
    if item.truth is not None:
        digest.update(_file_hash(item.truth))
    if item.error is not None:
        digest.update(item.error.encode())
    if item.caption is not None:
        digest.update(item.caption.to_json().encode())
    return digest.hexdigest()


def decode(item: Item) -> Decoded:
    """Decode the files of an item; whatever fails is a finding."""
    if item.error is not None:
        text = f"could not be made: {item.error}"
        return Decoded(clip=None, findings=(Finding(code="not_made", text=text, fatal=True),))
    findings: list[Finding] = []
    clip = _clip(item.video, item.audio, findings, "")
    reference = _clip(item.reference_video, item.reference_audio, findings, "reference ")
    if clip is None:
        fatal = Finding(
            code="nothing", text="neither picture nor sound could be decoded", fatal=True
        )
        return Decoded(clip=None, findings=(*findings, fatal))
    findings += _skews(item)
    caption = _caption(item, clip, findings)
    arrivals = _arrivals(item, clip, findings)
    truth = _truth(item, findings)
    findings += _mismatches(clip, reference)
    findings += [Finding(code=t.partition(":")[0], text=t) for t in inspect_content(clip)]
    return Decoded(
        clip=clip,
        reference=reference,
        caption=caption,
        arrivals=arrivals,
        truth=truth,
        findings=tuple(findings),
    )


def _clip(
    video: Path | None, audio: Path | None, findings: list[Finding], role: str
) -> Clip | None:
    picture = _open(video, findings, role)
    sound = _open(audio, findings, role)
    if audio is None:
        return picture
    if picture is None or picture.frames is None:
        return sound
    if sound is None or sound.waveform is None:
        return picture.replace(waveform=None)
    return picture.replace(waveform=sound.waveform, sample_rate=sound.sample_rate)


def _open(path: Path | None, findings: list[Finding], role: str) -> Clip | None:
    if path is None:
        return None
    if not path.is_file():
        findings.append(Finding(code="missing", text=f"{role}file does not exist"))
        return None
    try:
        return media.read(path)
    except (ValueError, OSError, MemoryError) as error:
        findings.append(Finding(code="undecodable", text=f"{role}{_told(error, path)}"))
        return None


def open_caption(path: Path, duration: float) -> TimedCaption:
    """Read a caption file; of a JSON list of paraphrases, as `avgen prep export folder` writes it, the first.

    Args:
        path: ``.json``, ``.vtt``, ``.srt`` or ``.txt``.
        duration: Of the clip in seconds; events beyond it are cut.

    Raises:
        CaptionError: The file cannot be read, is no caption, or its list is empty.
    """
    if (listed := _listed(path)) is None:
        return TimedCaption.open(path, duration)
    if not listed:
        raise CaptionError("JSON", listed, "give a caption, or a list that holds one")
    return TimedCaption.from_json(listed[0]).cropped(0, duration)


def caption_problem(item: Item) -> str:
    """Why the caption file of an item cannot be used; empty where it can, or there is none."""
    if item.caption is not None or item.caption_file is None:
        return ""
    try:
        open_caption(item.caption_file, _NO_LIMIT)
    except (ValueError, OSError) as error:
        return f"{item.caption_file}: {_told(error, item.caption_file)}"
    return ""


def _listed(path: Path) -> list[Any] | None:
    """The list in a JSON file; None where there is none, or where `TimedCaption.open` says what is wrong."""
    try:
        if path.suffix.lower() != ".json" or path.stat().st_size > MAX_CHARACTERS:
            return None
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _caption(item: Item, clip: Clip, findings: list[Finding]) -> TimedCaption | None:
    if item.caption is not None or item.caption_file is None:
        return item.caption or clip.caption
    try:
        return open_caption(item.caption_file, clip.duration)
    except (ValueError, OSError) as error:
        text = f"caption cannot be used: {_told(error, item.caption_file)}"
        findings.append(Finding(code="caption", text=text))
        return None


def _arrivals(item: Item, clip: Clip, findings: list[Finding]) -> dict[str, Arrivals] | None:
    if item.arrivals is None:
        return None
    try:
        arrivals = read_arrivals(item.arrivals)
    except ArrivalError as error:
        findings.append(Finding(code="arrivals", text=f"arrivals cannot be used: {error}"))
        return None
    for stream, media_of in (("video", clip.frames), ("audio", clip.waveform)):
        seconds = arrivals[stream].duration if stream in arrivals else 0.0
        wanted = 0.0 if media_of is None else clip.duration
        if abs(seconds - wanted) > MAX_SKEW:
            text = f"arrivals hold {seconds:.2f} s of {stream}, the clip {wanted:.2f} s"
            findings.append(Finding(code="arrivals_length", text=text))
    return arrivals


def _truth(item: Item, findings: list[Finding]) -> Truth | None:
    if item.truth is None:
        return None
    try:
        return read_truth(item.truth)
    except ValueError as error:
        findings.append(Finding(code="truth", text=f"truth cannot be used: {error}"))
        return None


def _told(error: BaseException, path: Path) -> str:
    """What went wrong without the name of the file: another one with the same content shares it."""
    if isinstance(error, media.MediaError):
        return f"{error.problem}; {error.fix}"
    text = str(error)
    for name in (f"{path}: ", f"{path.name}: ", str(path)):
        text = text.replace(name, "")
    return text or type(error).__name__


def _skews(item: Item) -> list[Finding]:
    """Where picture and sound begin and end apart, by the files' headers (reading fills the shorter one up)."""
    infos = [_probe(path) for path in (item.video, item.audio or item.video)]
    picture = infos[0].video if infos[0] else None
    sound = infos[1].audio if infos[1] else None
    if picture is None or sound is None:
        return []
    found: list[Finding] = []
    starts = 1000 * (sound.start - picture.start)
    if item.audio is None and abs(starts) > 1000 * MAX_SKEW:
        side = "after" if starts > 0 else "before"
        text = f"sound begins {abs(starts):.0f} ms {side} the picture"
        found.append(Finding(code="start", text=text))
    if picture.duration is not None and sound.duration is not None:
        gap = 1000 * (sound.duration - picture.duration)
        if abs(gap) > 1000 * MAX_SKEW:
            side = "longer" if gap > 0 else "shorter"
            text = f"sound is {abs(gap):.0f} ms {side} than the picture"
            found.append(Finding(code="length", text=text))
    return found


def _probe(path: Path | None) -> media.MediaInfo | None:
    try:
        return media.probe(path) if path is not None else None
    except (ValueError, OSError, MemoryError):
        return None  # decoding says why


def _mismatches(clip: Clip, reference: Clip | None) -> list[Finding]:
    found: list[Finding] = []
    if clip.frames is None:
        found.append(Finding(code="no_video", text="no picture"))
    if clip.waveform is None:
        found.append(Finding(code="no_audio", text="no sound"))
    if reference is not None:
        found += _against_reference(clip, reference)
    return found


def _against_reference(clip: Clip, reference: Clip) -> list[Finding]:
    found: list[Finding] = []
    gap = clip.duration - reference.duration
    if abs(gap) > MAX_SKEW:
        text = f"{clip.duration:.2f} s long, the reference {reference.duration:.2f} s"
        found.append(Finding(code="reference_length", text=text))
    if clip.frames is not None and reference.frames is not None:
        if clip.fps != reference.fps:
            text = f"{float(clip.fps):g} fps, the reference {float(reference.fps):g}"
            found.append(Finding(code="reference_fps", text=text))
        if clip.frames.shape[1:3] != reference.frames.shape[1:3]:
            sizes = ["x".join(map(str, c.frames.shape[1:3])) for c in (clip, reference)]  # type: ignore[union-attr]
            found.append(
                Finding(code="reference_size", text=f"{sizes[0]} pixels, the reference {sizes[1]}")
            )
    return found


def _file_hash(path: Path | None) -> bytes:
    digest = hashlib.sha256()
    if path is not None and path.is_file():
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return json.dumps([path is not None, digest.hexdigest()]).encode()
