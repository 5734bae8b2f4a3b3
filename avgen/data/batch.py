"""AVBatch and PackedBatch: what the data room hands to training.

B batch, C channels, T H W video latent grid, L audio steps, Q codebooks.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from avgen.caption import TimedCaption
from avgen.data.schema import STREAMS
from avgen.data.text_features import TextFeatures


class Share(NamedTuple):
    """Which clips of the batch of a step these are: every ``of``-th one, from place ``first`` on.

    The rest are with other processes, or come later where gradients are accumulated.
    """

    first: int = 0
    of: int = 1

    def rows(self, whole: Tensor) -> Tensor:
        """What belongs to these clips, of a tensor with a row for each clip of the step."""
        return whole[self.first :: self.of]


WHOLE = Share()


@dataclass(frozen=True, kw_only=True)
class AVBatch:
    """Latents of clips of one shape and rate, with one caption each.

    Attributes:
        video: ``(B, C, T, H, W)``, or None where the clips have no picture or it is not asked for.
        audio: ``(B, D, L)`` continuous latents, or None.
        codes: ``(B, Q, L)`` codebook indices, or None.
        captions: One per clip.
        ids: One per clip.
        fps: Frames per second (not latent steps).
        duration: Seconds of each clip.
        time_stride: Frames per video latent step after the first, None without a video codec.
        audio_rate: Audio latent steps per second, None without an audio codec.
        step: Number of the batch in the run (that of the step, unless steps pack several batches);
            with a seed, a source of random numbers that survives a restart.
        text: Encoder states of each caption, or None where they are not asked for.
        share: Which clips of the batch of the step these are.
    """

    video: Float[Tensor, "b c t h w"] | None
    audio: Float[Tensor, "b d l"] | None
    codes: Int[Tensor, "b q l"] | None
    captions: list[TimedCaption]
    ids: list[str]
    fps: float
    duration: float
    time_stride: int | None
    audio_rate: float | None
    step: int
    text: list[TextFeatures] | None = None
    share: Share = WHOLE

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def parts(self) -> "tuple[AVBatch, ...]":
        """Itself, as the only part: code for packed batches reads both kinds."""
        return (self,)

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams that it holds."""
        return tuple(name for name in STREAMS if getattr(self, name) is not None)

    def to(self, *args: Any, **kwargs: Any) -> "AVBatch":
        """The batch with its tensors moved as by `torch.Tensor.to`; codes stay integer."""
        return replace(
            self,
            video=None if self.video is None else self.video.to(*args, **kwargs),
            audio=None if self.audio is None else self.audio.to(*args, **kwargs),
            codes=None if self.codes is None else self.codes.to(*args, **kwargs).long(),
            text=None if self.text is None else [t.to(*args, **kwargs) for t in self.text],
        )


@dataclass(frozen=True)
class PackedBatch:
    """Batches of different shape that one step trains on together, without padding.

    Attributes:
        parts: The batches; all hold the same streams.

    Raises:
        ValueError: No parts, or parts that hold different streams.
    """

    parts: tuple[AVBatch, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a packed batch of no parts; give at least one AVBatch")
        first, *others = self.parts
        for other in others:
            if other.streams != first.streams:
                raise ValueError(
                    f"clips packed together need the same streams, but {first.ids[0]!r} has "
                    f"{_listed(first.streams)} and {other.ids[0]!r} {_listed(other.streams)}; "
                    "leave out clips that lack a stream, or pack 1 batch per step"
                )

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def step(self) -> int:
        """That of the first part: no other packed batch of the run has it."""
        return self.parts[0].step

    def to(self, *args: Any, **kwargs: Any) -> "PackedBatch":
        """All parts moved as by `AVBatch.to`."""
        return PackedBatch(tuple(part.to(*args, **kwargs) for part in self.parts))


def _listed(streams: tuple[str, ...]) -> str:
    return " and ".join(streams) or "none"
