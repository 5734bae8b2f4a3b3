"""AVBatch: what the data room hands to training.

B batch, C channels, T H W video latent grid, L audio steps, Q codebooks.
"""

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from avgen.caption import TimedCaption
from avgen.data.text_features import TextFeatures


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
        step: Number of the batch in the run; with a seed, a source of random numbers that
            survives a restart.
        text: Encoder states of each caption, or None where they are not asked for.
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

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, *args: Any, **kwargs: Any) -> "AVBatch":
        """The batch with its tensors moved as by `torch.Tensor.to`; codes stay integer."""
        return replace(
            self,
            video=None if self.video is None else self.video.to(*args, **kwargs),
            audio=None if self.audio is None else self.audio.to(*args, **kwargs),
            codes=None if self.codes is None else self.codes.to(*args, **kwargs).long(),
            text=None if self.text is None else [t.to(*args, **kwargs) for t in self.text],
        )
