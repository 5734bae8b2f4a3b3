"""Text encoders of Hugging Face transformers (T5, Qwen and others) behind the same base class."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from avgen import checkpoint
from avgen.text.base import TextEncoder

# Padded tokens that go through the frozen model at once: its memory is bounded by them.
_BATCH_TOKENS = 8192


class HuggingFaceTextEncoder(TextEncoder):
    """A frozen pretrained encoder with a trained projection.

    The pretrained part is no part of the module's state: weights that are saved hold the projection, and name
    the encoder by its hash.

    Args:
        model: Local folder or hub id that ``AutoModel.from_pretrained`` reads.
        width: Width of a text token after the projection.
        max_length: Tokens kept of one segment; longer segments are refused.
        identity: SHA-256 that the pretrained weights must have, see `identity`; None: any.

    Raises:
        ValueError: There is no such model, or its weights are others.
    """

    def __init__(
        self, model: str, width: int, max_length: int = 512, identity: str | None = None
    ) -> None:
        super().__init__(width)
        self.tokenizer, pretrained = _load(model)
        self._pretrained: tuple[Any] = (pretrained,)  # in a tuple, no submodule: see `_apply`
        self.projection = nn.Linear(pretrained.config.hidden_size, width)
        self.max_length = max_length
        self._identity = checkpoint.digest(pretrained.state_dict())
        if identity is not None and identity != self._identity:
            raise ValueError(
                f"text encoder {model}: its weights are {self._identity[:12]}, but {identity[:12]} are needed; "
                "give the folder of the encoder that the network was trained with"
            )

    @property
    def pretrained(self) -> Any:
        """The frozen model."""
        return self._pretrained[0]

    @property
    def identity(self) -> str:
        """SHA-256 of the pretrained weights as they were loaded."""
        return self._identity

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """What moves the module moves the frozen model too."""
        self.pretrained._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def encode(self, texts: list[str]) -> tuple[Float[Tensor, "g l e"], list[int]]:
        """Hidden states of each text, one per token of its tokenizer.

        Raises:
            ValueError: A text has more than ``max_length`` tokens.
        """
        padding = self.tokenizer.pad_token_id
        tokens = [torch.tensor(ids or [padding]) for ids in self.tokenizer(texts)["input_ids"]]
        lengths = [len(ids) for ids in tokens]
        if max(lengths) > self.max_length:
            worst = texts[lengths.index(max(lengths))]
            raise ValueError(
                f"text of {max(lengths)} tokens ({worst[:40]!r}...) is longer than max_length={self.max_length}; "
                "shorten it or raise max_length"
            )
        states = [torch.empty(0)] * len(texts)
        for indices in _batches(lengths):
            found = self._states([tokens[i] for i in indices])
            for i, of_text in zip(indices, found, strict=True):
                states[i] = of_text[: lengths[i]]
        return pad_sequence(states, batch_first=True), lengths

    @torch.no_grad()
    def _states(self, tokens: list[Tensor]) -> Float[Tensor, "g l e"]:
        """Padded states of texts that go through the frozen model together."""
        device = self.projection.weight.device
        ids = pad_sequence(tokens, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        mask = pad_sequence([torch.ones_like(text) for text in tokens], batch_first=True)
        return self.pretrained(
            input_ids=ids.to(device), attention_mask=mask.to(device)
        ).last_hidden_state

    def project(self, states: Float[Tensor, "g l e"]) -> Float[Tensor, "g l d"]:
        """The trained projection."""
        return self.projection(states.to(self.projection.weight.dtype))


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of texts of similar length, as many together as the bound on tokens allows."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        size = max(1, _BATCH_TOKENS // lengths[order[0]])
        yield order[:size]
        order = order[size:]


def _load(model: str) -> tuple[Any, Any]:
    """Tokenizer and frozen encoder."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer, T5EncoderModel

    try:
        config = AutoConfig.from_pretrained(model)
        loader: Any = T5EncoderModel if config.model_type in ("t5", "umt5", "mt5") else AutoModel
        tokenizer: Any = AutoTokenizer.from_pretrained(model)
        pretrained = loader.from_pretrained(model)
    except OSError as error:
        raise ValueError(
            f"text encoder {model}: cannot be loaded ({str(error).splitlines()[0]}); "
            "give a local folder, or a hub id where the hub can be reached"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, pretrained.requires_grad_(False).eval()
