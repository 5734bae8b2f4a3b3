"""Networks with one tower for text and one for a stream, whose embeddings compare by cosine: CLAP and CLIP."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from avgen_eval.weighted.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class Towers(Pretrained):
    """Both towers with their preprocessing; embeddings are unit vectors.

    Attributes:
        tokenizer: Of the text tower.
    """

    tokenizer: Any

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """Longest text, in tokens."""

    @torch.inference_mode()
    def embed_text(self, text: str) -> tuple[Tensor, bool]:
        """Unit vector ``(D,)`` of a text, and whether the end of the text was cut off."""
        length = len(self.tokenizer(text, verbose=False)["input_ids"])
        tokens = self.tokenizer(
            text, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        found = self.model.get_text_features(
            input_ids=tokens["input_ids"].to(self.model.device),
            attention_mask=tokens["attention_mask"].to(self.model.device),
        )
        return unit_vectors(found)[0], length > self.max_tokens


def unit_vectors(output: Any) -> Tensor:
    """Projected embeddings ``(N, D)`` of a tower's output as unit vectors, float32 on the CPU."""
    return F.normalize(output.pooler_output.float(), dim=-1).cpu()
