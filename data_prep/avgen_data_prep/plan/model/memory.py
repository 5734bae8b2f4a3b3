"""What lies in the memory of one GPU while it trains, in bytes.

A step of Lightning runs forward with the gradients of the step before still there, so weights, gradients and states of
the optimiser are always counted together; to them comes what the forward pass keeps, or the scratch of the
optimiser, whichever is larger. What lives shorter within a backward pass is not counted, nor what CUDA itself takes.
Under FSDP2 blocks are sharded one by one (`torch.distributed.fsdp.fully_shard`), and gathered in float32.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from avgen.model.cost import (
    Precision,
    Step,
    block_bytes,
    inputs_bytes,
    modulation_bytes,
    saved_bytes,
    text_bytes,
)
from avgen.model.dual_stream import DualStreamTransformer
from avgen.text.base import TextEncoder
from avgen.text.byte_encoder import ByteTextEncoder
from avgen.training.optim import build_optimizer

_HALF, _FULL = 2, 4
SCRATCH = 14
"""Bytes of scratch for a number of a group of equal matrices (`avgen.training.muon.Muon`): the directions in float32,
and five times as many numbers in bfloat16."""


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """How the GPUs share the state of training.

    Attributes:
        strategy: ``ddp``: all of it on each; ``fsdp2``: a share, and a block at a time gathered.
        gpus: How many.
    """

    strategy: str
    gpus: int

    @property
    def parts(self) -> int:
        """Into how many the state is cut."""
        return self.gpus if self.strategy == "fsdp2" else 1


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one GPU by what they are for.

    Attributes:
        state: What is always there: weights, gradients, states of the optimiser, averages, buckets.
        casts: Copies of the weights that autocast makes.
        gathered: Weights that are whole at a time where they are sharded, and with activation checkpointing.
        activations: What the forward pass keeps.
        inputs: What it keeps with activation checkpointing,
        block: and what one block then takes while it is computed again.
        scratch: Of the optimiser.
        depth: Blocks.
    """

    state: Mapping[str, float]
    casts: float
    gathered: tuple[float, float]
    activations: float
    inputs: float
    block: float
    scratch: float
    depth: int

    def peak(self, *, checkpointing: bool) -> float:
        """Most bytes at a time."""
        state, gradients = sum(self.state.values()), self.state["gradients"]
        forward = state + self.casts + self.gathered[checkpointing]
        if not checkpointing:
            return max(forward + self.activations, state + self.scratch)
        again = state + self.gathered[1] + self.block + self.casts / self.depth
        return max(
            forward + self.inputs,
            again - gradients + self.inputs,  # the last block first, without gradients yet
            again - gradients / self.depth + self.inputs / self.depth,
            state + self.scratch,
        )


def memory_of(
    model: DualStreamTransformer,
    text: TextEncoder | None,
    step: Step,
    *,
    precision: Precision,
    sharding: Sharding,
    ema: bool,
) -> Memory:
    """Memory of a GPU."""
    config = model.config
    modules = [model, *([text] if text is not None else [])]
    matrices, others = (
        group["params"] for group in build_optimizer(modules, lr=1.0, weight_decay=0).param_groups
    )
    around = text_bytes_of(text, step, precision) + modulation_bytes(config, step)
    return Memory(
        state=_state(_numbers(matrices), _numbers(others), sharding, ema),
        casts=_HALF * _linear(modules) if precision == "bf16-mixed" else 0,
        gathered=_gathered(model, modules) if sharding.strategy == "fsdp2" else (0, 0),
        activations=saved_bytes(config, step, precision) + around,
        inputs=inputs_bytes(config, step, precision) + around,
        block=block_bytes(config, step, precision),
        scratch=SCRATCH * max(_largest_group(matrices), max(p.numel() for p in others)),
        depth=config.depth,
    )


def _state(matrices: int, others: int, sharding: Sharding, ema: bool) -> dict[str, float]:
    """What is always there: Muon keeps one number for each of a matrix, AdamW two for each of the others."""
    numbers = matrices + others
    shares = {"weights": numbers, "gradients": numbers, "optimiser": matrices + 2 * others}
    if ema:
        shares["average of the weights"] = numbers
    state = {name: _FULL * count / sharding.parts for name, count in shares.items()}
    if sharding.strategy == "ddp" and sharding.gpus > 1:
        state["buckets of gradients"] = float(_FULL * numbers)
    return state


def text_bytes_of(text: TextEncoder | None, step: Step, precision: Precision) -> int:
    """Activations of the text encoder; none of one that is frozen."""
    if not isinstance(text, ByteTextEncoder):
        return 0
    return text_bytes(text.width, len(text.layers), step, precision)


def _gathered(model: DualStreamTransformer, modules: Sequence[nn.Module]) -> tuple[float, float]:
    """All weights outside of the blocks, and of the blocks the one at work and the next.

    With activation checkpointing the peak lies in the backward pass, with the gradients of both besides.
    """
    block = _numbers(model.blocks[0].parameters())
    outside = sum(_numbers(module.parameters()) for module in modules) - len(model.blocks) * block
    return _FULL * (outside + 2 * block), _FULL * (outside + 4 * block)


def _numbers(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _linear(modules: Iterable[nn.Module]) -> int:
    """Numbers in the weights that autocast copies: of linear layers, but for those of noise levels."""
    named = (item for module in modules for item in module.named_modules())
    return sum(
        layer.weight.numel()
        for name, layer in named
        if isinstance(layer, nn.Linear) and not name.startswith("noise.")
    )


def _largest_group(matrices: Iterable[Tensor]) -> int:
    """Most numbers in matrices of one shape."""
    groups: Counter[tuple[int, ...]] = Counter()
    for matrix in matrices:
        groups[tuple(matrix.shape)] += matrix.numel()
    return max(groups.values(), default=0)
