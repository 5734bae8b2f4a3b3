"""Text encoders of Hugging Face transformers (T5, Qwen and others) behind the same base class."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avgen.text.base import TextEncoder


class HuggingFaceTextEncoder(TextEncoder):
    """A frozen pretrained encoder with a trained projection.

    Args:
        name: Local folder or hub id that ``AutoModel.from_pretrained`` reads.
        width: Width of a text token after the projection.
        max_length: Tokens kept of one segment; longer segments are refused.
    """

    def __init__(self, name: str, width: int, max_length: int = 512) -> None:
        from transformers import AutoConfig, AutoModel, AutoTokenizer, T5EncoderModel

        super().__init__(width)
        config = AutoConfig.from_pretrained(name)
        loader: Any = T5EncoderModel if config.model_type in ("t5", "umt5", "mt5") else AutoModel
        self.tokenizer: Any = AutoTokenizer.from_pretrained(name)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.encoder: Any = loader.from_pretrained(name).requires_grad_(False).eval()
        self.project = nn.Linear(config.hidden_size, width)
        self.max_length = max_length

    def train(self, mode: bool = True) -> "HuggingFaceTextEncoder":
        """The pretrained part always stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def encode(self, texts: list[str]) -> tuple[Float[Tensor, "g l d"], list[int]]:
        """States of each text, one per token of its tokenizer.

        Raises:
            ValueError: A text has more than ``max_length`` tokens.
        """
        batch = self.tokenizer(texts, padding=True, return_tensors="pt", padding_side="right")
        lengths = batch["attention_mask"].sum(1).clamp(min=1).tolist()
        if max(lengths) > self.max_length:
            worst = texts[lengths.index(max(lengths))]
            raise ValueError(
                f"text of {max(lengths)} tokens ({worst[:40]!r}...) is longer than max_length={self.max_length}; "
                "shorten it or raise max_length"
            )
        device = self.project.weight.device
        with torch.no_grad():
            states = self.encoder(
                **{k: batch[k].to(device) for k in ("input_ids", "attention_mask")}
            ).last_hidden_state
        return self.project(states.to(self.project.weight.dtype)), lengths
