"""What a captioner is given, what it gives back, and the base class of all of them."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from avgen.clip import Clip
from avgen_data_prep.captioning import measured
from avgen_data_prep.captioning.intervals import Interval, Marks
from avgen_data_prep.pipeline.stage import StageError

ABSENCES = ("sound", "speech", "music")


class CaptionerError(StageError):
    """One clip could not be described; the message says why."""


class CaptionerUnavailableError(ValueError):
    """No clip can be described: nothing answers, or what answers is unfit; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class CaptionRequest:
    """A clip to describe.

    Attributes:
        id: Of the clip; seeds whatever is drawn.
        clip: Pictures and sound.
        duration_us: Length in microseconds.
        intervals: When something happens; events take their times from these and from nothing else.
        marks: What earlier stages found.
    """

    id: str
    clip: Clip
    duration_us: int
    intervals: tuple[Interval, ...]
    marks: Marks = field(default_factory=Marks)

    def interval(self, name: str) -> Interval | None:
        """The interval of that id."""
        return next((interval for interval in self.intervals if interval.id == name), None)

    def presence(self) -> dict[str, bool | None]:
        """For each of `ABSENCES` whether it is in the clip, as measured; None where nothing tells."""
        sound = measured.level_db(self.clip, 0, self.duration_us) > measured.SILENCE_DB
        if not sound:
            return dict.fromkeys(ABSENCES, False)
        words = self.marks.words
        speech = self.marks.speech if words is None else bool(words)
        return {"sound": True, "speech": speech, "music": self.marks.music}

    def absent(self) -> tuple[str, ...]:
        """What a caption must say is not there: no sound at all, else no speech, no music."""
        missing = tuple(name for name, there in self.presence().items() if there is False)
        return ("sound",) if "sound" in missing else missing


@dataclass(frozen=True, kw_only=True)
class DraftEvent:
    """What happens in an interval.

    Attributes:
        interval: Id of the interval.
        text: What happens, without times.
        cause: Id of the interval that makes it happen.
        entity: Who or what does it.
        onscreen: Of a sound: whether its source is in the picture; None where that is not known.
    """

    interval: str
    text: str
    cause: str | None = None
    entity: str | None = None
    onscreen: bool | None = None


@dataclass(frozen=True, kw_only=True)
class CaptionDraft:
    """What a captioner writes: texts of three lengths, and words for the intervals.

    Attributes:
        short: The whole clip in one short sentence.
        medium: In two or three sentences.
        full: So that it can be staged; see ``docs/caption-protocol.md``.
        paraphrases: ``full`` in other words.
        events: At most one for each interval.
        absent: Which of `ABSENCES` the captioner found missing.
        prompt_sha256: Of what was asked, media aside; empty where nobody was.
        usage: Tokens by kind, as the server counts them.
    """

    short: str = ""
    medium: str = ""
    full: str
    paraphrases: tuple[str, ...] = ()
    events: tuple[DraftEvent, ...] = ()
    absent: tuple[str, ...] = ()
    prompt_sha256: str = ""
    usage: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "CaptionDraft":
        """Read what `to_dict` made, or the answer of a language model that fits its schema."""
        events = tuple(DraftEvent(**event) for event in data["events"])
        lists = {name: tuple(data.get(name, ())) for name in ("paraphrases", "absent")}
        return cls(**{**data, **lists, "events": events})

    def completed(self, other: "CaptionDraft") -> "CaptionDraft":
        """With the events of ``other`` for the intervals that this draft leaves out."""
        told = {event.interval for event in self.events}
        missing = tuple(event for event in other.events if event.interval not in told)
        return replace(self, events=(*self.events, *missing))


@dataclass(frozen=True, kw_only=True)
class Captioner(ABC):
    """Writes words for the intervals of a clip. Subclasses are frozen dataclasses of plain values.

    Attributes:
        version: Raised whenever the code gives other results.
    """

    version: ClassVar[int] = 1

    @property
    @abstractmethod
    def name(self) -> str:
        """What ``caption_source`` and provenance say."""

    @property
    def revision(self) -> str:
        """SHA-256 of the weights that decide the result; empty where there are none here."""
        return ""

    def parameters(self) -> dict[str, Any]:
        """What decides the result; not where a server or a file lies."""
        return asdict(self)

    @abstractmethod
    def describe(self, request: CaptionRequest) -> CaptionDraft:
        """Words for a clip.

        Raises:
            CaptionerError: None could be had for this clip.
            CaptionerUnavailableError: None can be had for any.
        """
