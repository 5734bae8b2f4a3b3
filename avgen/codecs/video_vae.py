"""VideoVAE: avgen's own causal, streaming video autoencoder.

Shapes: B batch, F frames, H W pixels, C latent channels, T HH WW latent grid.

Pixels are cut into patches of ``time_stride`` frames and ``patch x patch`` pixels before the first
layer, so all work happens at the latent frame rate on small grids. The first frame is repeated to
fill a patch of its own: one frame is an image, ``1 + k * time_stride`` frames are ``1 + k`` steps.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from avgen import checkpoint
from avgen.codecs.base import VideoCodec
from avgen.codecs.causal3d import (
    CausalStage,
    SpaceConv,
    Tape,
    check_frames,
    fold_space,
    patches_to_pixels,
    per_channel,
    pixels_to_patches,
    unfold_space,
)

KIND = "video_vae"


@dataclass(frozen=True)
class StreamState:
    """What an encoder or decoder carries from chunk to chunk; start with None."""

    history: tuple[Tensor, ...]


class Encoder(nn.Module):
    """Patches to the mean and log variance of latents."""

    def __init__(
        self,
        patch_channels: int,
        latent_channels: int,
        widths: Sequence[int],
        depths: Sequence[int],
    ) -> None:
        super().__init__()
        fine, coarse = widths
        self.embed = nn.Linear(patch_channels, fine)
        self.fine = CausalStage(fine, depths[0])
        self.down = nn.Linear(4 * fine, coarse)
        self.coarse = CausalStage(coarse, depths[1])
        self.norm = nn.LayerNorm(coarse)
        self.head = nn.Linear(coarse, 2 * latent_channels)

    def forward(
        self, patches: Float[Tensor, "b t h w p"], tape: Tape
    ) -> Float[Tensor, "b t hh ww c"]:
        """Encode patches."""
        x = self.fine(self.embed(patches), tape)
        x = self.coarse(self.down(fold_space(x, 2)), tape)
        return self.head(self.norm(x))


class Decoder(nn.Module):
    """Latents to patches."""

    def __init__(
        self,
        patch_channels: int,
        latent_channels: int,
        widths: Sequence[int],
        depths: Sequence[int],
    ) -> None:
        super().__init__()
        fine, coarse = widths
        self.embed = SpaceConv(latent_channels, coarse)
        self.coarse = CausalStage(coarse, depths[1])
        self.up = nn.Linear(coarse, 4 * fine)
        self.fine = CausalStage(fine, depths[0])
        self.norm = nn.LayerNorm(fine)
        self.head = nn.Linear(fine, patch_channels)

    def forward(
        self, latents: Float[Tensor, "b t hh ww c"], tape: Tape
    ) -> Float[Tensor, "b t h w p"]:
        """Decode latents."""
        x = self.coarse(self.embed(latents), tape)
        x = self.fine(unfold_space(self.up(x), 2), tape)
        return self.head(F.silu(self.norm(x)))


class VideoVAE(VideoCodec):
    """Causal variational autoencoder of video, eight times smaller in height and width.

    The arguments are the configuration that a checkpoint holds.

    Args:
        latent_channels: Channels C of a latent.
        time_stride: Frames per latent step after the first: 4, or 1 for frame-by-frame use.
        patch: Pixels per side of a patch; ``space_stride`` is twice that.
        encoder_widths: Channels on the patch grid and on the latent grid.
        encoder_depths: Residual blocks on either grid.
        decoder_widths: As for the encoder.
        decoder_depths: As for the encoder.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self,
        *,
        latent_channels: int = 16,
        time_stride: int = 4,
        patch: int = 4,
        encoder_widths: Sequence[int] = (64, 128),
        encoder_depths: Sequence[int] = (2, 2),
        decoder_widths: Sequence[int] = (96, 160),
        decoder_depths: Sequence[int] = (3, 2),
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "latent_channels": latent_channels,
            "time_stride": time_stride,
            "patch": patch,
            "encoder_widths": tuple(encoder_widths),
            "encoder_depths": tuple(encoder_depths),
            "decoder_widths": tuple(decoder_widths),
            "decoder_depths": tuple(decoder_depths),
        }
        self.latent_channels = latent_channels
        self.time_stride = time_stride
        self.patch = patch
        self.space_stride = 2 * patch
        self.identity = "untrained"
        pixels = 3 * time_stride * patch * patch
        self.encoder = Encoder(pixels, latent_channels, encoder_widths, encoder_depths)
        self.decoder = Decoder(pixels, latent_channels, decoder_widths, decoder_depths)
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    def encode(self, frames: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b c t hh ww"]:
        """Frames in [-1, 1] to normalised latents (the mean of the posterior).

        Raises:
            ValueError: F is not ``1 + k * time_stride``, or H or W no multiple of ``space_stride``.
        """
        return self.encode_chunk(frames, None)[0]

    def decode(self, latents: Float[Tensor, "b c t hh ww"]) -> Float[Tensor, "b 3 f h w"]:
        """Normalised latents to frames in about [-1, 1], not clamped.

        Raises:
            ValueError: The channels are not ``latent_channels``.
        """
        return self.decode_chunk(latents, None)[0]

    def encode_chunk(
        self, frames: Float[Tensor, "b 3 f h w"], state: StreamState | None
    ) -> tuple[Float[Tensor, "b c t hh ww"], StreamState]:
        """Encode the next frames of a stream.

        Args:
            frames: ``1 + k * time_stride`` at the start of a stream, then ``k * time_stride``.
            state: What the previous call returned; None at the start.

        Returns:
            Normalised latents, equal to those of the whole clip, and the next state.

        Raises:
            ValueError: As `encode`.
        """
        mean, _, state = self._posterior_chunk(frames, state)
        return (mean - per_channel(self.latent_mean)) / per_channel(self.latent_std), state

    def decode_chunk(
        self, latents: Float[Tensor, "b c t hh ww"], state: StreamState | None
    ) -> tuple[Float[Tensor, "b 3 f h w"], StreamState]:
        """Decode the next latents of a stream.

        Args:
            latents: One or more latent steps.
            state: What the previous call returned; None at the start.

        Returns:
            ``time_stride`` frames per step, one for the first step of a stream; the next state.

        Raises:
            ValueError: The channels are not ``latent_channels``.
        """
        if latents.ndim != 5 or latents.shape[1] != self.latent_channels:
            raise ValueError(
                f"latents {tuple(latents.shape)} are not (B, {self.latent_channels}, T, H, W); "
                "decode them with the codec that encoded them"
            )
        raw = latents * per_channel(self.latent_std) + per_channel(self.latent_mean)
        return self._reconstruct_chunk(raw, state)

    def posterior(
        self, frames: Float[Tensor, "b 3 f h w"]
    ) -> tuple[Float[Tensor, "b c t hh ww"], Float[Tensor, "b c t hh ww"]]:
        """Mean and log variance of raw (not normalised) latents, for training."""
        mean, log_variance, _ = self._posterior_chunk(frames, None)
        return mean, log_variance

    def reconstruct(self, raw: Float[Tensor, "b c t hh ww"]) -> Float[Tensor, "b 3 f h w"]:
        """Frames of raw (not normalised) latents, for training."""
        return self._reconstruct_chunk(raw, None)[0]

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Float[Tensor, "b 3 f h w"]]) -> None:
        """Set the normalisation: zero mean and unit variance per channel over these frames.

        Raises:
            ValueError: There are no batches.
        """
        means = [self.posterior(frames)[0].float().transpose(0, 1).flatten(1) for frames in batches]
        if not means:
            raise ValueError("calibrate got no batches; give at least one batch of frames")
        values = torch.cat(means, dim=1)
        self.latent_mean.copy_(values.mean(1))
        self.latent_std.copy_(values.std(1).clamp_min(1e-6))
        self.identity = self.latent_identity()

    def save(self, path: str | Path, **provenance: Any) -> str:
        """Write weights, configuration and provenance; return the new `identity`."""
        config = self.arguments | {"provenance": provenance}
        checkpoint.save(path, self.state_dict(), kind=KIND, config=config)
        self.identity = self.latent_identity()
        return self.identity

    def latent_identity(self) -> str:
        """SHA-256 of what makes latents; the decoder may be trained further without making them stale."""
        weights = {k: v for k, v in self.state_dict().items() if not k.startswith("decoder.")}
        return checkpoint.digest(weights)

    @classmethod
    def from_file(cls, path: str | Path) -> "VideoVAE":
        """Load what `save` wrote, ready for use.

        Raises:
            CheckpointError: The file is no readable ``video_vae`` checkpoint.
        """
        config, tensors = checkpoint.load(path, kind=KIND)
        del config["sha256"], config["provenance"]
        vae = cls(**config)
        vae.load_state_dict(tensors)
        vae.identity = vae.latent_identity()
        return vae.eval()

    def _posterior_chunk(
        self, frames: Tensor, state: StreamState | None
    ) -> tuple[Tensor, Tensor, StreamState]:
        check_frames(frames, self.time_stride, self.space_stride, first=state is None)
        if state is None:
            first = frames[:, :, :1].expand(-1, -1, self.time_stride - 1, -1, -1)
            frames = torch.cat((first, frames), dim=2)
        tape = Tape(None if state is None else state.history)
        moments = self.encoder(pixels_to_patches(frames, self.time_stride, self.patch), tape)
        mean, log_variance = moments.permute(0, 4, 1, 2, 3).chunk(2, dim=1)
        return mean, log_variance, StreamState(tuple(tape.written))

    def _reconstruct_chunk(
        self, raw: Tensor, state: StreamState | None
    ) -> tuple[Tensor, StreamState]:
        tape = Tape(None if state is None else state.history)
        patches = self.decoder(raw.permute(0, 2, 3, 4, 1), tape)
        frames = patches_to_pixels(patches, self.time_stride, self.patch)
        surplus = self.time_stride - 1 if state is None else 0
        return frames[:, :, surplus:], StreamState(tuple(tape.written))
