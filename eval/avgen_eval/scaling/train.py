"""One run of the study: a network of a size, trained for so many steps, and its loss on what was held out."""

import time
from dataclasses import dataclass, replace
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from avgen.cli.train import quiet_known_warnings
from avgen.data.datamodule import LatentDataModule
from avgen.model.bundle import Network
from avgen.model.config import ModelConfig, tiny
from avgen.ops.precision import computes_bfloat16
from avgen.training.flops import batch_flops
from avgen.training.joint import JointTraining

_VALIDATION_SEED = 0
_HELD_OUT = 0.1


@dataclass(frozen=True)
class Size:
    """Shape of a network, written ``4x2x1``.

    Attributes:
        depth: Blocks.
        video_heads: Attention heads of the picture, each 64 wide; so is its width.
        audio_heads: Of the sound.
    """

    depth: int
    video_heads: int
    audio_heads: int

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Read ``4x2x1``: depth, heads of the picture, heads of the sound.

        Raises:
            ValueError: It is no such size.
        """
        parts = text.split("x")
        if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise ValueError(
                f"size {text!r}: give depth, video heads and audio heads, such as 4x2x1"
            )
        return cls(*map(int, parts))

    def __str__(self) -> str:
        return f"{self.depth}x{self.video_heads}x{self.audio_heads}"

    def config(self, video_channels: int, audio_channels: int) -> ModelConfig:
        """The preset ``tiny`` in this size."""
        config = tiny(video_channels, audio_channels)
        heads = {"video": self.video_heads, "audio": self.audio_heads}
        streams = {
            name: replace(stream, num_heads=heads[name], width=heads[name] * config.head_dim)
            for name, stream in config.streams.items()
        }
        return replace(config, depth=self.depth, streams=streams)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all runs have in common.

    Attributes:
        data: Folder of a dataset.
        batch_size: Clips per step.
        learning_rate: Peak.
    """

    data: str
    batch_size: int = 16
    learning_rate: float = 3e-3


def train(size: Size, steps: int, seed: int, settings: Settings) -> dict[str, Any]:
    """Train and validate; one row of the study.

    The learning rate warms up over a twentieth of the steps and falls to zero over the last third, so that runs of
    different length can be compared.

    Raises:
        ValueError: The data hold out nothing to validate on, or lack a stream.
    """
    quiet_known_warnings()
    seed_everything(seed, workers=False, verbose=False)
    data = LatentDataModule(
        [settings.data], batch_size=settings.batch_size, seed=seed, val_fraction=_HELD_OUT
    )
    if not data.val_dataloader():
        raise ValueError(f"{settings.data}: no example is held out; give a dataset of more clips")
    module, work = _module(size, steps, seed, settings, data), Work()
    start = time.perf_counter()
    trainer = Trainer(
        max_steps=steps,
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if computes_bfloat16("cpu") else "32-true",
        gradient_clip_val=1.0,
        limit_val_batches=0,
        callbacks=[work],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, data)
    seconds = time.perf_counter() - start
    module.seed = _VALIDATION_SEED  # the same noise for all runs
    trainer.limit_val_batches = 1.0
    measured = trainer.validate(module, data, verbose=False)[0]
    return {
        "size": str(size),
        "parameters": sum(p.numel() for p in module.parameters()),
        "steps": steps,
        "seed": seed,
        "flops": work.flops,
        "loss": measured["val/loss"],
        "losses": {k.removeprefix("val/loss_"): v for k, v in measured.items() if "loss_" in k},
        "seconds": round(seconds, 1),
    }


class Work(Callback):
    """Adds up the operations of the steps that are trained."""

    def __init__(self) -> None:
        self.flops = 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count a batch."""
        assert isinstance(pl_module, JointTraining)
        self.flops += batch_flops(pl_module, batch)


def _module(
    size: Size, steps: int, seed: int, settings: Settings, data: LatentDataModule
) -> JointTraining:
    video, audio = data.video_codec, data.audio_codec
    if video is None or audio is None:
        raise ValueError(f"{settings.data}: holds no latents of picture and sound; encode both")
    channels = video.latent_channels, audio.latent_channels
    module = JointTraining(
        video_channels=channels[0],
        audio_channels=channels[1],
        learning_rate=settings.learning_rate,
        warmup_steps=max(1, steps // 20),
        decay_steps=max(1, steps // 3),
        seed=seed,
    )
    module.network = Network(size.config(*channels))
    return module
