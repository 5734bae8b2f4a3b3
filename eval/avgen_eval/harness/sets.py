"""Scorers of whole sets: distances between the clips and their references, and whether partners belong together."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from avgen_eval.events import score_events
from avgen_eval.harness.extractors import Extractor, Features, PictureEvents, SoundEvents
from avgen_eval.metrics.base import Field
from avgen_eval.metrics.frechet_spread import frechet_report
from avgen_eval.metrics.joint import shuffle_gap
from avgen_eval.metrics.kernel import kernel_distance, permutation_test
from avgen_eval.metrics.manifold import density_coverage, precision_recall


@dataclass(frozen=True, kw_only=True)
class SetValue:
    """A value of a whole set.

    Attributes:
        value: The value.
        low: 2.5% of its spread; None where it has none.
        high: 97.5%.
        floor: What the reference scores against itself, where that is known.
        num: Clips it rests on.
        note: What limits it.
    """

    value: float
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    num: int = 0
    note: str = ""


class UnmeasurableError(ValueError):
    """A set that a scorer cannot score; the message says why."""


@dataclass(frozen=True, kw_only=True)
class SetScorer(ABC):
    """Values of a set of clips."""

    name: ClassVar[str]
    version: ClassVar[int]
    fields: ClassVar[dict[str, Field]]

    @property
    def signature(self) -> str:
        """Name, version and those of the extractors that it reads."""
        return "+".join([f"{self.name}-v{self.version}", *(e.signature for e in self.extractors)])

    @property
    @abstractmethod
    def extractors(self) -> tuple[Extractor, ...]:
        """What it reads."""

    @abstractmethod
    def score(
        self, arrays: dict[str, list[np.ndarray | None]], generator: np.random.Generator
    ) -> dict[str, SetValue]:
        """Values by name, from the arrays that `wanted` names, one entry per clip.

        Raises:
            UnmeasurableError: Too few clips, or no references.
        """

    @abstractmethod
    def wanted(self) -> dict[str, tuple[Extractor, str]]:
        """Extractor and array behind each name that `score` reads."""


@dataclass(frozen=True, kw_only=True)
class Distribution(SetScorer):
    """Frechet and kernel distance, precision, recall, density and coverage against the references.

    Never comparable with published distances on trained features; read it beside the floor.
    """

    name: ClassVar[str] = "distribution"
    version: ClassVar[int] = 1
    fields: ClassVar[dict[str, Field]] = {
        "frechet": Field(better="lower"),
        "kernel": Field(better="lower"),
        "kernel_p": Field(better="higher"),
        "precision": Field(unit="share", better="higher"),
        "recall": Field(unit="share", better="higher"),
        "density": Field(better="higher"),
        "coverage": Field(unit="share", better="higher"),
    }
    kind: Literal["logmel", "rand3d"]

    @property
    def signature(self) -> str:
        """With the signature of the features in full."""
        return f"{self.name}-v{self.version}+{Features(kind=self.kind).describer.signature}"

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """Vectors of the clips and of the references."""
        return (Features(kind=self.kind), Features(kind=self.kind, reference=True))

    def wanted(self) -> dict[str, tuple[Extractor, str]]:
        """Vectors of both."""
        clip, reference = self.extractors
        return {"clip": (clip, "vectors"), "reference": (reference, "vectors")}

    def score(
        self, arrays: dict[str, list[np.ndarray | None]], generator: np.random.Generator
    ) -> dict[str, SetValue]:
        """See the class."""
        features, reference = (_stacked(arrays[name], name) for name in ("clip", "reference"))
        groups, num = Features(kind=self.kind).describer.groups, len(features)
        values: dict[str, SetValue] = {}
        try:
            report = frechet_report(features, reference, generator, groups=groups)
        except ValueError as error:
            note = str(error)
        else:
            note = "; ".join(report.notes)
            values["frechet"] = SetValue(
                value=report.value,
                low=report.interval[0],
                high=report.interval[1],
                floor=report.floor,
                num=num,
                note=f"the floor is of halves; {note}".rstrip("; "),
            )
        if num < 10 or len(reference) < 10:
            raise UnmeasurableError(
                f"{num} clips and {len(reference)} references; needs 10 of each"
            )
        test = permutation_test(features, reference, generator, permutations=200)
        kernel = kernel_distance(features, reference, kernel="gaussian", scale=100)
        values["kernel"] = SetValue(
            value=kernel, num=num, note=note if "frechet" not in values else ""
        )
        values["kernel_p"] = SetValue(value=test.p_value, num=num)
        neighbours = precision_recall(features, reference) + density_coverage(features, reference)
        for name, value in zip(
            ("precision", "recall", "density", "coverage"), neighbours, strict=True
        ):
            values[name] = SetValue(value=value, num=num)
        return values


@dataclass(frozen=True, kw_only=True)
class ShuffleGapOfEvents(SetScorer):
    """How much event F1 at 60 ms falls when sounds and pictures of different clips are put together."""

    name: ClassVar[str] = "shuffle_gap"
    version: ClassVar[int] = 1
    fields: ClassVar[dict[str, Field]] = {
        "f1_paired": Field(unit="share", better="higher"),
        "f1_shuffled": Field(unit="share"),
        "f1_gap": Field(unit="share", better="higher"),
        "p": Field(better="lower"),
    }

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """Events of both streams."""
        return (SoundEvents(), PictureEvents())

    def wanted(self) -> dict[str, tuple[Extractor, str]]:
        """Times of both."""
        return {"sound": (SoundEvents(), "times"), "picture": (PictureEvents(), "times")}

    def score(
        self, arrays: dict[str, list[np.ndarray | None]], generator: np.random.Generator
    ) -> dict[str, SetValue]:
        """See the class."""
        pairs = [
            (sound.tolist(), picture.tolist())
            for sound, picture in zip(arrays["sound"], arrays["picture"], strict=True)
            if sound is not None and picture is not None
        ]
        if len(pairs) < 10:
            raise UnmeasurableError(f"{len(pairs)} clips with picture and sound; needs 10")
        gap = shuffle_gap(
            lambda sound, picture: score_events(picture, sound, 60).f1,
            [sound for sound, _ in pairs],
            [picture for _, picture in pairs],
            generator,
            permutations=200,
            max_partners=50,
        )
        named = {
            "f1_paired": gap.paired,
            "f1_shuffled": gap.shuffled,
            "f1_gap": gap.gap,
            "p": gap.p_value,
        }
        return {name: SetValue(value=value, num=gap.num_pairs) for name, value in named.items()}


def _stacked(vectors: Sequence[np.ndarray | None], what: str) -> np.ndarray:
    found = [matrix for matrix in vectors if matrix is not None]
    if not found:
        fix = "; give --ref" if what == "reference" else ""
        raise UnmeasurableError(f"no {what} has the stream that is described{fix}")
    return np.concatenate(found)


SET_SCORERS: dict[str, SetScorer] = {
    "distribution.logmel": Distribution(kind="logmel"),
    "distribution.rand3d": Distribution(kind="rand3d"),
    "shuffle_gap": ShuffleGapOfEvents(),
}
