"""Captions of clips, with times: those the source came with, else written for measured intervals."""

import importlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import pyarrow as pa

from avgen.caption import TimedCaption
from avgen_data_prep.captioning.captioner import (
    CaptionDraft,
    Captioner,
    CaptionerUnavailableError,
    CaptionRequest,
)
from avgen_data_prep.captioning.compose import Wording, compose
from avgen_data_prep.captioning.coverage import Coverage, coverage
from avgen_data_prep.captioning.given import given_captions
from avgen_data_prep.captioning.intervals import Marks, Span, propose
from avgen_data_prep.captioning.template import TemplateCaptioner
from avgen_data_prep.captioning.verify import verify
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.pipeline.stage import Measure, Row, StageError
from avgen_data_prep.pipeline.work import Work

CAPTIONERS = {
    "template": "avgen_data_prep.captioning.template.TemplateCaptioner",
    "chat": "avgen_data_prep.captioning.chat.ChatCaptioner",
    "local": "avgen_data_prep.captioning.local.LocalCaptioner",
}
_MOST_NAMED = 6
_PRESENT, _ABSENT = 0.6, 0.2


@dataclass(frozen=True)
class _Told:
    """What a captioner made of a clip, after the second pass."""

    wordings: list[Wording]
    coverage: Coverage
    notes: list[str]
    provenance: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Captions(Measure):
    """Captions of clips; the rules they are held to are in ``docs/caption-protocol.md``.

    Captions beside the source or embedded in it win and are kept verbatim, cut to the clip. Where
    they have no text of the whole, or no events, the captioner adds what is missing.

    Columns:
        captions: JSON list of ``avgen.caption/1`` objects, wordings of one another with the same
            events; the first is the fullest.
        caption_source: ``sidecar``, ``embedded``, ``template``, ``chat:`` or ``local:`` with the
            model; two joined by ``+`` where the second added what the first lacks.
        caption_coverage: Share of what was measured that the first caption accounts for, in [0, 1].
        caption_notes: What was dropped or changed and why, and what the captions leave out.
        caption_provenance: JSON object: captioner and its version and parameters, hash of the prompt,
            which wording each caption is (``given``, ``full``, ``medium``, ``short``, ``paraphrase``),
            the draft as it was before the second pass, and a rejected one.

    Attributes:
        captioner: ``template``, ``chat``, ``local``, or the path of a class below `Captioner`.
        options: Its fields.
        min_coverage: Least ``caption_coverage`` of what a captioner writes.
        below: With less, take the template's captions, or fail the clip with what is missing.
        words: Column of spoken words (list of structs start_us, end_us, text, in the clip's time);
            None where no stage before writes one.
        speech: Column of a score in [0, 1] for speech; from 0.6 there is some, to 0.2 there is none,
            and between them nobody knows. ``words`` know better.
        music: The same for music.
    """

    name: ClassVar[str] = "captions"
    version: ClassVar[int] = 4
    reads: ClassVar[tuple[str, ...]] = (
        "source_sidecars",
        "shot_us",
        "start_us",
        "duration_us",
        "sound_shift_us",
    )
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            ("captions", pa.string()),
            ("caption_source", pa.string()),
            ("caption_coverage", pa.float64()),
            ("caption_notes", pa.list_(pa.string())),
            ("caption_provenance", pa.string()),
        ]
    )

    captioner: str = "template"
    options: dict[str, Any] = field(default_factory=dict)
    min_coverage: float = 0.9
    below: Literal["template", "fail"] = "template"
    words: str | None = None
    speech: str | None = None
    music: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage is {self.min_coverage}; give 0 to 1")
        if self.below not in ("template", "fail"):
            raise ValueError(f"below is {self.below!r}; use 'template' or 'fail'")
        columns = tuple(name for name in (self.words, self.speech, self.music) if name is not None)
        object.__setattr__(self, "reads", (*type(self).reads, *columns))
        _ = self.writer  # a wrong option is found now, not at the first clip

    @cached_property
    def writer(self) -> Captioner:
        """The captioner."""
        path = CAPTIONERS.get(self.captioner, self.captioner)
        module, _, name = path.rpartition(".")
        try:
            cls = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError):
            known = ", ".join(CAPTIONERS)
            raise ValueError(
                f"captioner is {self.captioner!r}; use {known}, or the path of a class"
            ) from None
        try:
            return cls(**self.options)
        except TypeError as error:
            raise ValueError(f"options of captioner {self.captioner!r}: {error}") from None

    @property
    def revision(self) -> str:
        """See `Captioner.revision`."""
        return self.writer.revision

    def parameters(self) -> dict[str, Any]:
        """See `Stage.parameters`; of the captioner what decides its words."""
        names = ("min_coverage", "below", "words", "speech", "music")
        own = {name: getattr(self, name) for name in names}
        return {**own, "captioner": _identity(self.writer)}

    def measure(self, row: Row, work: Work) -> Row:
        """See `Measure.measure`."""
        try:
            return self._measure(row, work)
        except CaptionerUnavailableError as error:
            place = f"clip {row['id']} of {row['source']}"
            raise PipelineError(f"captions: {error} ({place})") from error

    def _measure(self, row: Row, work: Work) -> Row:
        given, origin, notes = given_captions(row, work)
        request = self._request(row, work, notes)
        if not given:
            told = self._write(request)
            return _row(
                [w.caption for w in told.wordings],
                told.provenance["captioner"],
                told.coverage,
                [*notes, *told.notes],
                told.provenance,
            )
        source, provenance = origin, {"captioner": origin, "wordings": ["given"] * len(given)}
        if not all(caption.text.strip() and caption.events for caption in given):
            told = self._write(request)
            given = [_completed(caption, told.wordings[0].caption) for caption in given]
            source = f"{origin}+{told.provenance['captioner']}"
            provenance["added"] = told.provenance
            notes += told.notes
        return _row(given, source, coverage(given[0], request), notes, provenance)

    def _request(self, row: Row, work: Work, notes: list[str]) -> CaptionRequest:
        clip, duration = work.clip(row), row["duration_us"]
        marks = Marks(
            shots=tuple(us - row["start_us"] for us in row.get("shot_us") or ()),
            words=_spans(row, self.words),
            speech=_told(row, self.speech),
            music=_told(row, self.music),
        )
        intervals, weaker = propose(clip, duration, marks)
        if weaker:
            notes.append(f"{weaker} weaker candidate intervals are left out")
        return CaptionRequest(
            id=row["id"], clip=clip, duration_us=duration, intervals=intervals, marks=marks
        )

    def _write(self, request: CaptionRequest) -> _Told:
        """What the captioner tells, or where that leaves out too much, the template.

        Raises:
            StageError: It leaves out too much, and `below` is ``fail``.
        """
        told = _tell(self.writer, request)
        if told.coverage.score >= self.min_coverage:
            return told
        missing = told.coverage.missing
        named = "; ".join(missing[:_MOST_NAMED])
        more = f"; and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        problem = (
            f"captions of {self.writer.name} account for {told.coverage.score:.2f} of what was measured, "
            f"below min_coverage {self.min_coverage:g}: {named}{more}"
        )
        if self.below == "fail":
            raise StageError(problem)
        if isinstance(self.writer, TemplateCaptioner):
            return told
        instead = _tell(TemplateCaptioner(), request)
        provenance = {**instead.provenance, "rejected": told.provenance}
        return _Told(
            instead.wordings, instead.coverage, [*told.notes, problem, *instead.notes], provenance
        )


