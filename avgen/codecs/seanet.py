"""Causal SEANet encoder and decoder that run on a whole clip or on a stream of chunks.

Every layer maps ``(x, state, final)`` to ``(y, state)``. The state is explicit and starts as ``None``;
a whole clip is one chunk that is both first and final, so both uses share one code path.

Shapes: B batch, C channels, S waveform samples, L latent steps.
Method: SEANet (Tagliasacchi et al., 2020) as used by EnCodec (Défossez et al., 2022, arXiv:2210.13438).
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


LOUDNESS = 0.3
"""Typical deviation of a (companded) waveform; inside, signals start near 1, where ELU bends."""
BRANCH_GAIN = 0.3
"""Residual branches start quieter than their shortcut."""


@dataclass(frozen=True)
class _ConvState:
    """Inputs still needed by later outputs; ``started`` once the left padding is part of them."""

    buffer: Tensor
    started: bool


@dataclass(frozen=True)
class SeanetConfig:
    """The shape of an encoder and its mirror image, the decoder.

    Attributes:
        audio_channels: Channels of the waveform.
        dimension: Channels of the latent.
        num_filters: Channels at the full sample rate; doubled by every stride.
        strides: Downsampling factors from the waveform to the latent; their product is the hop.
        num_residual_layers: Residual blocks before each stride.
        kernel_size: Kernel of the first and the last convolution.
        residual_kernel_size: Kernel inside residual blocks.
        dilation_base: Growth of the dilation from one residual block to the next.
        compress: Narrowing inside residual blocks.
        num_lstm_layers: Recurrent layers at the latent rate (0 for none).
        pad_mode: How the past before the first sample is filled. ``reflect`` reads a little ahead at
            the start, so a stream begins late; ``constant`` is silence and never waits.
        patch: Audio samples that the network handles as channels of one step (1: none). Wide and slow
            instead of narrow and fast, which suits CPUs and short trainings.
        companding: Strength of the logarithmic compression of the waveform around the network (0: none,
            255: that of telephony). Quiet tails and silence then cost no more than loud sounds.
        true_skip: Residual blocks add their input itself instead of a 1x1 convolution of it.
    """

    audio_channels: int = 1
    dimension: int = 128
    num_filters: int = 32
    strides: tuple[int, ...] = (2, 4, 5, 8)
    num_residual_layers: int = 1
    kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_base: int = 2
    compress: int = 2
    num_lstm_layers: int = 2
    pad_mode: PadMode = "reflect"
    patch: int = 1
    companding: float = 0.0
    true_skip: bool = False

    @property
    def hop(self) -> int:
        """Waveform samples per latent step."""
        return self.patch * math.prod(self.strides)

    @property
    def widest(self) -> int:
        """Channels at the latent rate."""
        return self.num_filters * 2 ** len(self.strides)


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


class ResidualBlock(nn.Module):
    """``shortcut(x) + conv(elu(conv(elu(x))))`` with a narrow, dilated middle."""

    def __init__(self, channels: int, dilation: int, config: SeanetConfig) -> None:
        super().__init__()
        hidden = channels // config.compress
        mode: PadMode = config.pad_mode
        self.block = Chain(
            [
                Elu(),
                CausalConv1d(
                    channels, hidden, config.residual_kernel_size, dilation=dilation, pad_mode=mode
                ),
                Elu(),
                CausalConv1d(hidden, channels, 1, pad_mode=mode, gain=BRANCH_GAIN),
            ]
        )
        self.shortcut = None if config.true_skip else CausalConv1d(channels, channels, 1)

    def forward(
        self, x: Float[Tensor, "b c s"], state: StreamState = None, final: bool = True
    ) -> tuple[Float[Tensor, "b c l"], StreamState]:
        """Add the branch to the part of the shortcut that it has reached."""
        inner, pending = (None, x.new_zeros(*x.shape[:-1], 0)) if state is None else state
        y, inner = self.block(x, inner, final)
        skip = x if self.shortcut is None else self.shortcut(x)[0]
        skip = torch.cat([pending, skip], dim=-1) if pending.shape[-1] else skip
        return skip[..., : y.shape[-1]] + y, (inner, skip[..., y.shape[-1] :])


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


def build_encoder(config: SeanetConfig) -> Chain:
    """Waveform ``(B, audio_channels, S)`` to latent ``(B, dimension, ceil(S / hop))``."""
    width, mode = config.num_filters, config.pad_mode
    layers: list[nn.Module] = [Compress(config.companding)] if config.companding else []
    layers += [Patch(config.patch)] if config.patch > 1 else []
    channels = config.audio_channels * config.patch
    layers += [CausalConv1d(channels, width, config.kernel_size, pad_mode=mode, gain=1 / LOUDNESS)]
    for stride in config.strides:
        layers += _residual_blocks(width, config)
        layers += [
            Elu(),
            CausalConv1d(width, 2 * width, 2 * stride, stride=stride, pad_mode=mode),
        ]
        width *= 2
    layers += _lstm(width, config)
    layers += [Elu(), CausalConv1d(width, config.dimension, config.kernel_size, pad_mode=mode)]
    return Chain(layers)


def build_decoder(config: SeanetConfig) -> Chain:
    """Latent ``(B, dimension, L)`` to waveform ``(B, audio_channels, L * hop)``."""
    width, mode = config.widest, config.pad_mode
    layers: list[nn.Module] = [
        CausalConv1d(config.dimension, width, config.kernel_size, pad_mode=mode)
    ]
    layers += _lstm(width, config)
    for stride in reversed(config.strides):
        layers += [Elu(), CausalConvTranspose1d(width, width // 2, stride)]
        width //= 2
        layers += _residual_blocks(width, config)
    channels = config.audio_channels * config.patch
    layers += [
        Elu(),
        CausalConv1d(width, channels, config.kernel_size, pad_mode=mode, gain=LOUDNESS),
    ]
    layers += [Unpatch(config.patch)] if config.patch > 1 else []
    layers += [Expand(config.companding)] if config.companding else []
    return Chain(layers)


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


def _residual_blocks(width: int, config: SeanetConfig) -> list[nn.Module]:
    return [
        ResidualBlock(width, config.dilation_base**index, config)
        for index in range(config.num_residual_layers)
    ]


def _lstm(width: int, config: SeanetConfig) -> list[nn.Module]:
    return [ResidualLstm(width, config.num_lstm_layers)] if config.num_lstm_layers else []
