"""Layers that run on a whole clip or on a stream of chunks, with the same result.

Every layer maps ``(x, state, final)`` to ``(y, state)``. The state is explicit and starts as ``None``;
a whole clip is one chunk that is both first and final, so both uses share one code path.

Shapes: B batch, C and D channels, S input steps, L output steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

PadMode = Literal["constant", "reflect"]
StreamState = Any
"""What a layer carries from chunk to chunk: ``None`` before the first, then opaque and never changed in place."""


@dataclass(frozen=True)
class _ConvState:
    """Inputs still needed by later outputs; ``started`` once the left padding is part of them."""

    buffer: Tensor
    started: bool


class Chain(nn.Module):
    """Layers in sequence; the state is the tuple of their states."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(
        self, x: Float[Tensor, "b c s"], state: StreamState = None, final: bool = True
    ) -> tuple[Float[Tensor, "b d l"], StreamState]:
        """Pass a chunk through all layers."""
        after = []
        for layer, before in zip(self.layers, state or (None,) * len(self.layers), strict=True):
            x, layer_state = layer(x, before, final)
            after.append(layer_state)
        return x, tuple(after)


class CausalConv1d(nn.Module):
    """Convolution whose output at a step depends on no later input (but for reflected padding)."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        pad_mode: PadMode = "reflect",
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels_out, kernel_size, stride, dilation=dilation)
        self.pad_mode: PadMode = pad_mode
        self.stride = stride
        self.reach = (kernel_size - 1) * dilation + 1
        initialise(self.conv, channels_in * kernel_size, gain)
        self.padding = self.reach - stride

    def forward(
        self, x: Float[Tensor, "b c s"], state: StreamState = None, final: bool = True
    ) -> tuple[Float[Tensor, "b d l"], StreamState]:
        """Convolve what is known so far; ``final`` completes the last window with padding."""
        buffer = x if state is None else torch.cat([state.buffer, x], dim=-1)
        started = state is not None and state.started
        waiting = self.pad_mode == "reflect" and buffer.shape[-1] <= self.padding
        if not started and not final and waiting:
            return self._nothing(x), _ConvState(buffer, started=False)
        left = 0 if started else self.padding
        right = self._missing(buffer.shape[-1] + left) if final else 0
        buffer = pad(buffer, left, right, self.pad_mode)
        steps = (buffer.shape[-1] - self.reach) // self.stride + 1
        if steps < 1:
            return self._nothing(x), _ConvState(buffer, started=True)
        y = self.conv(buffer[..., : (steps - 1) * self.stride + self.reach])
        return y, _ConvState(buffer[..., steps * self.stride :], started=True)

    def _missing(self, length: int) -> int:
        """Padding on the right that makes the last window of ``length`` inputs complete."""
        return -(length - self.reach) % self.stride

    def _nothing(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.conv.out_channels, 0)


class CausalConvTranspose1d(nn.Module):
    """Upsampling by ``stride`` with a kernel of twice that: output block i reads inputs i - 1 and i."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(channels_in, channels_out, 2 * stride, stride)
        initialise(self.conv, 2 * channels_in)
        self.stride = stride

    def forward(
        self, x: Float[Tensor, "b c l"], state: StreamState = None, final: bool = True
    ) -> tuple[Float[Tensor, "b d s"], StreamState]:
        """Upsample a chunk; the state is its last input step."""
        if x.shape[-1] == 0:
            return x.new_zeros(x.shape[0], self.conv.out_channels, 0), state
        known = x if state is None else torch.cat([state, x], dim=-1)
        start = 0 if state is None else self.stride
        y = self.conv(known)[..., start : -self.stride]
        return y, x[..., -1:]


class ResidualLstm(nn.Module):
    """Forward-only LSTM with a skip connection."""

    def __init__(self, channels: int, num_layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, num_layers)

    def forward(
        self, x: Float[Tensor, "b c l"], state: StreamState = None, final: bool = True
    ) -> tuple[Float[Tensor, "b c l"], StreamState]:
        """Run over the steps of the chunk; the state is hidden and cell."""
        if x.shape[-1] == 0:
            return x, state
        steps = x.permute(2, 0, 1)
        y, state = self.lstm(steps, state)
        return (y + steps).permute(1, 2, 0), state


class Elu(nn.Module):
    """Exponential linear unit as a layer without state."""

    def forward(
        self, x: Float[Tensor, "b c s"], state: StreamState = None, final: bool = True
    ) -> tuple[Float[Tensor, "b c s"], StreamState]:
        """Apply element by element."""
        return F.elu(x), None


class Patch(nn.Module):
    """Each ``size`` audio samples become channels of one step; silence completes the last step."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(
        self, x: Float[Tensor, "b c s"], state: StreamState = None, final: bool = True
    ) -> tuple[Float[Tensor, "b d l"], StreamState]:
        """Group samples; the state is those of the incomplete step."""
        known = x if state is None else torch.cat([state, x], dim=-1)
        known = F.pad(known, (0, -known.shape[-1] % self.size)) if final else known
        whole = known.shape[-1] // self.size * self.size
        steps = known[..., :whole].unflatten(-1, (whole // self.size, self.size))
        return steps.transpose(2, 3).flatten(1, 2), known[..., whole:]


class Unpatch(nn.Module):
    """Inverse of `Patch`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(
        self, x: Float[Tensor, "b d l"], state: StreamState = None, final: bool = True
    ) -> tuple[Float[Tensor, "b c s"], StreamState]:
        """Spread channels over time."""
        return x.unflatten(1, (-1, self.size)).transpose(2, 3).flatten(2), None


class Compress(nn.Module):
    """Sample by sample, ``sign(x) * log(1 + strength * |x|) / log(1 + strength)``."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(
        self, x: Float[Tensor, "b c s"], state: StreamState = None, final: bool = True
    ) -> tuple[Float[Tensor, "b c s"], StreamState]:
        """Compress loud values."""
        return x.sign() * torch.log1p(self.strength * x.abs()) / math.log1p(self.strength), None


class Expand(Compress):
    """Inverse of `Compress`; values beyond twice full scale are clipped."""

    def forward(
        self, x: Float[Tensor, "b c s"], state: StreamState = None, final: bool = True
    ) -> tuple[Float[Tensor, "b c s"], StreamState]:
        """Expand loud values."""
        size = x.abs().clamp(max=1.15) * math.log1p(self.strength)
        return x.sign() * torch.expm1(size) / self.strength, None


def initialise(conv: nn.Conv1d | nn.ConvTranspose1d, fan_in: int, gain: float = 1.0) -> None:
    """Start with outputs about as strong as inputs; PyTorch's default fades out over SEANet's depth."""
    nn.init.normal_(conv.weight, std=gain * fan_in**-0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def pad(x: Float[Tensor, "b c s"], left: int, right: int, mode: PadMode) -> Float[Tensor, "b c p"]:
    """Pad in time; a clip too short to be reflected is first extended by silence on the right."""
    if mode == "constant" or left == right == 0:
        return F.pad(x, (left, right)) if left or right else x
    short = max(0, max(left, right) - x.shape[-1] + 1)
    padded = F.pad(F.pad(x, (0, short)), (left, right), mode="reflect")
    return padded[..., : padded.shape[-1] - short]
