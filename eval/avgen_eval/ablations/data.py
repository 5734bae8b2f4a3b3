"""Data of a variant: latents of the setting's world by the codecs that the variant names, made where missing."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avgen.checkpoint import AUDIO_FILE, VIDEO_FILE, find_weights
from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.data.schema import INFO
from avgen.ops.precision import computes_bfloat16
from avgen_eval.ablations.study import Variant

SHIPPED = find_weights("tiny")
NONE: Mapping[str, Any] = {}


def prepare_data(variant: Variant, work: Path) -> Path:
    """The dataset of a trained variant, ``work/data/NAME``, with latents of its codecs, ``work/codecs/NAME``.

    Raises:
        RuntimeError: It could not be made.
    """
    from avgen.cli import main

    codecs = prepare_codecs(variant, work)
    folder = work / "data" / codecs.name
    if not (folder / INFO).exists():
        settings = {
            "--weights": codecs,
            "--world": variant.world,
            "--count": variant.train_clips,
            "--seconds": variant.seconds,
        }
        if main(["prep", "worlds", str(folder), *_arguments(settings)]):
            raise RuntimeError(f"{folder}: the dataset is not complete; run the same command again")
    return folder


def prepare_codecs(variant: Variant, work: Path) -> Path:
    """Folder of the codecs of a trained variant: those that ship, but for what the variant names."""
    training = variant.training or {}
    stride, continuous = training.get("time_stride"), training.get("audio") == "continuous"
    kl_weight = training.get("kl_weight")
    name = f"time_{stride}" if stride else "continuous" if continuous else "shipped"
    name += "" if kl_weight is None else f"_kl_{kl_weight:g}"
    folder = work / "codecs" / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / AUDIO_FILE).exists():
        audio = SeanetAudioCodec.from_file(SHIPPED / AUDIO_FILE)
        audio.quantised = not continuous
        audio.save(folder / AUDIO_FILE)
    if not (folder / VIDEO_FILE).exists():
        if stride:
            changes = {} if kl_weight is None else {"kl_weight": kl_weight}
            train_vae(variant.world, stride, training["vae_steps"], folder / VIDEO_FILE, changes)
        else:
            shutil.copy(SHIPPED / VIDEO_FILE, folder)
    return folder


def train_vae(
    world: str, time_stride: int, steps: int, path: Path, changes: Mapping[str, Any] = NONE
) -> None:
    """Train a video autoencoder of one world by its recipe, with another time stride and other ``changes``."""
    from avgen.cli import main

    runs = path.parent / "runs"
    settings = {
        "--config": "video_vae",
        "--model.init_args.vae.init_args.time_stride": time_stride,
        "--model.init_args.output": path,
        "--data.init_args.worlds": f"[{world}]",
        "--data.init_args.num_frames": 17,
        "--trainer.max_steps": steps,
        "--trainer.precision": "bf16-mixed" if computes_bfloat16("cpu") else "32-true",
        "--trainer.limit_val_batches": 0,
        "--trainer.default_root_dir": runs,
        "--trainer.callbacks.init_args.dirpath": runs / "checkpoints",
        **{f"--model.init_args.{name}": value for name, value in changes.items()},
    }
    main(["train", "fit", *_arguments(settings)])


def _arguments(settings: Mapping[str, Any]) -> list[str]:
    return [str(part) for pair in settings.items() for part in pair]
