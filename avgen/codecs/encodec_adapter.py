"""Meta's published EnCodec checkpoints behind `AudioCodec`, and their weights in the project's own network.

The networks run in the ``encodec`` package. **Licence:** the package on PyPI carries CC-BY-NC 4.0 metadata
(its repository is MIT since 2023), and the published checkpoints come under the terms of that repository:
check both before commercial use. avgen ships none of these weights.

Shapes: B batch, A audio channels, S waveform samples, D channels of a native step, K steps per token,
C = K * D latent channels, L tokens, Q codebooks.
"""

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import torch
from encodec.model import EncodecModel
from jaxtyping import Float, Int
from torch import Tensor

from avgen import checkpoint
from avgen.codecs.audio_codec import UNSAVED, SeanetAudioCodec
from avgen.codecs.base import AudioCodec

LICENCE = "weights: terms of github.com/facebookresearch/encodec; package on PyPI: CC-BY-NC 4.0"
EncodecName = Literal["encodec_24khz", "encodec_48khz"]
TOKENS_PER_SECOND = 25
SCALE_RANGE = (1e-5, 2.0)
"""Volumes that the 48 kHz model's scale codebook spans, logarithmically."""


class EncodecAudioCodec(AudioCodec):
    """EnCodec at 25 tokens per second: three 75 Hz steps of the 24 kHz model, six 150 Hz steps at 48 kHz.

    A token holds K native steps: its latent is their channels side by side, its codes are theirs one step
    after the other. The 48 kHz model normalises the volume of every second of sound; that scale is one more
    latent channel (its logarithm) and one more codebook, so that latents and codes stay complete.
    The 48 kHz model looks ahead within a second and does not stream.

    Args:
        name: Which of the two published architectures.
        bandwidth: kbit/s, which sets the codebooks of a native step (6 kbit/s: 8 at 24 kHz, 4 at 48 kHz).

    Raises:
        ValueError: The bandwidth is not one that the model was trained for.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, name: EncodecName = "encodec_24khz", bandwidth: float = 6.0) -> None:
        super().__init__()
        self.name: EncodecName = name
        self.model = build_encodec(name)
        if bandwidth not in self.model.target_bandwidths:
            raise ValueError(
                f"bandwidth {bandwidth} kbit/s is not offered by {name}: "
                f"choose one of {self.model.target_bandwidths}"
            )
        self.model.set_target_bandwidth(bandwidth)
        self.model.overlap = 0.0
        self.steps_per_token = self.model.frame_rate // TOKENS_PER_SECOND
        self.native_hop = int(self.model.encoder.hop_length)
        self.scaled = self.model.normalize
        self.native_codebooks = (
            self.model.quantizer.get_num_quantizers_for_bandwidth(self.model.frame_rate, bandwidth)
            + self.scaled
        )
        self.native_channels = self.model.encoder.dimension + self.scaled
        self.sample_rate, self.audio_channels = self.model.sample_rate, self.model.channels
        self.hop = self.native_hop * self.steps_per_token
        self.latent_channels = self.native_channels * self.steps_per_token
        self.num_codebooks = self.native_codebooks * self.steps_per_token
        self.codebook_size = self.model.quantizer.bins
        self.register_buffer("latent_mean", torch.zeros(self.latent_channels, 1))
        self.register_buffer("latent_std", torch.ones(self.latent_channels, 1))
        self.identity = UNSAVED
        self.eval()

    @classmethod
    def from_file(
        cls, path: str | Path, name: EncodecName = "encodec_24khz", bandwidth: float = 6.0
    ) -> "EncodecAudioCodec":
        """Load a published ``.th`` checkpoint from a local file (tensors only, nothing is executed).

        Raises:
            CheckpointError: The file is missing, unreadable, or of another architecture.
        """
        path = Path(path)
        if not path.is_file():
            raise checkpoint.CheckpointError(f"{path}: no such weights file; check the path")
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises many kinds on damaged files
            raise checkpoint.CheckpointError(
                f"{path}: not a readable PyTorch weights file ({type(error).__name__}); copy it again"
            ) from error
        return cls._with_weights(weights, name, bandwidth, str(path))

    @classmethod
    def from_hub(
        cls, name: EncodecName = "encodec_24khz", bandwidth: float = 6.0
    ) -> "EncodecAudioCodec":
        """Download (once) and load the published checkpoint; see the licence in the module's docstring."""
        constructors: dict[str, Callable[..., EncodecModel]] = {
            "encodec_24khz": EncodecModel.encodec_model_24khz,
            "encodec_48khz": EncodecModel.encodec_model_48khz,
        }
        with _without_deprecation_warnings():
            model = constructors[name](pretrained=True)
        return cls._with_weights(model.state_dict(), name, bandwidth, name)

    def encode(self, waveform: Float[Tensor, "b a s"]) -> Float[Tensor, "b c l"]:
        """Waveform in [-1, 1] to normalised latents of the quantised signal, L = ceil(S / hop)."""
        return self.latents_from_codes(self.encode_codes(waveform))

    def decode(self, latents: Float[Tensor, "b c l"]) -> Float[Tensor, "b a s"]:
        """Normalised latents to a waveform, S = L * hop."""
        steps = unfold_steps(latents * self.latent_std + self.latent_mean, self.steps_per_token)
        if not self.scaled:
            return self.model.decoder(steps)
        decoded = [
            self.model.decoder(part[:, :-1]) * part[:, -1:].mean(-1, keepdim=True).exp()
            for part in steps.split(self.model.frame_rate, dim=-1)
        ]
        return torch.cat(decoded, dim=-1)

    def encode_codes(self, waveform: Float[Tensor, "b a s"]) -> Int[Tensor, "b q l"]:
        """Waveform in [-1, 1] to codes; the end is padded with silence to a whole token.

        Raises:
            ValueError: Not three axes, wrong number of channels, or no samples.
        """
        shape = tuple(waveform.shape)
        if waveform.ndim != 3 or shape[1] != self.audio_channels or shape[2] == 0:
            raise ValueError(
                f"waveform of shape {shape}: {self.name} needs (batch, {self.audio_channels} channels, "
                "at least one sample)"
            )
        padded = torch.nn.functional.pad(waveform, (0, -shape[2] % self.hop))
        parts = []
        for codes, scale in self.model.encode(padded):
            rows = [codes]
            if scale is not None:
                rows.append(
                    scale_to_code(scale, self.codebook_size)[..., None].expand_as(codes[:, :1])
                )
            parts.append(torch.cat(rows, dim=1))
        return fold_steps(torch.cat(parts, dim=-1), self.steps_per_token)

    def latents_from_codes(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b c l"]:
        """Codebook indices to normalised latents.

        Raises:
            ValueError: Another number of codebooks than the codec has.
        """
        if codes.ndim != 3 or codes.shape[1] != self.num_codebooks:
            raise ValueError(
                f"codes of shape {tuple(codes.shape)}: expected (batch, {self.num_codebooks} codebooks, steps)"
            )
        steps = unfold_steps(codes, self.steps_per_token)
        rows = steps[:, :-1] if self.scaled else steps
        latents = self.model.quantizer.decode(rows.transpose(0, 1))
        if self.scaled:
            scale = code_to_scale(steps[:, -1:], self.codebook_size)
            latents = torch.cat([latents, scale.log()], dim=1)
        folded = fold_steps(latents, self.steps_per_token)
        return (folded - self.latent_mean) / self.latent_std

    def codes_from_latents(self, latents: Float[Tensor, "b c l"]) -> Int[Tensor, "b q l"]:
        """Nearest codebook indices of normalised latents."""
        steps = unfold_steps(latents * self.latent_std + self.latent_mean, self.steps_per_token)
        network = steps[:, :-1] if self.scaled else steps
        codes = self.model.quantizer.encode(network, self.model.frame_rate, self.model.bandwidth)
        codes = codes.transpose(0, 1)
        if self.scaled:
            codes = torch.cat(
                [codes, scale_to_code(steps[:, -1:].exp(), self.codebook_size)], dim=1
            )
        return fold_steps(codes, self.steps_per_token)

    @torch.no_grad()
    def calibrate(self, waveforms: Iterable[Float[Tensor, "b a s"]]) -> None:
        """Measure the mean and deviation of the latents on some batches; part of the identity."""
        batches = [self.encode(w) * self.latent_std + self.latent_mean for w in waveforms]
        vectors = torch.cat([batch.transpose(1, 2).flatten(0, 1) for batch in batches]).double()
        self.latent_mean.copy_(vectors.mean(0)[:, None])
        self.latent_std.copy_(vectors.std(0).clamp(min=1e-4)[:, None])
        self.identity = checkpoint.digest(self.state_dict())

    @classmethod
    def _with_weights(
        cls, weights: dict[str, Tensor], name: EncodecName, bandwidth: float, source: str
    ) -> "EncodecAudioCodec":
        codec = cls(name, bandwidth)
        try:
            codec.model.load_state_dict(weights)
        except (RuntimeError, AttributeError, TypeError) as error:
            raise checkpoint.CheckpointError(
                f"{source}: these are not the weights of {name}; name the right architecture "
                "(encodec_24khz or encodec_48khz)"
            ) from error
        codec.identity = checkpoint.digest(codec.state_dict())
        return codec


def build_encodec(name: EncodecName) -> EncodecModel:
    """The package's model with random weights.

    Raises:
        ValueError: There is no such model.
    """
    with _without_deprecation_warnings():
        if name == "encodec_24khz":
            return EncodecModel.encodec_model_24khz(pretrained=False)
        if name == "encodec_48khz":
            return EncodecModel.encodec_model_48khz(pretrained=False)
    raise ValueError(f"no EnCodec model {name!r}; choose encodec_24khz or encodec_48khz")


def seanet_from_encodec(model: EncodecModel) -> SeanetAudioCodec:
    """The causal 24 kHz model's weights in avgen's own streaming network, at its 75 steps per second."""
    codec = SeanetAudioCodec(
        sample_rate=model.sample_rate,
        audio_channels=model.channels,
        latent_channels=model.encoder.dimension,
        num_codebooks=model.quantizer.n_q,
        codebook_size=model.quantizer.bins,
        num_filters=model.encoder.n_filters,
        strides=tuple(model.encoder.ratios),
        patch=1,
        companding=0.0,
        num_residual_layers=model.encoder.n_residual_layers,
        num_lstm_layers=2,
        pad_mode="reflect",
        true_skip=False,
    )
    codec.load_state_dict(translate_encodec(model.state_dict()), strict=False)
    codec.identity = checkpoint.digest(codec.state_dict())
    return codec.eval()


def translate_encodec(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names and tensors of `SeanetAudioCodec` from those of the package; weight norm is multiplied out."""
    own: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.startswith("quantizer.") or name.endswith("weight_g"):
            continue
        if name.endswith("weight_v"):
            strength = weights[name.replace("weight_v", "weight_g")]
            length = tensor.norm(dim=tuple(range(1, tensor.ndim)), keepdim=True)
            name, tensor = name.replace("weight_v", "weight"), tensor * strength / length
        own[_translate_name(name)] = tensor
    layers = sorted(
        (name for name in weights if name.endswith("_codebook.embed")),
        key=lambda name: int(name.split(".")[3]),
    )
    own["quantiser.codebooks"] = torch.stack([weights[name] for name in layers])
    own["quantiser.ready"] = torch.ones((), dtype=torch.bool)
    return own


def _translate_name(name: str) -> str:
    parts = name.replace(".conv.conv.", ".conv.").replace(".convtr.convtr.", ".conv.")
    return parts.replace(".model.", ".layers.").replace(".block.", ".block.layers.")


def fold_steps(steps: Tensor, number: int) -> Tensor:
    """``(B, D, K * L)`` to ``(B, K * D, L)``: K steps in a row become one token."""
    b, d, length = steps.shape
    return steps.view(b, d, length // number, number).permute(0, 3, 1, 2).flatten(1, 2)


def unfold_steps(tokens: Tensor, number: int) -> Tensor:
    """Inverse of `fold_steps`."""
    b, c, length = tokens.shape
    return tokens.view(b, number, c // number, length).permute(0, 2, 3, 1).flatten(2)


def scale_to_code(scale: Tensor, size: int) -> Tensor:
    """Nearest of ``size`` volumes on a logarithmic scale."""
    low, high = (torch.tensor(v).log() for v in SCALE_RANGE)
    position = (scale.clamp(*SCALE_RANGE).log() - low) / (high - low)
    return (position * (size - 1)).round().long()


def code_to_scale(code: Tensor, size: int) -> Tensor:
    """Inverse of `scale_to_code`."""
    low, high = (torch.tensor(v).log() for v in SCALE_RANGE)
    return (low + code / (size - 1) * (high - low)).exp()


def _without_deprecation_warnings() -> warnings.catch_warnings:
    """The package uses ``torch.nn.utils.weight_norm``, which PyTorch has deprecated."""
    return warnings.catch_warnings(action="ignore", category=FutureWarning)
