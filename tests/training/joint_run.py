"""A small training run in a process of its own, to be killed and resumed: prints each step's loss as hexadecimal."""

import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from avgen.cli.train import quiet_known_warnings
from avgen.data.datamodule import LatentDataModule
from avgen.model.config import ModelConfig, StreamConfig
from avgen.objective.joint import JointObjective
from avgen.training.ema import EMA
from avgen.training.joint import JointTraining

CONFIG = ModelConfig(
    streams={
        "video": StreamConfig(channels=4, width=32, num_heads=2, patch=2, spatial=True),
        "audio": StreamConfig(channels=6, width=32, num_heads=2),
    },
    depth=1,
    head_dim=16,
    text_width=32,
)


class Print(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        print(trainer.global_step, float(outputs["loss"].detach()).hex(), flush=True)


def module(**options) -> JointTraining:
    from avgen.model.bundle import Network

    training = JointTraining(
        objective=JointObjective(tasks={"t2av": 1, "extend": 1}), warmup_steps=3, **options
    )
    training.network = Network(CONFIG, {"num_heads": 2})
    return training


def main(data: str, checkpoints: str, steps: int) -> None:
    quiet_known_warnings()
    torch.set_num_threads(1)
    seed_everything(0, verbose=False)
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", precision="bf16-mixed", logger=False, enable_progress_bar=False,
        enable_model_summary=False, gradient_clip_val=1.0, limit_val_batches=0,
        callbacks=[
            Print(),
            EMA(decay=0.9),
            ModelCheckpoint(checkpoints, every_n_train_steps=1, save_last=True, save_top_k=1, monitor=None),
        ],
    )  # fmt: skip
    trainer.fit(
        module(),
        LatentDataModule([data], batch_size=4, val_fraction=0.0),
        ckpt_path="last" if any(Path(checkpoints).glob("last*.ckpt")) else None,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
