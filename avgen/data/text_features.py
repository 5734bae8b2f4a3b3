"""States of a frozen text encoder, kept in the dataset so that training need not run it.

Shapes: G segments of a caption (the description of the whole, then each event), N tokens of all
segments, D width.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from avgen.caption import TimedCaption
from avgen.text.base import TextFeatures, segments

Encode = Callable[[list[str]], tuple[Float[Tensor, "g l d"], list[int]]]


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
