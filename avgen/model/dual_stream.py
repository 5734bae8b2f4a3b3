"""The network: streams of picture and sound that attend to themselves, to timed text and to each other.

Letters: B rows, N tokens of a stream, A numbers per token, Q codebooks, V codebook entries, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avgen.model.blocks import Block, Gather, KeyValue, StreamContext, StreamLayer
from avgen.model.config import ModelConfig, StreamConfig
from avgen.model.inputs import Keys, StreamInput, attention_mask, pack_text, window_mask
from avgen.model.modulation import NoiseModulation
from avgen.ops.attention import Backend, Mask
from avgen.ops.context_parallel import ContextParallel
from avgen.ops.norms import normalise
from avgen.ops.rope import Rotation, concatenate, frequencies, interval_rotation, rotation
from avgen.text.base import TextTokens


@dataclass(frozen=True)
class TextKeys:
    """What the blocks read of a text; it depends on no noise level, so a sampling run computes it once.

    Attributes:
        sources: Per block the states of the text, or by stream their keys and values.
        turns: Per stream the rotation of the text by its intervals.
        keys: Lengths and padding of the text.
    """

    sources: Sequence[Tensor | Mapping[str, KeyValue]]
    turns: Mapping[str, Rotation]
    keys: Keys


class DualStreamTransformer(nn.Module):
    """Velocity (or code logits) of every stream, given all streams and timed text.

    Any subset of the configured streams may be given: a single one runs as a single-stream model.

    Args:
        config: Shape of the network.
        backend: Attention backend; see `avgen.ops.attention.attend`.

    Attributes:
        checkpoint_blocks: Whether training computes the inside of each block again for the gradient instead of keeping
            it (Chen et al. 2016, arXiv 1604.06174).
    """

    def __init__(self, config: ModelConfig, backend: Backend = "auto") -> None:
        super().__init__()
        self.config = config
        self.checkpoint_blocks = False
        self.ports = nn.ModuleDict({name: _port(stream) for name, stream in config.streams.items()})
        self.noise = nn.ModuleDict(
            {name: NoiseModulation(s.width) for name, s in config.streams.items()}
        )
        self.place = nn.ModuleDict(
            {name: PlaceEmbedding(s.width) for name, s in config.streams.items() if s.spatial}
        )
        self.blocks = nn.ModuleList([Block(config, backend) for _ in range(config.depth)])
        self.apply(_initialise)
        # Every block starts as the identity and every velocity as zero.
        for module in self.modules():
            if isinstance(module, (LatentPort, CodePort)):
                nn.init.zeros_(module.head.weight)
            if isinstance(module, NoiseModulation):
                nn.init.zeros_(module.out.weight)
            if isinstance(module, StreamLayer):
                nn.init.zeros_(module.text.out.weight)

    def forward(
        self,
        streams: Mapping[str, StreamInput],
        text: TextTokens | TextKeys,
        exchange: Float[Tensor, "b"] | None = None,
        context: ContextParallel | None = None,
    ) -> dict[str, Tensor]:
        """One evaluation.

        Args:
            streams: Inputs by stream name; all padded or all packed.
            text: Encoded captions, one row per clip, or their `text_keys` where many evaluations read the same text.
            exchange: Per clip 1 to let streams read each other or 0 to keep them apart; None lets all.
            context: Processes that compute a slice of the tokens each; all give the same inputs and get all outputs.

        Returns:
            Per stream the velocity ``(B, N, A)``, or for codes the logits ``(B, N, Q, V)``.
        """
        packed = any(stream.packed for stream in streams.values())
        told = self._text(text, packed) if isinstance(text, TextTokens) else text
        if packed != told.keys.packed:
            raise ValueError(
                "the keys of the text are not packed but the streams are; give packed streams the text itself"
            )
        whole = streams
        if context is not None:
            streams = {n: s.part(*context.span(s.tokens.shape[1])) for n, s in whole.items()}
        gathers = {n: _gather(context, stream.tokens.shape[1]) for n, stream in whole.items()}
        contexts = self._contexts(streams, whole, told, exchange, gathers)
        states = {name: self._embed(name, stream) for name, stream in streams.items()}
        for block, source in zip(self.blocks, told.sources, strict=True):
            states = self._run(block, states, source, contexts)
        read = {name: self.ports[name].read(normalise(x)) for name, x in states.items()}  # type: ignore[operator]
        return {
            name: x if (all_of := gathers[name]) is None else all_of(x) for name, x in read.items()
        }

    def text_keys(self, text: TextTokens) -> TextKeys:
        """What `forward` reads of a text in every block, for streams that are not packed."""
        read = self._text(text, packed=False)
        pairs = zip(self.blocks, read.sources, strict=True)
        return replace(read, sources=[block.text_keys(x, read.turns) for block, x in pairs])  # type: ignore[operator]

    def _text(self, text: TextTokens, packed: bool) -> TextKeys:
        """The text itself for every block."""
        turns = {name: self._text_turn(name, text) for name in self.config.streams}
        keys = Keys(None, None if bool(text.mask.all()) else text.mask, False)
        if packed:
            turns = {name: Rotation(*(x[text.mask][None] for x in turns[name])) for name in turns}
            text, keys = pack_text(text)
        return TextKeys([text.states] * len(self.blocks), turns, keys)

    def _run(self, block: nn.Module, *inputs: Any) -> dict[str, Tensor]:
        if not (self.checkpoint_blocks and torch.is_grad_enabled()):
            return block(*inputs)
        # Nothing in a block is random, so no state of a generator has to be kept.
        after: Any = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return after

    def _embed(self, name: str, stream: StreamInput) -> Tensor:
        x = self.ports[name](stream.tokens)
        return x if stream.place is None else x + self.place[name](stream.place).to(x.dtype)

    def _text_turn(self, stream: str, text: TextTokens) -> Rotation:
        """Keys at their times, or over the whole clip for a stream that is not told when events are."""
        start, end = text.interval.unbind(-1)
        if self.config.timed is not None and stream not in self.config.timed:
            start, end = torch.zeros_like(start), end.amax(1, keepdim=True).expand_as(end)
        return interval_rotation(start, end, self._time_omega(start.device))

    def _contexts(
        self,
        streams: Mapping[str, StreamInput],
        whole: Mapping[str, StreamInput],
        text: TextKeys,
        exchange: Tensor | None,
        gathers: Mapping[str, Gather | None],
    ) -> dict[str, StreamContext]:
        return {
            name: StreamContext(
                position=self._position(stream),
                time=rotation(stream.centre, self._time_omega(stream.tokens.device)),
                text=text.turns[name],
                levels=self.noise[name](stream.sigma),
                self_mask=self._mask(stream, whole[name], name, name),
                text_mask=attention_mask(Keys.of_stream(stream), text.keys),
                partner_masks={
                    other: self._mask(stream, whole[other], name, other)
                    for other in whole
                    if other in self.config.partners(name)
                },
                exchange=None if exchange is None else _per_token(exchange, stream),
                gather=gathers[name],
            )
            for name, stream in streams.items()
        }

    def _mask(self, queries: StreamInput, keys: StreamInput, name: str, other: str) -> Mask:
        """Which tokens of stream ``other`` those of ``name`` read; a picture reads itself whole."""
        config = self.config
        window = config.window_seconds if name == other else config.exchange_seconds
        if window is None or (name == other and queries.place is not None):
            return attention_mask(Keys.of_stream(queries), Keys.of_stream(keys))
        return window_mask(queries, keys, window)

    def _time_omega(self, device: torch.device) -> Tensor:
        return _omega(self.config.head_dim // 2, self.config.time_frequency, device)

    def _position(self, stream: StreamInput) -> Rotation:
        if stream.place is None:
            return rotation(stream.centre, self._time_omega(stream.tokens.device))
        pairs = self.config.head_dim // 2
        space = pairs // 8 * 5 // 2  # of 32 pairs: 12 for time, 10 for each axis of place
        device = stream.tokens.device
        time = rotation(
            stream.centre, _omega(pairs - 2 * space, self.config.time_frequency, device)
        )
        omega = _omega(space, self.config.space_frequency, device)
        return concatenate([time, *(rotation(axis, omega) for axis in stream.place.unbind(-1))])


class LatentPort(nn.Module):
    """Continuous latents in, velocity out."""

    def __init__(self, num_values: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(num_values, width)
        self.head = nn.Linear(width, num_values)

    def forward(self, tokens: Float[Tensor, "b n a"]) -> Float[Tensor, "b n d"]:
        """Token states."""
        return self.embed(tokens)

    def read(self, states: Float[Tensor, "b n d"]) -> Float[Tensor, "b n a"]:
        """Velocity."""
        return self.head(states)


class CodePort(nn.Module):
    """Codes in (the entry after the last stands for a masked one), logits of all codebooks out in parallel."""

    def __init__(self, codebooks: int, codebook_size: int, width: int) -> None:
        super().__init__()
        self.codebooks, self.codebook_size = codebooks, codebook_size
        self.embed = nn.Embedding(codebooks * (codebook_size + 1), width)
        self.head = nn.Linear(width, codebooks * codebook_size)

    def forward(self, tokens: Tensor) -> Float[Tensor, "b n d"]:
        """Token states: the sum over codebooks."""
        offset = torch.arange(self.codebooks, device=tokens.device) * (self.codebook_size + 1)
        return self.embed(tokens + offset).sum(2)

    def read(self, states: Float[Tensor, "b n d"]) -> Float[Tensor, "b n q v"]:
        """Logits."""
        return self.head(states).unflatten(-1, (self.codebooks, self.codebook_size))


class PlaceEmbedding(nn.Module):
    """Absolute place in the picture: Fourier features of row and column (time stays relative)."""

    def __init__(self, width: int, num_octaves: int = 4) -> None:
        super().__init__()
        self.num_octaves = num_octaves
        self.project = nn.Linear(4 * num_octaves, width)

    def forward(self, place: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n d"]:
        """Embedding of each place."""
        octaves = torch.pi / 2 * 2 ** torch.arange(self.num_octaves, device=place.device)
        angle = (place[..., None] * octaves).flatten(-2)
        return self.project(torch.cat((angle.sin(), angle.cos()), dim=-1))


def _port(stream: StreamConfig) -> nn.Module:
    if stream.codebooks:
        return CodePort(stream.codebooks, stream.codebook_size, stream.width)
    return LatentPort(stream.channels * stream.patch**2, stream.width)


def _omega(pairs: int, highest: float, device: torch.device) -> Tensor:
    return frequencies(pairs, highest, highest / 200).to(device)


def _gather(context: ContextParallel | None, count: int) -> Gather | None:
    return None if context is None else partial(context.gather, count=count)


def _per_token(exchange: Tensor, stream: StreamInput) -> Tensor:
    if stream.packed:
        assert stream.lengths is not None
        lengths = torch.tensor(stream.lengths, device=exchange.device)
        return exchange.repeat_interleave(lengths)[None, :, None]
    return exchange[:, None, None]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
