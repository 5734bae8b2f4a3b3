"""Video autoencoders of the diffusers library behind the `VideoCodec` interface.

Shapes: B batch, F frames, H W pixels, C latent channels, T HH WW latent grid.

Wan 2.x (`AutoencoderKLWan`) and LTX-Video (`AutoencoderKLLTXVideo`) are supported. diffusers is
imported only when a model is loaded.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avgen import checkpoint
from avgen.codecs.base import VideoCodec
from avgen.codecs.causal3d import check_frames, per_channel

SUPPORTED = ("AutoencoderKLWan", "AutoencoderKLLTXVideo")


class DiffusersVideoCodec(VideoCodec):
    """A Wan or LTX video autoencoder, normalised per channel as its configuration says.

    Latents are the mode of the posterior. Decoders of LTX may look ahead in time, and some are
    conditioned on a noise level.

    Args:
        autoencoder: An instance of one of the supported classes.
        decode_timestep: Noise level given to decoders that are conditioned on one.

    Raises:
        ValueError: The autoencoder is of another class.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, autoencoder: nn.Module, *, decode_timestep: float = 0.05) -> None:
        super().__init__()
        name = type(autoencoder).__name__
        if name not in SUPPORTED:
            raise ValueError(f"{name} is not supported; use one of {', '.join(SUPPORTED)}")
        self.autoencoder: Any = autoencoder
        config: Any = autoencoder.config
        if name == "AutoencoderKLWan":
            mean, std = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
            self.time_stride = 2 ** sum(config.temperal_downsample)
            self.space_stride = 2 ** (len(config.dim_mult) - 1) * (config.patch_size or 1)
            self.decode_timestep = None
        else:
            mean = self.autoencoder.latents_mean
            std = self.autoencoder.latents_std / config.scaling_factor
            self.time_stride = self.autoencoder.temporal_compression_ratio
            self.space_stride = self.autoencoder.spatial_compression_ratio
            self.decode_timestep = decode_timestep if config.timestep_conditioning else None
        self.latent_channels = len(mean)
        self.register_buffer("latent_mean", mean.detach().clone().float())
        self.register_buffer("latent_std", std.detach().clone().float())
        self.identity = checkpoint.digest(self.state_dict())

    @classmethod
    def from_pretrained(cls, path: str | Path, **options: Any) -> "DiffusersVideoCodec":
        """Load from a local folder or from the Hugging Face hub.

        Args:
            path: Folder or hub identifier.
            options: Passed to diffusers: ``subfolder="vae"``, ``revision``, ``torch_dtype``, ...

        Raises:
            ValueError: diffusers is not installed, or the model is of another class.
        """
        try:
            import diffusers
        except ImportError as error:
            raise ValueError(
                f"{path} needs diffusers; install it with pip install 'avgen[diffusers]'"
            ) from error
        lookup = {key: options[key] for key in ("subfolder", "revision") if key in options}
        config = getattr(diffusers, SUPPORTED[0]).load_config(path, **lookup)
        name = config.get("_class_name")
        if name not in SUPPORTED:
            raise ValueError(
                f"{path} holds {name}, which is not supported; use one of {', '.join(SUPPORTED)}"
            )
        autoencoder = getattr(diffusers, name).from_pretrained(path, **options)
        return cls(autoencoder).eval().requires_grad_(False)

    def encode(self, frames: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b c t hh ww"]:
        """Frames in [-1, 1] to normalised latents.

        Raises:
            ValueError: F is not ``1 + k * time_stride``, or H or W no multiple of ``space_stride``.
        """
        check_frames(frames, self.time_stride, self.space_stride, first=True)
        raw = self.autoencoder.encode(frames.to(self.autoencoder.dtype)).latent_dist.mode()
        return (raw - per_channel(self.latent_mean)) / per_channel(self.latent_std)

    def decode(self, latents: Float[Tensor, "b c t hh ww"]) -> Float[Tensor, "b 3 f h w"]:
        """Normalised latents to frames in about [-1, 1].

        Raises:
            ValueError: The channels are not ``latent_channels``.
        """
        if latents.ndim != 5 or latents.shape[1] != self.latent_channels:
            raise ValueError(
                f"latents {tuple(latents.shape)} are not (B, {self.latent_channels}, T, H, W); "
                "decode them with the codec that encoded them"
            )
        raw = latents * per_channel(self.latent_std) + per_channel(self.latent_mean)
        raw = raw.to(self.autoencoder.dtype)
        if self.decode_timestep is None:
            return self.autoencoder.decode(raw).sample
        timestep = torch.full((len(raw),), self.decode_timestep, dtype=raw.dtype, device=raw.device)
        return self.autoencoder.decode(raw, timestep).sample
