"""Training of the offset classifier: cut picture and sound of one clip at different times, and ask how far apart.

Any data that gives batches with ``frames`` and ``waveform`` will do: the worlds, or a folder of real clips. It is never
trained on generated clips, which would teach it what a model does and not what is in sync.
"""

from pathlib import Path

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F

from avgen.training.optim import warmup_cosine
from avgen_eval.learned.sync_network import (
    FPS,
    LAGS_PER_CLASS,
    MAX_LAG,
    NUM_CLASSES,
    SAMPLE_RATE,
    SIZE,
    SyncNetwork,
    class_scores,
)

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS


class SyncTraining(LightningModule):
    """Cross-entropy over lags of a frame, on cuts whose offset is drawn uniformly from -2.08 to 2.08 s.

    Args:
        network: What is trained.
        init_from: Weights to go on from, instead of ``network``.
        window: Frames of a cut; a batch must hold at least ``window + 1`` frames, and offsets are bounded by what it
            holds more.
        learning_rate: Peak of AdamW.
        warmup_steps: Steps of linear rise.
        output: Where the weights go at the end; nowhere if None.
        trained_on: Told in the weights file.
        seed: Of offsets and cuts.
    """

    def __init__(
        self,
        network: SyncNetwork,
        *,
        init_from: str | None = None,
        window: int = 100,
        learning_rate: float = 2e-3,
        warmup_steps: int = 50,
        output: str | None = None,
        trained_on: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network if init_from is None else SyncNetwork.from_file(init_from)[0].train()
        self.window, self.seed = window, seed
        self.learning_rate, self.warmup_steps = learning_rate, warmup_steps
        self.output, self.trained_on = output, trained_on

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss on cuts with random offsets."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.global_step)
        frames, waveform, lags = draw_cuts(batch, self.window, generator)
        scores = self.network(frames, waveform)
        loss = F.cross_entropy(scores, lags + MAX_LAG)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/within_one", within_one_class(scores, lags), prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Accuracy on held-out clips, the same cuts every time."""
        generator = torch.Generator().manual_seed(batch_idx)
        frames, waveform, lags = draw_cuts(batch, self.window, generator)
        scores = self.network(frames, waveform)
        size = len(frames)
        exact = (class_scores(scores).argmax(-1) == true_class(lags)).float().mean()
        self.log("val/loss", F.cross_entropy(scores, lags + MAX_LAG), batch_size=size)
        self.log("val/exact", exact, batch_size=size)
        self.log("val/within_one", within_one_class(scores, lags), batch_size=size, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with warm-up and cosine decay."""
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, betas=(0.9, 0.99), weight_decay=0.02
        )
        schedule = warmup_cosine(
            optimizer, warmup_steps=self.warmup_steps, max_steps=self.trainer.max_steps
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_end(self) -> None:
        """Write the weights."""
        if self.output and self.trainer.is_global_zero:
            facts = {"steps": self.trainer.global_step, "trained_on": self.trained_on}
            self.network.save(Path(self.output), **facts)


def draw_cuts(
    batch: dict[str, Tensor], window: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Cuts of every clip, and by how many frames the sound is late in each.

    Returns:
        Frames ``(B, 3, window, SIZE, SIZE)``, waveforms ``(B, 1, window * 640)`` and lags ``(B,)``.

    Raises:
        ValueError: The batch holds too few frames.
    """
    frames, waveform = batch["frames"], batch["waveform"]
    spare = frames.shape[2] - window
    if spare < 1:
        raise ValueError(
            f"clips of {frames.shape[2]} frames are too short for cuts of {window} with an offset; "
            f"give clips of more than {window} frames, or a smaller window"
        )
    reach = min(MAX_LAG, spare)
    lags = torch.randint(-reach, reach + 1, (len(frames),), generator=generator)
    pictures, sounds = [], []
    for i, lag in enumerate(lags.tolist()):
        room = spare - abs(lag)
        first = int(torch.randint(0, room + 1, (1,), generator=generator)) + max(0, lag)
        start = (first - lag) * SAMPLES_PER_FRAME
        pictures.append(frames[i, :, first : first + window])
        sounds.append(waveform[i, :1, start : start + window * SAMPLES_PER_FRAME])
    return resized(torch.stack(pictures)), torch.stack(sounds), lags.to(frames.device)


def resized(frames: Tensor) -> Tensor:
    """Frames ``(B, 3, F, H, W)`` at the size that the network sees, whatever their shape."""
    if frames.shape[-2:] == (SIZE, SIZE):
        return frames
    flat = frames.transpose(1, 2).flatten(0, 1)
    small = F.interpolate(flat, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    return small.unflatten(0, (len(frames), -1)).transpose(1, 2)


def true_class(lags: Tensor) -> Tensor:
    """Class of a lag in frames."""
    return torch.div(lags + MAX_LAG, LAGS_PER_CLASS, rounding_mode="floor").clamp(
        0, NUM_CLASSES - 1
    )


def within_one_class(scores: Tensor, lags: Tensor) -> Tensor:
    """Share of clips whose class is right or next to the right one."""
    guess = class_scores(scores).argmax(-1)
    return ((guess - true_class(lags)).abs() <= 1).float().mean()
