"""A tiny Lightning run that logs which examples each step saw; the tests start and kill it."""

import os
import signal
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from avgen.data.datamodule import AVBatch, LatentDataModule


class Probe(LightningModule):
    """One weight per video channel; writes ids, captions and loss of every step."""

    def __init__(self, log: Path, kill_at: int):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.file = log.open("a")
        self.kill_at = kill_at

    def training_step(self, batch: AVBatch, index: int) -> torch.Tensor:
        assert batch.video is not None
        noise = torch.randn(2, generator=torch.Generator().manual_seed(batch.step))
        loss = (batch.video.mean((0, 2, 3, 4)) - self.weight * noise).square().sum()
        texts = "/".join(caption.text for caption in batch.captions)
        self.file.write(f"{batch.step} {','.join(batch.ids)} {texts} {float(loss).hex()}\n")
        self.file.flush()
        if batch.step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.1)


def run(folder: Path, work: Path, kill_at: int, max_steps: int, num_workers: int = 0) -> None:
    """Train to ``max_steps``, from the last checkpoint where there is one."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    checkpoint = ModelCheckpoint(work, every_n_train_steps=1, save_last=True, save_top_k=0)
    trainer = Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[checkpoint],
        limit_val_batches=0,
    )
    last = work / "last.ckpt"
    module = LatentDataModule([str(folder)], batch_size=4, seed=7, num_workers=num_workers)
    trainer.fit(
        Probe(work / "log.txt", kill_at), module, ckpt_path=str(last) if last.exists() else None
    )
