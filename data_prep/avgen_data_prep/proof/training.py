"""Weights that ship, trained on a corpus by the recipe that ships: killed, resumed, and held to a run that was not."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import load_file

from avgen.checkpoint import MODEL_FILE
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.proof.kill import fresh

DATASET = "dataset"
_BATCH = 4
_WORDS = 2000


class Losses(Callback):
    """Prints each step and its loss as a hexadecimal float, before its checkpoint is written."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print."""
        loss = float(outputs["loss"].detach()).hex()
        sys.stdout.write(f"{_MARK} {trainer.global_step} {loss}\n")
        sys.stdout.flush()


_MARK = "loss-of-step"


def train_and_resume(
    sources: Path, out: Path, *, steps: int, kill_at: int, say: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Pack a folder with the shipped codecs, train on it, and compare a killed run with a whole one.

    Args:
        sources: Folder of media files.
        out: Folder for dataset and runs.
        steps: Of each run.
        kill_at: Step whose checkpoint is there when one is killed by SIGKILL, to be resumed from it.
        say: Told how it goes on.

    Returns:
        ``same`` (losses of all steps and the weights, bit by bit), ``losses`` of the first and last
        step, ``clips``, ``steps`` and ``resumed_at``.

    Raises:
        PipelineError: Something ended with an error.
    """
    tell = say or (lambda _: None)
    data = out / DATASET
    command = [sys.executable, "-m", "avgen.cli", "prep", "ingest", str(sources), str(data)]
    _run([*command, "--pipeline", "tiny", "--executor", "inprocess", "--no-media"])
    tell(f"dataset: {data}")
    whole = _losses(_train(data, fresh(out / "train-whole"), steps))
    tell(f"undisturbed: {len(whole)} steps")
    folder = fresh(out / "train-killed")
    _train(data, folder, steps, kill_at=kill_at + 1)
    resumed = _losses(_train(data, folder, steps))
    tell(f"resumed at step {min(resumed)}")
    weights = [load_file(out / name / MODEL_FILE) for name in ("train-whole", "train-killed")]
    again = {step: whole.get(step) for step in resumed}
    return {
        "same": resumed == again and max(resumed) == steps and _equal(*weights),
        "losses": [float.fromhex(whole[step]) for step in (1, steps)],
        "clips": _count(data),
        "steps": steps,
        "resumed_at": min(resumed),
    }


def _train(data: Path, folder: Path, steps: int, kill_at: int = 0) -> list[str]:
    """What a training run prints; it goes on from its last checkpoint where there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "callbacks.yaml"
    config.write_text(yaml.safe_dump({"trainer": {"callbacks": _callbacks(folder)}}))
    command = [
        sys.executable, "-m", "avgen.cli", "train", "fit", "--config", "finetune", "--config", str(config),
        "--data.init_args.folders", f"[{data}]",
        "--data.init_args.batch_size", str(_BATCH),
        "--trainer.max_steps", str(steps),
        "--trainer.default_root_dir", str(folder),
        "--trainer.enable_progress_bar", "false",
    ]  # fmt: skip
    if (folder / "checkpoints" / "last.ckpt").is_file():
        command += ["--ckpt_path", "last"]
    return _run(command, kill_at)


def _callbacks(folder: Path) -> list[dict[str, Any]]:
    """In place of the recipe's: a checkpoint at each step, told after its loss."""
    every = {"dirpath": str(folder / "checkpoints"), "every_n_train_steps": 1, "save_last": True}
    export = {"path": str(folder / MODEL_FILE)}
    return [
        {"class_path": f"{__name__}.Losses"},
        {"class_path": "avgen.training.callbacks.ExportWeights", "init_args": export},
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": every},
    ]


def _run(command: list[str], kill_at: int = 0) -> list[str]:
    """Lines printed until the end, or until the loss of step ``kill_at`` is told: it is killed there."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if kill_at and line.startswith(f"{_MARK} {kill_at} "):
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return lines
    if process.wait():
        said = "\n".join(lines)[-_WORDS:]
        raise PipelineError(f"{' '.join(command[2:6])} ended with {process.returncode}: {said}")
    return lines


def _losses(lines: list[str]) -> dict[int, str]:
    told = (line.split() for line in lines if line.startswith(_MARK))
    return {int(step): loss for _, step, loss in told}


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def _count(data: Path) -> int:
    from avgen.data.schema import read_info

    return read_info(data).num_examples