def _tell(captioner: Captioner, request: CaptionRequest) -> _Told:
    """Describe, verify, compose and score."""
    draft = captioner.describe(request)
    checked, notes = verify(draft, request)
    wordings = compose(checked, request, captioner.name)
    provenance = {
        "captioner": captioner.name,
        **_identity(captioner),
        "prompt_sha256": draft.prompt_sha256,
        "wordings": [wording.kind for wording in wordings],
        "original": _original(draft),
    }
    return _Told(wordings, coverage(wordings[0].caption, request), notes, provenance)


def _identity(captioner: Captioner) -> dict[str, Any]:
    """What decides a captioner's words."""
    return {
        "class": f"{type(captioner).__module__}.{type(captioner).__qualname__}",
        "version": captioner.version,
        "parameters": captioner.parameters(),
    }


def _original(draft: CaptionDraft) -> dict[str, Any]:
    return {name: value for name, value in draft.to_dict().items() if name != "prompt_sha256"}


def _completed(caption: TimedCaption, other: TimedCaption) -> TimedCaption:
    """The caption, with text and events of another where it has none."""
    return caption.replace(
        text=caption.text if caption.text.strip() else other.text,
        events=caption.events or other.events,
    )


def _spans(row: Row, column: str | None) -> tuple[Span, ...] | None:
    """A column of structs as spans; None where it is not asked for or null."""
    if column is None or row.get(column) is None:
        return None
    spans = (Span(item["start_us"], item["end_us"], item["text"]) for item in row[column])
    return tuple(span for span in spans if span.text.strip() and span.end_us > span.start_us)


def _told(row: Row, column: str | None) -> bool | None:
    """Whether a score says that something is there; None where it cannot tell."""
    score = None if column is None else row.get(column)
    if score is None or _ABSENT < score < _PRESENT:
        return None
    return score >= _PRESENT


def _row(
    captions: list[TimedCaption],
    source: str,
    covered: Coverage,
    notes: list[str],
    provenance: dict[str, Any],
) -> Row:
    return {
        "captions": json.dumps([caption.to_dict() for caption in captions], ensure_ascii=False),
        "caption_source": source,
        "caption_coverage": covered.score,
        "caption_notes": [*notes, *covered.missing],
        "caption_provenance": json.dumps(provenance, ensure_ascii=False, sort_keys=True),
    }
