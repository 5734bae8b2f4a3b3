"""A small packed training run, to be killed and resumed: logs each step's loss, clips and shapes."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from joint_run import module
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from avgen.cli.train import quiet_known_warnings
from avgen.data.datamodule import LatentDataModule


class Log(Callback):
    def __init__(self, path: Path, kill_at: int) -> None:
        self.file, self.kill_at = path.open("a"), kill_at

    def on_train_batch_end(self, trainer, pl_module, outputs: Any, batch, batch_idx):
        clips = ",".join(f"{name}:{part.duration}" for part in batch.parts for name in part.ids)
        print(trainer.global_step, clips, float(outputs["loss"].detach()).hex(), file=self.file)
        self.file.flush()
        if trainer.global_step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def run(data: str, work: Path, kill_at: int, num_workers: int) -> None:
    """Six steps of four batches, from the last checkpoint where there is one."""
    quiet_known_warnings()
    torch.set_num_threads(1)
    seed_everything(0, verbose=False)
    trainer = Trainer(
        max_steps=6, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[Log(work / "log.txt", kill_at), ModelCheckpoint(work, every_n_train_steps=1, save_last=True)],
    )  # fmt: skip
    loader = LatentDataModule(
        [data], batch_size=2, pack=4, val_fraction=0.0, num_workers=num_workers
    )
    last = work / "last.ckpt"
    trainer.fit(module(learning_rate=1e-2), loader, ckpt_path=str(last) if last.exists() else None)
