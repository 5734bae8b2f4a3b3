"""A network together with its text encoder: what is trained jointly, saved in one file and loaded again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avgen import checkpoint
from avgen.model.config import ModelConfig
from avgen.model.dual_stream import DualStreamTransformer
from avgen.model.modulation import EXCHANGE, PARTS
from avgen.ops.attention import Backend
from avgen.text.base import TextEncoder
from avgen.text.byte_encoder import ByteTextEncoder
from avgen.text.hf import HuggingFaceTextEncoder

KIND = "joint"
TEXT_ENCODERS: dict[str, type[TextEncoder]] = {
    "bytes": ByteTextEncoder,
    "huggingface": HuggingFaceTextEncoder,
}


class Network(nn.Module):
    """The transformer and its text encoder.

    Args:
        config: Shape of the transformer.
        text: Name and arguments of the text encoder, for example ``{"name": "bytes", "depth": 2}``.
        backend: Attention backend.
        codecs: SHA-256 of the codecs whose latents the network reads, by stream name; empty while untrained.

    Raises:
        ValueError: An unknown text encoder.
    """

    def __init__(
        self,
        config: ModelConfig,
        text: Mapping[str, Any] | None = None,
        *,
        backend: Backend = "auto",
        codecs: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        arguments = {"name": "bytes", "width": config.text_width, **(text or {})}
        if arguments["name"] not in TEXT_ENCODERS:
            raise ValueError(
                f"text encoder {arguments['name']!r} is unknown; use one of {', '.join(TEXT_ENCODERS)}"
            )
        self.text_arguments = dict(arguments)
        self.codecs = dict(codecs or {})
        self.backend: Backend = backend
        self.model = DualStreamTransformer(config, backend)
        self.text_encoder = TEXT_ENCODERS[arguments.pop("name")](**arguments)
        if self.text_encoder.identity is not None:
            self.text_arguments["identity"] = self.text_encoder.identity

    @property
    def config(self) -> ModelConfig:
        """Shape of the transformer."""
        return self.model.config

    def with_config(
        self, changes: Mapping[str, Any], text: Mapping[str, Any] | None = None
    ) -> "Network":
        """This network, weights and all, with other fields of `ModelConfig` or arguments of its text encoder.

        Cross-modal attention and alignment that these weights lack start anew.

        Raises:
            ValueError: An unknown field, or one that these weights do not fit.
        """
        config = ModelConfig.from_dict(self.config.to_dict() | dict(changes))
        told = self.text_arguments | dict(text or {})
        network = Network(config, told, backend=self.backend, codecs=self.codecs)
        new = {
            k: v
            for k, v in network.state_dict().items()
            if ".partners." in k or k.endswith(".text.bias")
        }
        try:
            network.load_state_dict(new | self.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"the weights do not fit a network with {dict(changes) | dict(text or {})}; "
                "start from none, or leave these as they are"
            ) from error
        return network

    @torch.no_grad()
    def renew_exchange(self) -> None:
        """Begin cross-modal attention anew, shut at first as in a network without training; all else stays."""
        fresh = DualStreamTransformer(self.config).state_dict()
        for name, weight in self.model.state_dict().items():
            if ".partners." in name:
                weight.copy_(fresh[name])
            elif name.startswith("noise.") and ".out." in name:
                weight.unflatten(0, (PARTS, -1))[EXCHANGE] = 0
            elif name.endswith(".table"):
                weight[EXCHANGE] = 0

    def with_codes(self, stream: str, codebooks: int, codebook_size: int) -> "Network":
        """This network with one stream on discrete codes; all weights but that stream's input and output are kept."""
        data = self.config.to_dict()
        data["streams"][stream] |= {"codebooks": codebooks, "codebook_size": codebook_size}
        config = ModelConfig.from_dict(data)
        network = Network(config, self.text_arguments, backend=self.backend, codecs=self.codecs)
        kept = {
            k: v for k, v in self.state_dict().items() if not k.startswith(f"model.ports.{stream}.")
        }
        network.load_state_dict(network.state_dict() | kept)
        return network

    def save(
        self, path: str | Path, tensors: dict[str, Tensor] | None = None, **provenance: Any
    ) -> str:
        """Write the weights with all that is needed to load them; returns their SHA-256.

        Args:
            path: Target file.
            tensors: The weights, where the network's own are spread over processes.
            provenance: Kept in the file.
        """
        config = {
            "model": self.config.to_dict(),
            "text": self.text_arguments,
            "codecs": self.codecs,
            "provenance": provenance,
        }
        return checkpoint.save(path, tensors or self.state_dict(), kind=KIND, config=config)

    @classmethod
    def from_file(cls, path: str | Path, *, backend: Backend = "auto") -> "Network":
        """Read weights written by `save`.

        Raises:
            CheckpointError: The file cannot be used; see `avgen.checkpoint.load`.
        """
        config, tensors = checkpoint.load(path, kind=KIND)
        network = cls(
            ModelConfig.from_dict(config["model"]),
            config["text"],
            backend=backend,
            codecs=config["codecs"],
        )
        network.load_state_dict(tensors)
        return network
