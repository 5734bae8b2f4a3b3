"""What a training step of the network costs: floating point operations, and bytes kept for the backward pass.

Arithmetic on shapes alone, nothing is run. Of operations, those of matrix products and attention are counted, two
per multiplication and addition, as `torch.utils.flop_counter` does; element-wise work is not. Attention counts as
plain products over whole clips, without what fused kernels compute again (Chowdhery et al. 2022, arXiv 2204.02311,
appendix B) and without what windows save.
Letters: N tokens of a stream, M tokens of the partner, T text tokens, D width, H heads, K head width.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from avgen.model.config import ModelConfig, StreamConfig
from avgen.model.modulation import PARTS

Precision = Literal["bf16-mixed", "32-true"]
PRECISIONS: tuple[Precision, ...] = ("bf16-mixed", "32-true")
_HALF, _FULL, _INDEX = 2, 4, 8  # bytes of a number
_NOISE_FEATURES = 128
_PLACE_FEATURES = 16
_NEWTON_SCHULZ = 5


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one device is given in one step.

    Attributes:
        clips: Clips, all of one shape.
        tokens: Tokens of a clip by stream; a stream that is not trained is missing.
        text_tokens: Text tokens of a clip.
        per_token: Whether each token has its own noise level (a task gives some, or clips are packed).
    """

    clips: int
    tokens: Mapping[str, int]
    text_tokens: int
    per_token: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no step."""
        sizes = {"clips": self.clips, "text_tokens": self.text_tokens, **self.tokens}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}; give at least 1")
        if not self.tokens:
            raise ValueError("no stream has tokens; give at least one")

    @property
    def num_tokens(self) -> int:
        """Tokens of all streams and clips, without text."""
        return self.clips * sum(self.tokens.values())


@dataclass(frozen=True)
class Flops:
    """Operations of forward and backward.

    Attributes:
        products: Of linear layers.
        attention: Of scores and of their products with values.
    """

    products: int
    attention: int

    @property
    def total(self) -> int:
        """Both."""
        return self.products + self.attention

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.products + other.products, self.attention + other.attention)

    def __mul__(self, by: int) -> "Flops":
        return Flops(self.products * by, self.attention * by)


@dataclass(frozen=True)
class _Read:
    """One attention layer of a stream: N queries of width D read M states of width E with H heads."""

    queries: int
    keys: int
    width: int
    source_width: int
    heads: int
    inner: int
    kind: Literal["itself", "text", "partner"]

    @property
    def flops(self) -> Flops:
        """Forward."""
        weights = 2 * self.queries * self.width + 2 * self.keys * self.source_width
        return Flops(2 * weights * self.inner, 4 * self.queries * self.keys * self.inner)


def step_flops(config: ModelConfig, step: Step) -> Flops:
    """Operations of forward and backward of the network, without its text encoder."""
    blocks = Flops(0, 0)
    for name, tokens in step.tokens.items():
        stream = config.streams[name]
        for read in _reads(config, name, step):
            blocks += read.flops
        blocks += Flops(4 * tokens * config.expansion * stream.width**2, 0)
    blocks *= 3 * config.depth
    ends = sum(_port_flops(config.streams[name], count) for name, count in step.tokens.items())
    return (blocks + Flops(ends, 0)) * step.clips


def text_flops(width: int, depth: int, step: Step) -> Flops:
    """Operations of the byte encoder where every clip has one text of its own and nothing is padded."""
    tokens = step.text_tokens
    return Flops(24 * tokens * width**2, 4 * tokens**2 * width) * (3 * depth * step.clips)


def orthogonal_flops(shapes: Sequence[Sequence[int]]) -> int:
    """Operations of an update by Muon (`avgen.training.muon.orthogonalised`) of matrices of these shapes."""
    return sum(
        _NEWTON_SCHULZ * (4 * min(shape) ** 2 * max(shape) + 2 * min(shape) ** 3)
        for shape in shapes
    )


def saved_bytes(config: ModelConfig, step: Step, precision: Precision) -> int:
    """Bytes of activations that a forward pass keeps for the backward pass.

    On CUDA with a fused attention kernel. In ``bf16-mixed`` norms run in float32 and each linear layer keeps
    its own copy of its input in bfloat16, as autocast has it. Copies of weights are not in it, nor what alignment
    and windows keep besides, which is less than a tenth.
    """
    return config.depth * block_bytes(config, step, precision) + _ends_bytes(
        config, step, precision
    )


def inputs_bytes(config: ModelConfig, step: Step, precision: Precision) -> int:
    """Bytes kept where blocks are computed again in the backward pass: their inputs, and what is around them.

    To them comes `block_bytes`, of one block at a time.
    """
    size = _HALF if precision == "bf16-mixed" else _FULL
    inputs = sum(size * n * config.streams[name].width for name, n in step.tokens.items())
    return config.depth * step.clips * inputs + _ends_bytes(config, step, precision)


def text_bytes(width: int, depth: int, step: Step, precision: Precision) -> int:
    """Bytes that the byte encoder keeps, as in `text_flops`."""
    per_token = 48 if precision == "bf16-mixed" else 72
    return step.clips * step.text_tokens * width * (per_token * depth + 2 * _FULL)


def block_bytes(config: ModelConfig, step: Step, precision: Precision) -> int:
    """Bytes that one block keeps for the backward pass."""
    mixed = precision == "bf16-mixed"
    total = 0
    for name, count in step.tokens.items():
        width = config.streams[name].width
        states = count * width
        for read in _reads(config, name, step):
            total += _read_bytes(read, mixed)
        partners = len(step.tokens) > 1
        total += (2 + partners) * _modulated_bytes(states, count, mixed, step.per_token)
        total += _feed_forward_bytes(states, config.expansion, mixed)
    return step.clips * total


def modulation_bytes(config: ModelConfig, step: Step) -> int:
    """Bytes of all scales, shifts and gates of a block, which live while it runs."""
    per_clip = sum(
        (count if step.per_token else 1) * PARTS * config.streams[name].width
        for name, count in step.tokens.items()
    )
    return _FULL * step.clips * per_clip


def _reads(config: ModelConfig, name: str, step: Step) -> Iterator[_Read]:
    """The attention layers of a stream in a block."""
    stream, count = config.streams[name], step.tokens[name]
    inner = stream.num_heads * config.head_dim
    own = {"queries": count, "width": stream.width}
    every = {**own, "heads": stream.num_heads, "inner": inner}
    yield _Read(**every, keys=count, source_width=stream.width, kind="itself")
    yield _Read(**every, keys=step.text_tokens, source_width=config.text_width, kind="text")
    for other, keys in step.tokens.items():
        if other != name:
            partner = config.streams[other]
            heads = min(stream.num_heads, partner.num_heads)
            shared = {"heads": heads, "inner": heads * config.head_dim}
            yield _Read(**own, **shared, keys=keys, source_width=partner.width, kind="partner")


def _port_flops(stream: StreamConfig, count: int) -> int:
    """Embedding, place, noise level and head of a clip: no gradient flows into what comes from outside."""
    width = stream.width
    noise = 4 * _NOISE_FEATURES * width + 6 * PARTS * width**2
    place = 4 * count * _PLACE_FEATURES * width if stream.spatial else 0
    if stream.codebooks:
        return noise + place + 6 * count * stream.codebooks * stream.codebook_size * width
    values = stream.channels * stream.patch**2
    return noise + place + (4 + 6) * count * values * width


def _read_bytes(read: _Read, mixed: bool) -> int:
    """What an attention layer keeps of a clip, from its inputs to what its output is multiplied with."""
    size = _HALF if mixed else _FULL
    queries, keys = read.queries * read.inner, read.keys * read.inner
    statistics = 2 * _FULL * (read.queries + read.keys + read.queries // 2) * read.heads
    rotated_and_read = size * (2 * queries + keys) + size * 2 * keys
    # Norms of queries and keys keep their inputs; in float32 that of the keys is the layer's output.
    normed = _FULL * (queries + keys) if mixed else _FULL * queries
    inputs = _input_bytes(read, mixed)
    gated = 0 if read.kind == "text" else size * read.queries * read.width
    return inputs + normed + rotated_and_read + statistics + gated


def _input_bytes(read: _Read, mixed: bool) -> int:
    """Inputs of the two linear layers, and what their norms keep besides."""
    own, source = read.queries * read.width, read.keys * read.source_width
    if read.kind == "itself":
        return 2 * _HALF * own if mixed else _FULL * own
    if read.kind == "text":
        norm = _FULL * own + 2 * _FULL * read.queries
        return norm + (_HALF * (own + source) if mixed else _FULL * own)
    norm = (_FULL * source if mixed else 0) + 2 * _FULL * read.keys
    return norm + (_HALF * (own + source) if mixed else _FULL * (own + source))


def _modulated_bytes(states: int, count: int, mixed: bool, per_token: bool) -> int:
    """An adaptive norm: its input, its output before scale and shift, and these where tokens have their own."""
    # In float32 scales, shifts and gates are views of one tensor, which is kept whole.
    own = _FULL + _HALF if mixed else _FULL + _FULL * PARTS // 3
    return 2 * _FULL * (states + count) + (own * states if per_token else 0)


def _feed_forward_bytes(states: int, expansion: int, mixed: bool) -> int:
    size = _HALF if mixed else _FULL
    return size * (2 + 2 * expansion) * states


def _ends_bytes(config: ModelConfig, step: Step, precision: Precision) -> int:
    """Embeddings, rotations, heads and the loss."""
    size = _HALF if precision == "bf16-mixed" else _FULL
    total = 0
    for name, count in step.tokens.items():
        stream = config.streams[name]
        values = stream.channels * stream.patch**2
        total += count * (size + 2 * _FULL) * values  # what is embedded, and the loss
        total += count * (_FULL + size) * stream.width + 2 * _FULL * count
        total += 2 * 2 * _FULL * count * config.head_dim // 2  # by time and by place
        total += size * count * _PLACE_FEATURES if stream.spatial else 0
        total += _INDEX * count if step.per_token else 0
    total += 2 * _FULL * step.text_tokens * config.head_dim // 2
    return step.clips * total
