"""Training of the project's audio codec: reconstruction of waveform, spectra and log-mel, no discriminator.

Shapes: B batch, A audio channels, S waveform samples, L latent steps, M mel bands.
"""

import math
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchaudio
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor

from avgen.codecs.audio_codec import SeanetAudioCodec

WINDOWS = (64, 256, 1024)
"""STFT windows in samples: short ones place onsets, long ones place pitches."""
MEL_WINDOW, MEL_HOP, MEL_BANDS = 1024, 160, 64
FLOOR = 3e-3
"""Amplitude, relative to a full-scale sine, below which spectra count as silent (-50 dB)."""


class AudioCodecTraining(LightningModule):
    """Trains a `SeanetAudioCodec` on batches with a ``waveform`` (B, A, S).

    The encoder first trains without quantising; after ``quantise_after`` steps the codebooks are fitted
    to its recent latents and follow it. Noise on the latents makes the decoder forgive the small errors
    of a generative model.

    Args:
        codec: What to train.
        learning_rate: Peak of AdamW, after ``warmup_steps``, then a cosine to a tenth.
        warmup_steps: Steps of linear rise.
        quantise_after: Step at which quantising begins.
        latent_noise: Largest deviation of the noise, in deviations of each latent channel; drawn per example.
        waveform_weight, spectrum_weight, mel_weight, commitment_weight: Of the losses.
        seed: Of noise and codebook restarts; with the step it determines all randomness.
        export_to: Where `on_fit_end` writes the calibrated codec as safetensors.
        calibration_batches: Training batches that `on_fit_end` calibrates on.
        initial: Weights to go on from (safetensors written by a run before).
    """

    recent: Tensor

    def __init__(
        self,
        codec: SeanetAudioCodec,
        *,
        learning_rate: float = 1e-3,
        warmup_steps: int = 50,
        quantise_after: int = 200,
        latent_noise: float = 0.2,
        waveform_weight: float = 1.0,
        spectrum_weight: float = 1.0,
        mel_weight: float = 1.0,
        commitment_weight: float = 0.25,
        seed: int = 0,
        export_to: str | None = None,
        calibration_batches: int = 32,
        initial: str | None = None,
    ) -> None:
        super().__init__()
        self.codec = codec
        self.learning_rate, self.warmup_steps = learning_rate, warmup_steps
        self.quantise_after, self.latent_noise = quantise_after, latent_noise
        self.commitment_weight = commitment_weight
        self.weights = {
            "waveform": waveform_weight,
            "spectrum": spectrum_weight,
            "mel": mel_weight,
        }
        self.seed = seed
        self.export_to, self.calibration_batches = export_to, calibration_batches
        if initial is not None:
            codec.load_state_dict(SeanetAudioCodec.from_file(initial).state_dict())
        self.register_buffer("recent", torch.zeros(4096, codec.latent_channels))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step; each loss is logged apart."""
        waveform = batch["waveform"]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.global_step)
        latents = self.codec.encoder(waveform)[0]
        commitment = latents.new_zeros(())
        self._remember(latents)
        if self.global_step >= self.quantise_after:
            if not self.codec.quantiser.ready:
                self.codec.quantiser.initialise(self.recent, generator)
            quantised = self.codec.quantiser.learn(latents, generator)
            latents = quantised.latents
            commitment = quantised.commitment / latents.detach().var()
        decoded = self.codec.decoder(self._disturb(latents, generator))[0]
        losses = reconstruction_losses(decoded, waveform, self.codec.sample_rate)
        total = sum(self.weights[name] * loss for name, loss in losses.items())
        total = total + self.commitment_weight * commitment
        logged = losses | {"commitment": commitment, "total": total}
        self.log_dict({f"train/{k}": v for k, v in logged.items()}, prog_bar=True)
        assert isinstance(total, Tensor)
        return total

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Reconstruction through the codes of whole held-out clips."""
        waveform = batch["waveform"]
        codec = self.codec
        if codec.quantiser.ready:
            decoded = codec.decode(codec.encode(waveform))
        else:
            decoded = codec.decoder(codec.encoder(waveform)[0])[0]
        losses = reconstruction_losses(
            decoded[..., : waveform.shape[-1]], waveform, codec.sample_rate
        )
        losses["log_mel_distance"] = log_mel_distance(
            decoded[..., : waveform.shape[-1]], waveform, codec.sample_rate
        )
        self.log_dict({f"val/{k}": v for k, v in losses.items()}, batch_size=len(waveform))

    def configure_optimizers(self) -> Any:
        """AdamW with a linear rise and a cosine to a tenth over the run."""
        optimiser = torch.optim.AdamW(
            self.codec.parameters(), lr=self.learning_rate, betas=(0.8, 0.99), weight_decay=0.0
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: cosine_schedule(step, self.warmup_steps, steps)
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    @torch.no_grad()
    def on_fit_end(self) -> None:
        """Calibrate on training batches and write the codec, if asked to."""
        if self.export_to is None or not self.trainer.is_global_zero:
            return
        self.codec.eval()
        loader = iter(self.trainer.train_dataloader or [])
        batches = (
            batch["waveform"].to(self.device)
            for batch, _ in zip(loader, range(self.calibration_batches), strict=False)
        )
        self.codec.calibrate(batches)
        self.codec.save(Path(self.export_to))

    def _remember(self, latents: Tensor) -> None:
        vectors = latents.detach().transpose(1, 2).flatten(0, 1)[-len(self.recent) :]
        self.recent.copy_(torch.cat([self.recent[len(vectors) :], vectors]))

    def _disturb(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        level = torch.rand(len(latents), 1, 1, generator=generator) * self.latent_noise
        noise = torch.randn(latents.shape, generator=generator) * level
        deviation = latents.detach().std(dim=(0, 2), keepdim=True)
        return latents + noise.to(latents) * deviation


def reconstruction_losses(
    decoded: Float[Tensor, "b a s"], waveform: Float[Tensor, "b a s"], sample_rate: int
) -> dict[str, Tensor]:
    """Distances of two waveforms.

    Squares as well as absolute values of logarithms, because worlds are mostly silent: absolute values
    alone have a minimum at silence.

    Returns:
        ``waveform``: mean absolute difference of companded samples; ``spectrum``: over several windows,
        spectral convergence (Yamamoto et al., 2020, arXiv:1910.11480) and log-magnitude differences;
        ``mel``: log-mel differences.
    """
    spectra = [
        spectral_distance(magnitudes(decoded, window), magnitudes(waveform, window))
        for window in WINDOWS
    ]
    return {
        "waveform": 5 * (compand(decoded) - compand(waveform)).abs().mean(),
        "spectrum": torch.stack(spectra).mean(),
        "mel": _size(log_mel(decoded, sample_rate) - log_mel(waveform, sample_rate)),
    }


def spectral_distance(decoded: Tensor, target: Tensor) -> Tensor:
    """Spectral convergence plus the size of the difference of logarithms."""
    convergence = (decoded - target).norm() / target.norm().clamp(min=1e-3)
    return convergence + _size(torch.log(decoded + FLOOR) - torch.log(target + FLOOR))


def compand(waveform: Tensor, strength: float = 100.0) -> Tensor:
    """Compress loud samples logarithmically to [-1, 1]."""
    return waveform.sign() * torch.log1p(strength * waveform.abs()) / math.log1p(strength)


def _size(difference: Tensor) -> Tensor:
    return 0.5 * (difference.abs().mean() + difference.square().mean())


def log_mel_distance(
    decoded: Float[Tensor, "b a s"], waveform: Float[Tensor, "b a s"], sample_rate: int
) -> Tensor:
    """Mean absolute difference of natural log-mel amplitudes (64 bands, 10 ms hop, floor -50 dB)."""
    return (log_mel(decoded, sample_rate) - log_mel(waveform, sample_rate)).abs().mean()


def log_mel(waveform: Float[Tensor, "b a s"], sample_rate: int) -> Float[Tensor, "n m l"]:
    """Natural logarithm of mel amplitudes, one row per clip and channel."""
    spectrum = magnitudes(waveform, MEL_WINDOW, MEL_HOP)
    bank = _mel_bank(sample_rate).to(spectrum)
    return torch.log(bank @ spectrum + FLOOR)


def magnitudes(
    waveform: Float[Tensor, "b a s"], window: int, hop: int | None = None
) -> Float[Tensor, "n f l"]:
    """STFT magnitudes scaled so that a full-scale sine has about 1."""
    spectrum = torch.stft(
        waveform.flatten(0, 1),
        window,
        hop or window // 4,
        window=torch.hann_window(window, device=waveform.device),
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.sqrt(power + 1e-12) * (4 / window)


def cosine_schedule(step: int, warmup_steps: int, steps: int) -> float:
    """Factor on the learning rate: linear rise, then a cosine to a tenth."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))


@cache
def _mel_bank(sample_rate: int) -> Tensor:
    bank = torchaudio.functional.melscale_fbanks(
        MEL_WINDOW // 2 + 1, 20.0, sample_rate / 2, MEL_BANDS, sample_rate, mel_scale="htk"
    )
    return bank.t().contiguous()
