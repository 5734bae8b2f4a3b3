"""A training step of the real network over fake tensors: shapes, types and storages, no numbers and no memory.

Fake CUDA tensors follow CUDA's rules of autocast without a GPU; only their backward pass needs a driver.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from avgen.model.config import ModelConfig, preset
from avgen.model.cost import Step
from avgen.model.dual_stream import DualStreamTransformer
from avgen.model.layout import Layout
from avgen.ops.attention import BACKENDS
from avgen.text.base import TextTokens

SHAPES = {"video": (5, 8, 8), "audio": (17,)}
TEXT_TOKENS = 24
FLASH = {
    "cuda": torch.ops.aten._scaled_dot_product_flash_attention,
    "cpu": torch.ops.aten._scaled_dot_product_flash_attention_for_cpu,
}


def shallow(name: str, depth: int) -> ModelConfig:
    """A preset with fewer blocks."""
    return replace(preset(name), depth=depth)


def layout(config: ModelConfig) -> Layout:
    return Layout.of_shapes(config, SHAPES, fps=25, time_stride=4, audio_rate=25, duration=17 / 25)


def step(config: ModelConfig, clips: int, **options) -> Step:
    tokens = {name: len(grid) for name, grid in layout(config).grids.items()}
    return Step(clips=clips, tokens=tokens, text_tokens=TEXT_TOKENS, **options)


@contextmanager
def fused_attention(device: str) -> Iterator[None]:
    """SDPA as its fused kernel: PyTorch does not choose it for a fake device."""

    def flash(query: Tensor, key: Tensor, value: Tensor, mask: object = None) -> Tensor:
        assert mask is None
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        return FLASH[device](query, key, value)[0].transpose(1, 2)

    before, BACKENDS["sdpa"] = BACKENDS["sdpa"], flash
    try:
        yield
    finally:
        BACKENDS["sdpa"] = before


@contextmanager
def autocast(device: str, enabled: bool = True) -> Iterator[None]:
    """`torch.autocast`, which refuses CUDA where there is none."""
    torch.set_autocast_enabled(device, enabled)
    torch.set_autocast_dtype(device, torch.bfloat16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, False)


@dataclass
class FakeTraining:
    """A network and the inputs of a step, all fake; made and used within a `FakeTensorMode`."""

    mode: FakeTensorMode
    config: ModelConfig
    clips: int
    device: str = "cpu"
    backend: str = "sdpa"

    def __post_init__(self) -> None:
        real = _real_ones(self.clips)
        with torch.device(self.device):
            self.model = DualStreamTransformer(self.config, backend=self.backend)  # type: ignore[arg-type]
            where, streams = layout(self.config), self.config.streams
            self.targets = {
                name: torch.empty(
                    self.clips, len(grid), streams[name].channels * streams[name].patch ** 2
                )
                for name, grid in where.grids.items()
            }
            self.inputs = {
                name: where.input(name, x, torch.empty(self.clips, 1))
                for name, x in self.targets.items()
            }
            self.states = torch.empty(
                self.clips, TEXT_TOKENS, self.config.text_width, requires_grad=True
            )
            self.interval = torch.empty(self.clips, TEXT_TOKENS, 2)
        # The network asks whether all text is real: a fake tensor that remembers its numbers can tell.
        self.mask = self.mode.fake_tensor_converter.from_real_tensor(
            self.mode, real, make_constant=True
        )

    def loss(self) -> Tensor:
        text = TextTokens(1.0 * self.states, self.interval, self.mask)
        outputs = self.model(self.inputs, text, self.inputs["video"].sigma[:, 0])
        losses = [(x.float() - self.targets[name]).square().mean() for name, x in outputs.items()]
        return torch.stack(losses).sum()


def _real_ones(clips: int) -> Tensor:
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    with unset_fake_temporarily():
        return torch.ones(clips, TEXT_TOKENS, dtype=torch.bool)


@contextmanager
def kept_storages(modules: list[torch.nn.Module]) -> Iterator[dict[int, int]]:
    """Bytes of each storage that the forward pass within keeps for the backward pass, but for parameters."""
    own = {p.untyped_storage()._cdata for module in modules for p in module.parameters()}
    found: dict[int, int] = {}
    alive = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            alive.append(storage)
            found[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found
