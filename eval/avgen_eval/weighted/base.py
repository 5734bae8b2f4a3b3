"""What metrics with weights share: what is measured, and what is said where nothing can be."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from avgen.clip import Clip
from avgen_eval.metrics.base import ClipMetric, Field, Values

Box = tuple[float, float, float, float]
"""Left, top, right and bottom as shares of width and height."""
Network = TypeVar("Network")


class NotMeasurableError(ValueError):
    """A clip, or a set of them, to which a metric does not apply; says why."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A clip with all that a metric may want to know of it.

    Attributes:
        clip: What was generated.
        name: Label in messages.
        text: What was asked for; the text of the clip's caption if None.
        reference: The real clip of the same content.
        transcript: What should be said in it.
        face: Where the mouth and the face around it are, in all frames.
    """

    clip: Clip
    name: str = "clip"
    text: str | None = None
    reference: Clip | None = None
    transcript: str | None = None
    face: Box | None = None

    def require_text(self) -> str:
        """What was asked for.

        Raises:
            NotMeasurableError: Nothing was.
        """
        caption = self.clip.caption
        text = self.text if self.text is not None else caption.text if caption else ""
        if not text.strip():
            raise NotMeasurableError("there is no text to compare with")
        return text

    def require_reference(self) -> Clip:
        """The real clip.

        Raises:
            NotMeasurableError: There is none.
        """
        if self.reference is None:
            raise NotMeasurableError("there is no reference clip")
        return self.reference

    def require_transcript(self) -> str:
        """What should be said.

        Raises:
            NotMeasurableError: Nothing should.
            ValueError: It is no text.
        """
        if self.transcript is None:
            raise NotMeasurableError("there is no transcript")
        if not isinstance(self.transcript, str):
            raise ValueError(f"transcript is {self.transcript!r}; give the words as text")
        return self.transcript

    def require_face(self) -> Box:
        """Where the face is.

        Raises:
            NotMeasurableError: Nobody says.
            ValueError: It is no box, the box is empty, or it reaches out of the picture.
        """
        if self.face is None:
            raise NotMeasurableError("there is no face box")
        try:
            left, top, right, bottom = map(float, self.face)
            if 0 <= left < right <= 1 and 0 <= top < bottom <= 1:
                return left, top, right, bottom
        except (TypeError, ValueError):
            pass  # not four numbers
        raise ValueError(
            f"face box is {self.face!r}; give [left, top, right, bottom] as shares of width and "
            "height, 0 to 1, with left < right and top < bottom"
        )


def require_frames(clip: Clip) -> np.ndarray:
    """Frames ``(F, H, W, 3)`` uint8.

    Raises:
        NotMeasurableError: There is no picture.
    """
    if clip.frames is None:
        raise NotMeasurableError("the clip has no picture")
    return clip.frames


def require_waveform(clip: Clip) -> np.ndarray:
    """Waveform ``(C, S)`` float32.

    Raises:
        NotMeasurableError: There is no sound.
    """
    if clip.waveform is None:
        raise NotMeasurableError("the clip has no sound")
    return clip.waveform


class WeightedMetric(Metric, Generic[Network]):
    """A network that comes from files, and a count of what it could be applied to.

    Args:
        model: The network with what is around it, as `load` gives it.
        **kwargs: Of `torchmetrics.Metric`.

    Attributes:
        fields: As in `ClipMetric`.
        protocol: All that the values depend on apart from the weights.
        num_measured: Clips under test that could be measured, in this process.
        unmeasured: How many could not be (clips, references, sets), by reason.
    """

    fields: ClassVar[Mapping[str, Field]]
    protocol: ClassVar[str]
    is_differentiable = False
    full_state_update = False

    def __init__(self, model: Network, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.num_measured, self.unmeasured = 0, Counter[str]()

    @classmethod
    @abstractmethod
    def load(cls, paths: Mapping[str, Path], device: str = "cpu") -> Network:
        """The network with the weights at these paths, by name of the weights.

        Raises:
            WeightsError: They are not what the metric needs.
        """

    @classmethod
    def from_files(cls, paths: Mapping[str, Path], device: str = "cpu") -> Self:
        """The metric around what `load` gives; raises as it does."""
        return cls(cls.load(paths, device))

    def reset(self) -> None:
        """Forget all clips."""
        super().reset()
        self.num_measured, self.unmeasured = 0, Counter()


class WeightedClipMetric(WeightedMetric[Network], ClipMetric):
    """Mean over clips of what `score` gives for one; `update` is the way to add them.

    Attributes:
        by_clip: Values of the clips that could be measured, in this process, by their names.
    """

    def __init__(self, model: Network, **kwargs: Any) -> None:
        super().__init__(model, **kwargs)
        self.by_clip: dict[str, Values] = {}

    @abstractmethod
    def score(self, item: Item) -> Values:
        """Values of one clip, by the names in ``fields``.

        Raises:
            NotMeasurableError: The metric does not apply to the clip.
        """

    def measure(self, item: Item) -> Values:
        """`score`; all None, and one more in ``unmeasured``, where the metric does not apply."""
        try:
            values = self.score(item)
        except NotMeasurableError as reason:
            self.unmeasured[str(reason)] += 1
            return dict.fromkeys(self.fields)
        self.num_measured += 1
        self.by_clip[item.name] = values
        return values

    def reset(self) -> None:
        """Forget all clips."""
        super().reset()
        self.by_clip = {}


class WeightedSetMetric(WeightedMetric[Network]):
    """Values of a whole set of clips, from vectors of each."""

    def __init__(self, model: Network, **kwargs: Any) -> None:
        super().__init__(model, **kwargs)
        self.vectors: list[Tensor] | Tensor
        self.references: list[Tensor] | Tensor
        self.add_state("vectors", [], dist_reduce_fx="cat")
        self.add_state("references", [], dist_reduce_fx="cat")

    @abstractmethod
    def describe(self, clip: Clip) -> Tensor:
        """Vectors of one clip, ``(N, D)``.

        Raises:
            NotMeasurableError: The metric does not apply to the clip.
        """

    @abstractmethod
    def compare(self, vectors: Tensor, references: Tensor) -> Mapping[str, float]:
        """Values of the set, by the names in ``fields``.

        Args:
            vectors: ``(N, D)`` of all clips.
            references: ``(M, D)`` of all reference clips; ``(0, D)`` without any.

        Raises:
            NotMeasurableError: The set is too small.
        """

    def update(self, item: Item) -> None:
        """Add a clip, and its reference where there is one."""
        self.num_measured += self._add(item.clip, self.vectors)
        if item.reference is not None:
            self._add(item.reference, self.references)

    def compute(self) -> dict[str, Tensor]:
        """Values by name; NaN where the set is too small, with the reason in ``unmeasured``."""
        values: Mapping[str, float] = dict.fromkeys(self.fields, float("nan"))
        if len(self.vectors):
            vectors = dim_zero_cat(self.vectors)
            empty = vectors[:0]
            references = dim_zero_cat(self.references) if len(self.references) else empty
            try:
                values = self.compare(vectors, references)
            except NotMeasurableError as reason:
                self.unmeasured[str(reason)] += 1
        return {name: torch.tensor(values[name], dtype=torch.float64) for name in self.fields}

    def _add(self, clip: Clip, state: list[Tensor] | Tensor) -> bool:
        if isinstance(state, Tensor):
            raise ValueError("clips cannot be added to a state that was reduced over processes")
        try:
            state.append(self.describe(clip).to(self.device))
        except NotMeasurableError as reason:
            self.unmeasured[str(reason)] += 1
            return False
        return True
