"""Training of the video autoencoder.

Loss: absolute and squared error, weighted up where pixels move, plus a small Kullback-Leibler term.
Two things calm the latent space: decoding mirrored latents must give mirrored pixels (equivariance
regularisation, after EQ-VAE, arXiv 2502.09509), and the decoder sees latents with noise.
"""

import itertools
from pathlib import Path

import torch
from jaxtyping import Float
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from avgen.codecs.video_vae import VideoVAE
from avgen.training.muon import Muon
from avgen.training.optim import warmup_cosine


def psnr(
    decoded: Float[Tensor, "b 3 f h w"], frames: Float[Tensor, "b 3 f h w"]
) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio of each clip in dB, for pixels in [-1, 1]."""
    error = (decoded.float().clamp(-1, 1) - frames).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp_min(1e-10))


def motion_weight(frames: Float[Tensor, "b 3 f h w"], gain: float) -> Float[Tensor, "b 1 f h w"]:
    """Weights of mean one, ``1 + gain`` times higher where a pixel leaves its mean over time."""
    away = (frames - frames.mean(2, keepdim=True)).abs().amax(1, keepdim=True)
    weight = 1 + gain * (4 * away).clamp(max=1)
    return weight / weight.mean()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Of a diagonal Gaussian from the unit Gaussian, in nats per latent value."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def split_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights of hidden layers, for Muon; and biases, norms, first and last layers."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    outer = ("embed.weight", "head.weight")
    for name, parameter in module.named_parameters():
        hidden = parameter.ndim > 1 and not name.endswith(outer)
        (matrices if hidden else others).append(parameter)
    return matrices, others


class VideoVAETraining(LightningModule):
    """Trains a `VideoVAE` on batches with ``frames``; calibrates and saves it at the end.

    Args:
        vae: What is trained.
        init_from: Weights to go on from, instead of ``vae``.
        output: Where the calibrated weights go at the end of training; nowhere if None.
        learning_rate: Peak.
        warmup_steps: Steps of linear rise.
        kl_weight: Of the Kullback-Leibler term in nats per latent value.
        latent_noise: Noise added to latents on top, relative to their spread, so that the decoder
            bears the errors of a generated latent.
        motion_gain: How much more moving pixels count.
        squared_weight: Of the squared error, next to the absolute error.
        calibration_batches: Batches that the normalisation is computed on.
        decoder_only: Train the decoder alone; latents, their normalisation and the identity stay.
    """

    def __init__(
        self,
        vae: VideoVAE,
        *,
        init_from: str | None = None,
        output: str | None = None,
        learning_rate: float = 2e-3,
        warmup_steps: int = 60,
        kl_weight: float = 2e-4,
        latent_noise: float = 0.1,
        motion_gain: float = 3.0,
        squared_weight: float = 2.0,
        calibration_batches: int = 32,
        decoder_only: bool = False,
    ) -> None:
        super().__init__()
        self.vae = vae if init_from is None else VideoVAE.from_file(init_from).train()
        self.output = output
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.kl_weight = kl_weight
        self.latent_noise = latent_noise
        self.motion_gain = motion_gain
        self.squared_weight = squared_weight
        self.calibration_batches = calibration_batches
        self.decoder_only = decoder_only
        if decoder_only:
            self.vae.requires_grad_(False).decoder.requires_grad_(True)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Reconstruct sampled, sometimes mirrored latents."""
        frames = batch["frames"]
        mean, log_variance = self.vae.posterior(frames)
        mean, log_variance = mean.float(), log_variance.float().clamp(-12, 4)
        floor = self.latent_noise * mean.detach().std()
        raw = mean + (log_variance.exp() + floor.square()).sqrt() * torch.randn_like(mean)
        flips = [axis for axis in (-1, -2) if torch.rand(()) < 0.5]
        decoded = self.vae.reconstruct(raw.flip(flips)).float()
        frames = frames.flip(flips)
        error = decoded - frames
        pixel_loss = error.abs() + self.squared_weight * error.square()
        weighted = (pixel_loss * motion_weight(frames, self.motion_gain)).mean()
        kl = kl_divergence(mean, log_variance)
        loss = weighted + self.kl_weight * kl
        logs = {
            "loss": loss,
            "kl": kl,
            "posterior_std": (0.5 * log_variance).exp().mean() / mean.std(),
            "psnr": psnr(decoded.detach(), frames).mean(),
        }
        self.log_dict({f"train/{name}": value for name, value in logs.items()}, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """PSNR of whole held-out clips."""
        frames = batch["frames"]
        mean, _ = self.vae.posterior(frames)
        value = psnr(self.vae.reconstruct(mean), frames).mean()
        self.log("val/psnr", value, batch_size=len(frames), prog_bar=True)

    def on_train_end(self) -> None:
        """Set the normalisation of the latents and write the weights."""
        loader = self.trainer.train_dataloader
        if loader is None:
            return
        self.vae.eval()
        if not self.decoder_only:
            batches = itertools.islice(loader, self.calibration_batches)
            self.vae.calibrate(batch["frames"].to(self.device) for batch in batches)
        if self.output and self.trainer.is_global_zero:
            self.vae.save(Path(self.output), steps=self.trainer.global_step)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Muon with warm-up and cosine decay over the trainer's ``max_steps``."""
        trained = self.vae.decoder if self.decoder_only else self.vae
        matrices, others = split_parameters(trained)
        optimizer = Muon(matrices, others, lr=self.learning_rate)
        schedule = warmup_cosine(
            optimizer, warmup_steps=self.warmup_steps, max_steps=self.trainer.max_steps
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
