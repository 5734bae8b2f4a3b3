"""A block: each stream attends to itself, to the text, to its partners, then thinks.

The layer is written once for "a stream and its partners" and used for every stream.
Letters: B rows, N tokens of this stream, M tokens of the partner, H heads, K head width, D width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.model.config import ModelConfig, StreamConfig
from avgen.model.modulation import EXCHANGE, PARTS, Levels
from avgen.ops.attention import Backend, Mask, attend
from avgen.ops.norms import modulate, normalise
from avgen.ops.rope import Rotation, rotate

States = Float[Tensor, "b n d"]
Source = Float[Tensor, "b m e"]
KeyValue = tuple[Float[Tensor, "b m h k"], Float[Tensor, "b m h k"]]
Gather = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StreamContext:
    """What all blocks need to know about a stream besides its states.

    Attributes:
        position: Rotation by time and place, for self-attention.
        time: Rotation by time alone, for the text and the partners.
        text: Rotation of the text's keys: by the mean over their interval.
        levels: Modulation by noise level.
        self_mask: Mask of self-attention.
        text_mask: Mask of the text.
        partner_masks: Mask per partner.
        exchange: ``(B, N, 1)`` 1 where partners are read and 0 where not, or None for everywhere.
        gather: Makes keys of the whole stream from those of its tokens here; None where all tokens are here.
    """

    position: Rotation
    time: Rotation
    text: Rotation
    levels: Levels
    self_mask: Mask
    text_mask: Mask
    partner_masks: Mapping[str, Mask]
    exchange: Tensor | None
    gather: Gather | None = None


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys (Dehghani et al. 2023, arXiv 2302.05442).

    Where it is ``aligned``, queries and keys have a learned bias besides their content (Dai et al. 2019,
    arXiv 1901.02860). It begins equal in both, so that before anything is learned a query reads most what has its own
    time. And values are turned as keys are, and back by the turn of the query (Miyato et al. 2024, arXiv 2310.10375),
    so that what is read tells how far from the query it lies.
    """

    def __init__(
        self,
        width: int,
        source_width: int,
        num_heads: int,
        head_dim: int,
        backend: Backend,
        *,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        inner = num_heads * head_dim
        self.head_dim = head_dim
        self.backend: Backend = backend
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(source_width, 2 * inner, bias=False)
        self.query_scale = nn.Parameter(torch.ones(head_dim))
        self.key_scale = nn.Parameter(torch.ones(head_dim))
        self.out = nn.Linear(inner, width)
        self.bias = nn.Parameter(_no_turn(num_heads, head_dim)) if aligned else None

    def keys(self, source: Source, turn: Rotation) -> KeyValue:
        """Keys and values of what is read, with its rotation."""
        key, value = self.key_value(source).unflatten(-1, (2, -1, self.head_dim)).unbind(2)
        if self.bias is not None:
            key, value = key + self.bias[1].to(key.dtype), rotate(value, turn)
        return rotate(normalise(key, self.key_scale), turn), value

    def forward(
        self,
        x: States,
        source: Source | KeyValue,
        turn: Rotation,
        source_turn: Rotation,
        mask: Mask,
        gather: Gather | None = None,
    ) -> States:
        """Read ``source``, or what `keys` made of it, from ``x``, with the rotations of both.

        ``gather`` completes keys of which other processes hold a part.
        """
        query = self.query(x).unflatten(-1, (-1, self.head_dim))
        if self.bias is not None:
            query = query + self.bias[0].to(query.dtype)
        query = rotate(normalise(query, self.query_scale), turn)
        if isinstance(source, tuple):
            key, value = source
        else:
            key, value = self.keys(source, source_turn)
        if gather is not None:
            key, value = gather(torch.stack((key.to(value), value), dim=2)).unbind(2)
        read = attend(query, key, value, mask, backend=self.backend)
        if self.bias is not None:
            read = rotate(read, turn.inverse())
        return self.out(read.flatten(2))


class StreamLayer(nn.Module):
    """One stream's part of a block."""

    def __init__(self, name: str, config: ModelConfig, backend: Backend) -> None:
        super().__init__()
        stream = config.streams[name]
        width, heads, head_dim = stream.width, stream.num_heads, config.head_dim
        self.table = nn.Parameter(torch.zeros(PARTS, width))
        self.itself = Attention(width, width, heads, head_dim, backend)
        self.text = Attention(
            width, config.text_width, heads, head_dim, backend, aligned="text" in config.aligned
        )
        self.partners = nn.ModuleDict(
            {
                other: Attention(
                    width,
                    partner.width,
                    _shared_heads(stream, partner),
                    head_dim,
                    backend,
                    aligned="partners" in config.aligned,
                )
                for other, partner in config.streams.items()
                if other in config.partners(name)
            }
        )
        self.expand = nn.Linear(width, config.expansion * width)
        self.contract = nn.Linear(config.expansion * width, width)

    def modulation(self, levels: Levels) -> tuple[Tensor, ...]:
        """Scale, shift and gate of the three modulated parts, ``(B, N, D)`` or ``(B, 1, D)`` each."""
        return (levels.values + self.table)[levels.index].unbind(2)

    def attend_self(self, x: States, parts: tuple[Tensor, ...], context: StreamContext) -> States:
        """Self-attention over time and place."""
        scale, shift, gate = (part.to(x.dtype) for part in parts[:3])
        hidden = modulate(x, scale, shift)
        read = self.itself(
            hidden, hidden, context.position, context.position, context.self_mask, context.gather
        )
        return torch.addcmul(x, gate, read)

    def attend_text(self, x: States, text: Source | KeyValue, context: StreamContext) -> States:
        """Text at its time: queries turned by their second, keys by the mean over their interval."""
        return x + self.text(normalise(x), text, context.time, context.text, context.text_mask)

    def attend_partners(
        self,
        x: States,
        parts: tuple[Tensor, ...],
        partners: Mapping[str, tuple[Source, StreamContext]],
        context: StreamContext,
    ) -> States:
        """Read every partner's state from before the exchange."""
        if not partners:
            return x
        scale, shift, gate = (part.to(x.dtype) for part in parts[EXCHANGE])
        if context.exchange is not None:
            gate = context.exchange.to(x.dtype) * gate
        hidden = modulate(x, scale, shift)
        for name, (states, theirs) in partners.items():
            read = self.partners[name](
                hidden,
                normalise(states),
                context.time,
                theirs.time,
                context.partner_masks[name],
                theirs.gather,
            )
            x = torch.addcmul(x, gate, read)
        return x

    def feed_forward(self, x: States, parts: tuple[Tensor, ...]) -> States:
        """The token by itself."""
        scale, shift, gate = (part.to(x.dtype) for part in parts[6:])
        hidden = modulate(x, scale, shift)
        return torch.addcmul(x, gate, self.contract(F.gelu(self.expand(hidden))))


class Block(nn.Module):
    """All streams' layers and the exchange between them."""

    def __init__(self, config: ModelConfig, backend: Backend) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {name: StreamLayer(name, config, backend) for name in config.streams}
        )

    def text_keys(self, text: Source, turns: Mapping[str, Rotation]) -> dict[str, KeyValue]:
        """Keys and values of the text for every stream; they depend on no noise level."""
        return {name: layer.text.keys(text, turns[name]) for name, layer in self.layers.items()}  # type: ignore[union-attr,operator]

    def forward(
        self,
        states: Mapping[str, States],
        text: Source | Mapping[str, KeyValue],
        contexts: Mapping[str, StreamContext],
    ) -> dict[str, States]:
        """States of every stream after the block; ``text`` is the text or its `text_keys`."""
        layers = {name: self.layers[name] for name in states}
        parts = {name: layer.modulation(contexts[name].levels) for name, layer in layers.items()}  # type: ignore[operator]
        before = {}
        for name, layer in layers.items():
            x = layer.attend_self(states[name], parts[name], contexts[name])  # type: ignore[operator]
            source = text if isinstance(text, Tensor) else text[name]
            before[name] = layer.attend_text(x, source, contexts[name])  # type: ignore[operator]
        after = {}
        for name, layer in layers.items():
            partners = {
                other: (before[other], contexts[other])
                for other in before
                if other in layer.partners  # type: ignore[operator]
            }
            x = layer.attend_partners(before[name], parts[name], partners, contexts[name])  # type: ignore[operator]
            after[name] = layer.feed_forward(x, parts[name])  # type: ignore[operator]
        return after


def _shared_heads(stream: StreamConfig, partner: StreamConfig) -> int:
    return min(stream.num_heads, partner.num_heads)


def _no_turn(num_heads: int, head_dim: int) -> Tensor:
    """Biases of queries and keys, ``(2, H, K)``: the unit turn in every pair of a head."""
    first, second = torch.ones(2, num_heads, head_dim).chunk(2, dim=-1)
    return torch.cat((first, torch.zeros_like(second)), dim=-1)
