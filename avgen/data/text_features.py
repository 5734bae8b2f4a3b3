"""States of a frozen text encoder, kept in the dataset so that training need not run it.

Shapes: G segments of a caption (the description of the whole, then each event), N tokens of all
segments, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from avgen.caption import TimedCaption
from avgen.text.base import segments

Encode = Callable[[list[str]], tuple[Float[Tensor, "g l d"], list[int]]]


@dataclass(frozen=True)
class TextFeatures:
    """Encoder states of one caption, without padding.

    Attributes:
        states: ``(N, D)``, segment after segment in the order of `avgen.text.base.segments`.
        lengths: Tokens of each segment; they add up to N.

    Raises:
        ValueError: The lengths do not add up to the number of states.
    """

    states: Float[Tensor, "n d"]
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if sum(self.lengths) != len(self.states):
            raise ValueError(
                f"lengths {list(self.lengths)} add up to {sum(self.lengths)}, but there are "
                f"{len(self.states)} states; give one length per segment"
            )

    def to(self, *args: Any, **kwargs: Any) -> "TextFeatures":
        """The same with the states moved as by `torch.Tensor.to`."""
        return replace(self, states=self.states.to(*args, **kwargs))


@torch.inference_mode()
def encode_captions(encode: Encode, captions: Sequence[TimedCaption]) -> tuple[TextFeatures, ...]:
    """Features of captions; each distinct text is encoded once.

    Args:
        encode: Texts to padded states and their real lengths, as `TextEncoder.encode` gives.
        captions: Paraphrases of one caption, or captions of many clips.
    """
    texts = sorted({segment.text for caption in captions for segment in segments(caption)})
    states, lengths = encode(texts)
    known = {text: states[i, : lengths[i]] for i, text in enumerate(texts)}
    found = []
    for caption in captions:
        parts = [known[segment.text] for segment in segments(caption)]
        found.append(TextFeatures(torch.cat(parts), tuple(len(part) for part in parts)))
    return tuple(found)


def text_bytes(features: Sequence[TextFeatures]) -> bytes:
    """A ``{id}.text.safetensors`` member: ``states.K`` (N, D) float16 and ``lengths.K`` (G,) int32."""
    tensors: dict[str, Tensor] = {}
    for number, feature in enumerate(features):
        tensors[f"states.{number}"] = feature.states.detach().cpu().half().contiguous()
        tensors[f"lengths.{number}"] = torch.tensor(feature.lengths, dtype=torch.int32)
    return save_tensors(tensors)


def parse_text(data: bytes) -> tuple[TextFeatures, ...]:
    """What `text_bytes` wrote, in float32."""
    tensors = load_tensors(data)
    return tuple(
        TextFeatures(tensors[f"states.{n}"].float(), tuple(tensors[f"lengths.{n}"].tolist()))
        for n in range(len(tensors) // 2)
    )
