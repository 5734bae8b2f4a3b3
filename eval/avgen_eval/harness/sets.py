"""Scorers of whole sets: distances between the clips and their references, and whether partners belong together."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from avgen_eval.events import score_events
from avgen_eval.harness.extractors import Extractor, Features, PictureEvents, SoundEvents
from avgen_eval.metrics.base import Field
from avgen_eval.metrics.frechet_spread import frechet_report
from avgen_eval.metrics.kernel import kernel_distance, permutation_test
from avgen_eval.metrics.manifold import density_coverage, precision_recall
from avgen_eval.metrics.shuffle import shuffle_gap


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


Arrays = Mapping[str, Sequence[np.ndarray | None]]
"""Arrays by name, one entry per clip; None where a clip has none."""
MIN_CLIPS = 10


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
        self, arrays: Arrays, prompts: Sequence[str], generator: np.random.Generator
    ) -> dict[str, SetValue]:
        """Values by name.

        Args:
            arrays: Those that `wanted` names, one entry per clip.
            prompts: Of each clip; seeds of one prompt are not independent.
            generator: Of resampling.

        Raises:
            UnmeasurableError: Too few clips or prompts, or no references.
        """

    @abstractmethod
    def wanted(self) -> dict[str, tuple[Extractor, str]]:
        """Extractor and array behind each name that `score` reads."""


@dataclass(frozen=True, kw_only=True)
class Distribution(SetScorer):
    """Frechet and kernel distance, precision, recall, density and coverage against the references.

    Never comparable with published distances on trained features; read it beside the floor. A
    reference that several seeds of a prompt share counts once, and ``kernel_p`` is of the first clip
    of each prompt, because the test needs independent ones.
    """

    name: ClassVar[str] = "distribution"
    version: ClassVar[int] = 2
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
        self, arrays: Arrays, prompts: Sequence[str], generator: np.random.Generator
    ) -> dict[str, SetValue]:
        """See the class."""
        shared = _distinct(arrays["reference"], prompts)
        features, reference = _stacked(arrays["clip"], "clip"), _stacked(shared, "reference")
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
        if min(num, len(reference)) < MIN_CLIPS:
            raise UnmeasurableError(
                f"{num} clips and {len(reference)} references; needs {MIN_CLIPS} of each"
            )
        kernel = kernel_distance(features, reference, kernel="gaussian", scale=100)
        values["kernel"] = SetValue(
            value=kernel, num=num, note=note if "frechet" not in values else ""
        )
        first, original = (_first(arrays[name], prompts) for name in ("clip", "reference"))
        if min(len(first), len(original)) >= MIN_CLIPS:
            test = permutation_test(
                np.stack(first), np.stack(original), generator, permutations=200
            )
            values["kernel_p"] = SetValue(value=test.p_value, num=len(first))
        neighbours = precision_recall(features, reference) + density_coverage(features, reference)
        for name, value in zip(
            ("precision", "recall", "density", "coverage"), neighbours, strict=True
        ):
            values[name] = SetValue(value=value, num=num)
        return values


@dataclass(frozen=True, kw_only=True)
class ShuffleGapOfEvents(SetScorer):
    """How much event F1 at 60 ms falls when sounds and pictures of different prompts are put together.

    Seeds of a prompt stay together, as in `avgen_eval.metrics.shuffle.shuffle_gap`.
    """

    name: ClassVar[str] = "shuffle_gap"
    version: ClassVar[int] = 2
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
        self, arrays: Arrays, prompts: Sequence[str], generator: np.random.Generator
    ) -> dict[str, SetValue]:
        """See the class."""
        pairs = [
            (sound.tolist(), picture.tolist(), prompt)
            for sound, picture, prompt in zip(
                arrays["sound"], arrays["picture"], prompts, strict=True
            )
            if sound is not None and picture is not None
        ]
        num_prompts = len({prompt for *_, prompt in pairs})
        if num_prompts < MIN_CLIPS:
            raise UnmeasurableError(
                f"{len(pairs)} clips with picture and sound, of {num_prompts} prompts; "
                f"needs {MIN_CLIPS} prompts"
            )
        sounds, pictures, owners = zip(*pairs, strict=True)
        gap = shuffle_gap(
            lambda sound, picture: score_events(picture, sound, 60).f1,
            sounds,
            pictures,
            generator,
            prompts=owners,
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


def _distinct(
    arrays: Sequence[np.ndarray | None], prompts: Sequence[str]
) -> list[np.ndarray | None]:
    """Arrays, with None in place of one that an earlier clip of its prompt has as well."""
    seen: set[tuple[str, bytes]] = set()
    kept: list[np.ndarray | None] = []
    for array, prompt in zip(arrays, prompts, strict=True):
        key = (prompt, b"" if array is None else array.tobytes())
        kept.append(None if key in seen else array)
        seen.add(key)
    return kept


def _first(arrays: Sequence[np.ndarray | None], prompts: Sequence[str]) -> list[np.ndarray]:
    """The first vector of each prompt that has one."""
    found: dict[str, np.ndarray] = {}
    for array, prompt in zip(arrays, prompts, strict=True):
        if array is not None and len(array):
            found.setdefault(prompt, array[0])
    return list(found.values())


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
