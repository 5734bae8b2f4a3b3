"""The project's own audio codec: causal SEANet around a residual vector quantiser, streaming both ways.

Shapes: B batch, A audio channels, S waveform samples, C latent channels, L latent steps, Q codebooks.
Method: EnCodec (Défossez et al., 2022, arXiv:2210.13438), trained without a discriminator.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avgen import checkpoint
from avgen.codecs.base import AudioCodec
from avgen.codecs.quantiser import ResidualQuantiser
from avgen.codecs.seanet import SeanetConfig, build_decoder, build_encoder
from avgen.codecs.streaming import PadMode, StreamState

KIND = "audio_codec"
UNSAVED = "unsaved"


class SeanetAudioCodec(AudioCodec):
    """Waveform to latents or codes and back, on whole clips or chunk by chunk.

    The defaults are the small project codec: 16 kHz mono, 25 steps per second, no look-ahead. With
    ``num_filters=32, strides=(2, 4, 5, 8), patch=1, companding=0.0, num_lstm_layers=2,
    pad_mode="reflect", latent_channels=128, true_skip=False`` the network is that of EnCodec at 24 kHz.

    Args:
        sample_rate: Samples per second.
        audio_channels: 1 mono, 2 stereo.
        latent_channels: Channels of a latent.
        num_codebooks: Residual codebooks.
        quantised: Whether latents are those of the quantised signal; else they are what the encoder says.
        codebook_size: Entries of each.
        num_filters, strides, patch, companding, num_residual_layers, num_lstm_layers, pad_mode,
            true_skip: See `SeanetConfig`.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self,
        *,
        sample_rate: int = 16_000,
        audio_channels: int = 1,
        latent_channels: int = 32,
        num_codebooks: int = 8,
        codebook_size: int = 512,
        quantised: bool = True,
        num_filters: int = 32,
        strides: tuple[int, ...] = (2, 4, 5),
        patch: int = 16,
        companding: float = 100.0,
        num_residual_layers: int = 1,
        num_lstm_layers: int = 0,
        pad_mode: PadMode = "constant",
        true_skip: bool = True,
    ) -> None:
        super().__init__()
        seanet = SeanetConfig(
            audio_channels=audio_channels,
            dimension=latent_channels,
            num_filters=num_filters,
            strides=tuple(strides),
            num_residual_layers=num_residual_layers,
            num_lstm_layers=num_lstm_layers,
            pad_mode=pad_mode,
            patch=patch,
            companding=companding,
            true_skip=true_skip,
        )
        self.seanet = seanet
        self.sample_rate, self.hop, self.audio_channels = sample_rate, seanet.hop, audio_channels
        self.latent_channels, self.quantised = latent_channels, quantised
        self.num_codebooks, self.codebook_size = num_codebooks, codebook_size
        self.identity = UNSAVED
        self.encoder = build_encoder(seanet)
        self.decoder = build_decoder(seanet)
        self.quantiser = ResidualQuantiser(latent_channels, num_codebooks, codebook_size)
        self.register_buffer("latent_mean", torch.zeros(latent_channels, 1))
        self.register_buffer("latent_std", torch.ones(latent_channels, 1))

    def encode(self, waveform: Float[Tensor, "b a s"]) -> Float[Tensor, "b c l"]:
        """Waveform in [-1, 1] to normalised latents, L = ceil(S / hop); see ``quantised``.

        Raises:
            ValueError: Not three axes, wrong number of channels, or no samples.
        """
        if self.quantised:
            return self.latents_from_codes(self.encode_codes(waveform))
        self._check(waveform, "waveform", self.audio_channels, "samples")
        return self.normalise(self.encoder(waveform)[0])

    def decode(self, latents: Float[Tensor, "b c l"]) -> Float[Tensor, "b a s"]:
        """Normalised latents to a waveform, S = L * hop.

        Raises:
            ValueError: Not three axes, wrong number of channels, or no steps.
        """
        self._check(latents, "latents", self.latent_channels, "latent steps")
        return self.decoder(self.denormalise(latents))[0]

    def encode_codes(self, waveform: Float[Tensor, "b a s"]) -> Int[Tensor, "b q l"]:
        """Waveform in [-1, 1] to codebook indices, L = ceil(S / hop)."""
        self._check(waveform, "waveform", self.audio_channels, "samples")
        return self.quantiser.encode(self.encoder(waveform)[0])

    def latents_from_codes(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b c l"]:
        """Codebook indices to normalised latents; fewer codebooks than Q give a coarser sound.

        Raises:
            ValueError: More codebooks than the codec has, or an index outside its codebook.
        """
        if codes.ndim != 3 or not 1 <= codes.shape[1] <= self.num_codebooks:
            raise ValueError(
                f"codes of shape {tuple(codes.shape)}: expected (batch, 1 to {self.num_codebooks} "
                "codebooks, steps)"
            )
        if codes.numel() and not (0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size):
            raise ValueError(
                f"codes from {int(codes.min())} to {int(codes.max())}: this codec's codebooks have "
                f"entries 0 to {self.codebook_size - 1}; were they made by another codec?"
            )
        return self.normalise(self.quantiser.decode(codes))

    def codes_from_latents(self, latents: Float[Tensor, "b c l"]) -> Int[Tensor, "b q l"]:
        """Nearest codebook indices of normalised latents."""
        self._check(latents, "latents", self.latent_channels, "latent steps")
        return self.quantiser.encode(self.denormalise(latents))

    def encode_chunk(
        self,
        waveform: Float[Tensor, "b a s"],
        state: StreamState = None,
        *,
        final: bool = False,
    ) -> tuple[Int[Tensor, "b q l"], StreamState]:
        """Codes of the steps that the stream so far completes, perhaps none.

        Args:
            waveform: The next samples, any number of them.
            state: What the call before returned; ``None`` starts a stream. It is not changed.
            final: The stream ends here: the last, incomplete step is padded and returned.
        """
        self._check(waveform, "waveform", self.audio_channels, "samples", least=0)
        latents, state = self.encoder(waveform, state, final)
        return self.quantiser.encode(latents), state

    def decode_chunk(
        self,
        latents: Float[Tensor, "b c l"],
        state: StreamState = None,
        *,
        final: bool = False,
    ) -> tuple[Float[Tensor, "b a s"], StreamState]:
        """Waveform of the next latents, hop samples per step.

        With reflected padding the first samples come a few steps late; ``final`` brings the rest.
        """
        self._check(latents, "latents", self.latent_channels, "latent steps", least=0)
        return self.decoder(self.denormalise(latents), state, final)

    def normalise(self, latents: Float[Tensor, "b c l"]) -> Float[Tensor, "b c l"]:
        """Latents of the network to zero mean and unit variance per channel."""
        return (latents - self.latent_mean) / self.latent_std

    def denormalise(self, latents: Float[Tensor, "b c l"]) -> Float[Tensor, "b c l"]:
        """Inverse of `normalise`."""
        return latents * self.latent_std + self.latent_mean

    @torch.no_grad()
    def calibrate(self, waveforms: Iterable[Float[Tensor, "b a s"]]) -> None:
        """Measure the mean and deviation of the quantised latents on some batches.

        Raises:
            ValueError: No batch was given.
        """
        batches = [self.quantiser.decode(self.encode_codes(w)).transpose(1, 2) for w in waveforms]
        if not batches:
            raise ValueError("calibrate() was given no waveforms; give at least one batch")
        vectors = torch.cat([batch.flatten(0, 1) for batch in batches]).double()
        self.latent_mean.copy_(vectors.mean(0)[:, None])
        self.latent_std.copy_(vectors.std(0).clamp(min=1e-4)[:, None])
        self.identity = UNSAVED

    @property
    def config(self) -> dict[str, Any]:
        """Constructor arguments, JSON-able."""
        shape = dataclasses.asdict(self.seanet)
        own = ("num_filters", "strides", "patch", "companding", "pad_mode", "true_skip")
        own += ("num_residual_layers", "num_lstm_layers")
        return {key: shape[key] for key in own} | {
            "sample_rate": self.sample_rate,
            "audio_channels": self.audio_channels,
            "latent_channels": self.latent_channels,
            "num_codebooks": self.num_codebooks,
            "codebook_size": self.codebook_size,
            "quantised": self.quantised,
        }

    def save(self, path: str | Path) -> str:
        """Write one safetensors file and return the identity."""
        config = {**self.config, "class": type(self).__name__}
        checkpoint.save(path, self.state_dict(), kind=KIND, config=config)
        self.identity = self.latent_identity()
        return self.identity

    def latent_identity(self) -> str:
        """SHA-256 of what defines the latents: encoder, codebooks and calibration.

        The decoder is not part of it: it can be trained on while cached latents stay valid.
        """
        defining = ("encoder.", "quantiser.codebooks", "latent_")
        weights = {k: v for k, v in self.state_dict().items() if k.startswith(defining)}
        return checkpoint.digest(
            weights if self.quantised else weights | {"continuous": torch.ones(1)}
        )

    @classmethod
    def from_file(cls, path: str | Path) -> "SeanetAudioCodec":
        """Load what `save` wrote, in evaluation mode.

        Raises:
            CheckpointError: The file is missing, damaged, foreign, too new, or not an audio codec.
        """
        config, tensors = checkpoint.load(path, kind=KIND)
        arguments = {k: v for k, v in config.items() if k not in ("sha256", "class")}
        codec = cls(**arguments)
        codec.load_state_dict(tensors)
        codec.identity = codec.latent_identity()
        return codec.eval()

    @staticmethod
    def _check(tensor: Tensor, name: str, channels: int, unit: str, least: int = 1) -> None:
        if tensor.ndim != 3 or tensor.shape[1] != channels:
            raise ValueError(
                f"{name} of shape {tuple(tensor.shape)}: expected (batch, {channels} channels, {unit})"
            )
        if tensor.shape[-1] < least:
            raise ValueError(
                f"{name} of shape {tuple(tensor.shape)} has no {unit}; give at least one"
            )
