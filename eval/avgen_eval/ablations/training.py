"""The training of a variant: the project's own module and data, a few hundred steps, averaged weights."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything

from avgen.cli.train import quiet_known_warnings
from avgen.data.datamodule import LatentDataModule
from avgen.model.bundle import Network
from avgen.objective.joint import JointObjective
from avgen.objective.sigma import SigmaDistribution
from avgen.ops.precision import computes_bfloat16
from avgen.training.ema import EMA
from avgen.training.joint import JointTraining
from avgen_eval.ablations.study import Variant

OF_DATA = ("start", "time_stride", "vae_steps", "kl_weight")
"""Settings that say what a training is given; see `avgen_eval.ablations.data`."""


def train(
    variant: Variant, seed: int, data: Path, start: Path | None = None
) -> tuple[Network, dict[str, float]]:
    """The averaged weights of a variant after its training, and its last validation losses.

    Args:
        variant: One that is trained.
        seed: Of the first weights, the order of the data, and all noise.
        data: Its dataset.
        start: Weights to go on from.

    Raises:
        DatasetError: A folder that cannot be used.
    """
    assert variant.training is not None
    settings = {k: v for k, v in variant.training.items() if k not in OF_DATA}
    audio = settings.pop("audio", "dequantised")
    quiet_known_warnings()
    seed_everything(seed, verbose=False)
    steps, ema = settings.pop("steps"), EMA(settings.pop("ema"))
    loader = LatentDataModule(
        [str(data)],
        batch_size=settings.pop("batch_size"),
        seed=seed,
        modalities=["video", "codes" if audio == "codes" else "audio"],
    )
    codes = {"audio_codebooks": 8, "audio_codebook_size": 512} if audio == "codes" else {}
    module = JointTraining(
        objective=_objective(settings.pop("objective")),
        seed=seed,
        init_from=None if start is None else str(start),
        **codes,
        **settings,
    )
    trainer = Trainer(
        max_steps=steps,
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if computes_bfloat16(_device()) else "32-true",
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ema],
        num_sanity_val_steps=0,
        check_val_every_n_epoch=None,
        val_check_interval=steps + 1,
    )
    trainer.fit(module, loader)
    averaged: Any = ema.averaged()
    assert averaged is not None
    averaged.cpu().eval()
    losses = trainer.validate(averaged, loader, verbose=False)[0]
    return averaged.network, {name.removeprefix("val/"): value for name, value in losses.items()}


def _objective(settings: dict[str, Any]) -> JointObjective:
    sigma = SigmaDistribution(**settings.get("sigma", {}))
    return JointObjective(**{**settings, "sigma": sigma})


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
