"""Small runs in one or several processes on the CPU, several after each other in one launch; each writes its losses."""

import json
import os
import socket
import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from joint_run import CONFIG
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from avgen.cli.train import quiet_known_warnings
from avgen.data.datamodule import LatentDataModule
from avgen.model.bundle import Network
from avgen.objective.joint import JointObjective
from avgen.training.callbacks import ExportWeights
from avgen.training.ema import EMA
from avgen.training.joint import JointTraining

STEPS, HALF = 20, 11


class Losses(Callback):
    """The loss that each step is driven by in this process, summed over accumulated batches."""

    def __init__(self) -> None:
        self.of_step: dict[int, float] = {}
        self.step = 0

    def on_train_batch_start(self, trainer, *_: Any) -> None:
        self.step = trainer.global_step

    def on_train_batch_end(self, trainer, pl_module, outputs: Any, *_: Any) -> None:
        before = self.of_step.get(self.step, 0.0)
        self.of_step[self.step] = before + float(outputs["loss"].detach())


class Spoil(Callback):
    """Makes the loss of one process not finite at one step."""

    def __init__(self, rank: int, step: int) -> None:
        self.rank, self.step = rank, step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            batch.video.fill_(float("nan"))


def training(**options: Any) -> JointTraining:
    """A network whose gates and heads are not zero, so that every path matters from the first step on."""
    seed_everything(0, verbose=False)
    tasks = {"t2av": 1, "extend": 1, "v2a": 1, "a2v": 1}
    made = JointTraining(
        objective=JointObjective(tasks=tasks, detail={"video": 0.5}),
        learning_rate=1e-3, warmup_steps=3, **options,
    )  # fmt: skip
    made.network = Network(
        replace(CONFIG, aligned=("text", "partners"), exchange_seconds=0.2), {"num_heads": 2}
    )
    with torch.no_grad():
        for weight in made.network.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return made


def fit(
    data: str, work: Path, name: str, *, strategy: str = "auto", batch_size: int = 4, pack: int = 1,
    accumulate: int = 1, steps: int = STEPS, resume: str | None = None, spoil: bool = False,
    **options: Any,
) -> None:  # fmt: skip
    losses, folder = Losses(), work / name
    folder.mkdir(exist_ok=True)
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    callbacks = [losses, EMA(decay=0.9), ExportWeights(str(folder / "weights.safetensors"))]
    callbacks += [ModelCheckpoint(folder, filename="half", every_n_train_steps=HALF)]
    callbacks += [Spoil(rank=1, step=3)] * spoil
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", devices=processes, logger=False, enable_progress_bar=False,
        strategy=strategy, accumulate_grad_batches=accumulate,
        enable_model_summary=False, gradient_clip_val=1.0, use_distributed_sampler=False, callbacks=callbacks,
        num_sanity_val_steps=0, limit_val_batches=1,
    )  # fmt: skip
    loader = LatentDataModule([data], batch_size=batch_size, pack=pack, val_fraction=0.2)
    module = training(**options)
    trainer.fit(module, loader, ckpt_path=resume, weights_only=False)
    told = {"losses": losses.of_step, "bad_steps": module.bad_steps}
    told |= {"metrics": {k: float(v) for k, v in trainer.callback_metrics.items()}}
    (folder / f"{rank}.json").write_text(json.dumps(told))


def process(rank: int, processes: int, port: int, work: str, runs: list[dict[str, Any]]) -> None:
    """What torchrun sets, then the runs; what they print goes to a file."""
    with (Path(work) / f"output-{processes}-{rank}.txt").open("a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    torch.set_num_threads(1)
    quiet_known_warnings()
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "GROUP_RANK": "0",
        "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    for run in runs:
        fit(work=Path(work), **run)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def launch(processes: int, work: Path, runs: list[dict[str, Any]]) -> None:
    """Do the runs in so many processes."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for the preloaded module
    context = get_context("forkserver")
    context.set_forkserver_preload(["beyond_run", "pandas"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        context.Process(target=process, args=(rank, processes, port, str(work), runs))
        for rank in range(processes)
    ]
    for one in started:
        one.start()
    for one in started:
        one.join()
    output = "".join(path.read_text()[-3000:] for path in work.glob("output-*.txt"))
    assert [one.exitcode for one in started] == [0] * processes, output
