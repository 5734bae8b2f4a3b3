"""Training of the project's audio codec: reconstruction of waveform, spectra and log-mel, no discriminator.

Shapes: B batch, A audio channels, S waveform samples.
"""

import itertools
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.objective.spectral import log_mel_distance, reconstruction_losses
from avgen.training.optim import warmup_cosine


class AudioCodecTraining(LightningModule):
    """Trains a `SeanetAudioCodec` on batches with a ``waveform`` (B, A, S).

    The encoder first trains without quantising; after ``quantise_after`` steps the codebooks are fitted
    to its recent latents and follow it. Noise on the latents makes the decoder forgive the small errors
    of a generative model.

    Args:
        codec: What to train.
        learning_rate: Peak of AdamW, after ``warmup_steps``, then a cosine to a hundredth.
        warmup_steps: Steps of linear rise.
        quantise_after: Step at which quantising begins.
        latent_noise: Largest deviation of the noise, in deviations of each latent channel; drawn per example.
        waveform_weight, spectrum_weight, mel_weight, onset_weight, timbre_weight, flux_weight, signal_weight,
            commitment_weight: Of the losses, see `reconstruction_losses`.
        seed: Of noise and codebook restarts; with the step it determines all randomness.
        export_to: Where `on_fit_end` writes the calibrated codec as safetensors.
        calibration_batches: Training batches that `on_fit_end` calibrates on.
        initial: Weights to go on from (safetensors written by a run before).
        decoder_only: Train the decoder alone; latents, their calibration and the identity stay.
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
        onset_weight: float = 5.0,
        timbre_weight: float = 0.0,
        flux_weight: float = 0.0,
        signal_weight: float = 0.0,
        commitment_weight: float = 0.25,
        seed: int = 0,
        export_to: str | None = None,
        calibration_batches: int = 32,
        initial: str | None = None,
        decoder_only: bool = False,
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
            "onset": onset_weight,
            "timbre": timbre_weight,
            "flux": flux_weight,
            "signal": signal_weight,
        }
        self.seed = seed
        self.export_to, self.calibration_batches = export_to, calibration_batches
        if initial is not None:
            codec.load_state_dict(SeanetAudioCodec.from_file(initial).state_dict())
        self.decoder_only = decoder_only
        self.register_buffer("recent", torch.zeros(4096, codec.latent_channels))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step; each loss is logged apart."""
        waveform = batch["waveform"]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.global_step)
        latents, commitment = self._encode(waveform, generator)
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
        """AdamW with warm-up and cosine decay over the run."""
        trained = self.codec.decoder if self.decoder_only else self.codec
        optimiser = torch.optim.AdamW(
            trained.parameters(), lr=self.learning_rate, betas=(0.8, 0.99), weight_decay=0.0
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = warmup_cosine(optimiser, warmup_steps=self.warmup_steps, max_steps=steps)
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
        if not self.decoder_only:
            loader = self.trainer.train_dataloader
            assert loader is not None
            batches = itertools.islice(loader, self.calibration_batches)
            self.codec.calibrate(batch["waveform"].to(self.device) for batch in batches)
        self.codec.save(Path(self.export_to))

    def _encode(self, waveform: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents of the network's own scale, and the commitment loss relative to their variance."""
        codec = self.codec
        if self.decoder_only:
            with torch.no_grad():
                latents = codec.quantiser.decode(codec.encode_codes(waveform))
            return latents, latents.new_zeros(())
        latents = codec.encoder(waveform)[0]
        self._remember(latents)
        if self.global_step < self.quantise_after:
            return latents, latents.new_zeros(())
        if not codec.quantiser.ready:
            codec.quantiser.initialise(self.recent, generator)
        quantised = codec.quantiser.learn(latents, generator)
        return quantised.latents, quantised.commitment / latents.detach().var()

    def _remember(self, latents: Tensor) -> None:
        vectors = latents.detach().transpose(1, 2).flatten(0, 1)[-len(self.recent) :]
        self.recent.copy_(torch.cat([self.recent[len(vectors) :], vectors]))

    def _disturb(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        level = torch.rand(len(latents), 1, 1, generator=generator) * self.latent_noise
        noise = torch.randn(latents.shape, generator=generator) * level
        deviation = latents.detach().std(dim=(0, 2), keepdim=True)
        return latents + noise.to(latents) * deviation
