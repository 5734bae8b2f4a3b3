"""Causal SEANet: the encoder from waveform to latent and its mirror image, the decoder.

Shapes: B batch, C channels, S waveform samples, L latent steps.
Method: SEANet (Tagliasacchi et al., 2020) as used by EnCodec (Défossez et al., 2022, arXiv:2210.13438).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avgen.codecs.streaming import (
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    Compress,
    Elu,
    Expand,
    PadMode,
    Patch,
    ResidualLstm,
    StreamState,
    Unpatch,
)

LOUDNESS = 0.3
"""Typical deviation of a (companded) waveform; inside, signals start near 1, where ELU bends."""
BRANCH_GAIN = 0.3
"""Residual branches start quieter than their shortcut."""


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


def _residual_blocks(width: int, config: SeanetConfig) -> list[nn.Module]:
    return [
        ResidualBlock(width, config.dilation_base**index, config)
        for index in range(config.num_residual_layers)
    ]


def _lstm(width: int, config: SeanetConfig) -> list[nn.Module]:
    return [ResidualLstm(width, config.num_lstm_layers)] if config.num_lstm_layers else []
