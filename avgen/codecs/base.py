"""What a codec is: media to latents and back.

Shapes: B batch, F frames, S waveform samples, T H W latent grid, L audio latent steps, C channels, Q codebooks.
Latents are normalised by the codec itself (about zero mean, unit variance per channel), so that
whatever reads them needs no statistics.
"""

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn


class VideoCodec(nn.Module, ABC):
    """Causal video codec: the first frame is coded alone, then every ``time_stride`` frames together.

    Attributes:
        latent_channels: Channels C of a latent.
        time_stride: Frames per latent step after the first (1 or 4).
        space_stride: Pixels per latent cell in height and width.
        identity: SHA-256 of the weights that make latents (all but the decoder); latents are only valid with it.
    """

    latent_channels: int
    time_stride: int
    space_stride: int
    identity: str

    @abstractmethod
    def encode(self, frames: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b c t hh ww"]:
        """Frames in [-1, 1], F = 1 + k * time_stride, to normalised latents."""

    @abstractmethod
    def decode(self, latents: Float[Tensor, "b c t hh ww"]) -> Float[Tensor, "b 3 f h w"]:
        """Normalised latents to frames in about [-1, 1] (not clamped)."""


class AudioCodec(nn.Module, ABC):
    """Audio codec with continuous latents (dequantised codes) and integer codes.

    Attributes:
        latent_channels: Channels C of a latent.
        sample_rate: Samples per second of the waveform.
        hop: Waveform samples per latent step; ``sample_rate / hop`` steps per second.
        audio_channels: Channels of the waveform (1 mono, 2 stereo).
        num_codebooks: Residual codebooks Q.
        codebook_size: Entries of each codebook.
        identity: SHA-256 of the weights that make latents and codes (all but the decoder).
    """

    latent_channels: int
    sample_rate: int
    hop: int
    audio_channels: int
    num_codebooks: int
    codebook_size: int
    identity: str

    @abstractmethod
    def encode(self, waveform: Float[Tensor, "b a s"]) -> Float[Tensor, "b c l"]:
        """Waveform in [-1, 1] to normalised continuous latents (of the quantised signal), L = ceil(S / hop)."""

    @abstractmethod
    def decode(self, latents: Float[Tensor, "b c l"]) -> Float[Tensor, "b a s"]:
        """Normalised latents to a waveform, S = L * hop."""

    @abstractmethod
    def encode_codes(self, waveform: Float[Tensor, "b a s"]) -> Int[Tensor, "b q l"]:
        """Waveform to codebook indices."""

    @abstractmethod
    def latents_from_codes(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b c l"]:
        """Codebook indices to the normalised latents they stand for."""

    @abstractmethod
    def codes_from_latents(self, latents: Float[Tensor, "b c l"]) -> Int[Tensor, "b q l"]:
        """Nearest codebook indices of normalised latents."""
