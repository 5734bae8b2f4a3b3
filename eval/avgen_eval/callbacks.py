"""Training callbacks that generate and measure."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from avgen.pipeline import AVPipeline
from avgen.training.ema import EMA
from avgen_eval.roundtrip import load_codecs
from avgen_eval.suites import Suite, run_suite
from avgen_eval.summary import summarise

LOGGED = ("sound_f1_60", "picture_f1_60", "objects_visible", "offset_median_ms")


class SampleClips(Callback):
    """Every N steps: clips from held-out captions by the averaged weights, saved, measured and logged.

    Args:
        every_n_steps: Interval.
        codecs: Weights whose codecs decode: a name that ships, or a folder.
        worlds: Worlds that the captions come from.
        count: Clips of each world.
        steps: Sampling steps.
        folder: Where the clips go, one folder per step; nowhere if None.
    """

    def __init__(
        self,
        every_n_steps: int = 500,
        *,
        codecs: str = "tiny",
        worlds: tuple[str, ...] = ("bounce", "drums"),
        count: int = 8,
        steps: int = 16,
        folder: str | None = None,
    ) -> None:
        self.every_n_steps = every_n_steps
        self.codecs, self.worlds, self.count, self.steps = codecs, tuple(worlds), count, steps
        self.folder = None if folder is None else Path(folder)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Sample at the interval."""
        if (
            trainer.global_step
            and trainer.global_step % self.every_n_steps == 0
            and trainer.is_global_zero
        ):
            self._sample(trainer, pl_module)

    @torch.inference_mode()
    def _sample(self, trainer: Trainer, pl_module: LightningModule) -> None:
        averages = [c.averaged() for c in trainer.callbacks if isinstance(c, EMA)]  # type: ignore[attr-defined]
        source: Any = next((module for module in averages if module is not None), pl_module)
        codecs = load_codecs(self.codecs)
        training = source.network.training
        pipe = AVPipeline(
            source.network, codecs.video.to(pl_module.device), codecs.audio.to(pl_module.device)
        )
        suite = Suite(worlds=self.worlds, count=self.count)
        keep = self.count if self.folder else 0
        result = run_suite(suite, "generated", pipeline=pipe, steps=self.steps, keep_clips=keep)
        source.network.train(training)
        for world, records in result.records.items():
            for name, figure in summarise(records).items():
                if name in LOGGED and figure.value is not None:
                    pl_module.log(f"clips/{world}_{name}", float(figure.value))
            self._save(trainer.global_step, world, result.clips.get(world, []))

    def _save(self, step: int, world: str, clips: list[Any]) -> None:
        if self.folder is None:
            return
        folder = self.folder / f"step-{step:06}"
        folder.mkdir(parents=True, exist_ok=True)
        for i, clip in enumerate(clips):
            clip.save(folder / f"{world}-{i}.mp4")
