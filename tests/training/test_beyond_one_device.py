"""Two processes against one: losses of twenty steps, weights, and checkpoints that another number goes on from."""

import json
from pathlib import Path

import beyond_run
import pytest
import torch
from beyond_run import HALF, STEPS, launch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from safetensors.torch import load_file
from test_packed_training import data  # noqa: F401

from avgen.training.strategy import FSDP2, shard

pytestmark = pytest.mark.timeout(900)  # the first test waits for all runs
TOLERANCE = 1e-5
RUNS = {  # name: (processes, the run of one process that it repeats)
    "accumulated": (1, "one"),
    "sharded-one": (1, "one"),
    "ddp": (2, "one"),
    "ddp-accumulated": (2, "one"),
    "ddp-context": (2, "one"),
    "sharded": (2, "one"),
    "sharded-context-packed": (2, "packed"),
}


@pytest.fixture(scope="module")
def work(data: str, tmp_path_factory) -> Path:  # noqa: F811
    """All runs: three launches, since starting a process takes longer than a run."""
    folder = tmp_path_factory.mktemp("runs")

    def run(name: str, **options) -> dict:
        return {"data": data, "name": name, **options}

    launch(1, folder, [
        run("one"),
        run("packed", pack=2, batch_size=2),
        run("accumulated", batch_size=2, accumulate=2),
        run("sharded-one", strategy="fsdp2"),
    ])  # fmt: skip
    launch(2, folder, [
        run("ddp", strategy="ddp", batch_size=2),
        run("ddp-accumulated", strategy="ddp", batch_size=1, accumulate=2),
        run("ddp-context", strategy="ddp", context_parallel=2),
        run("ddp-spoiled", strategy="ddp", batch_size=2, spoil=True, steps=5),
        run("sharded", strategy="fsdp2", batch_size=2),
        run("sharded-context-packed", strategy="fsdp2", context_parallel=2, pack=2, batch_size=2),
        run("resumed-by-two", strategy="fsdp2", batch_size=2, resume=str(folder / "sharded-one/half.ckpt")),
    ])  # fmt: skip
    launch(1, folder, [
        run("resumed-by-one", strategy="fsdp2", resume=str(folder / "sharded/half.ckpt")),
    ])  # fmt: skip
    return folder


def told(work: Path, name: str, processes: int) -> list[dict]:
    return [json.loads((work / name / f"{rank}.json").read_text()) for rank in range(processes)]


def losses(work: Path, name: str, processes: int) -> dict[int, float]:
    """Mean over the processes of each step's loss."""
    each = [one["losses"] for one in told(work, name, processes)]
    return {int(step): sum(one[step] for one in each) / processes for step in each[0]}


def difference(work: Path, name: str, processes: int, alone: str) -> float:
    """The largest over the steps that were run."""
    expected, found = losses(work, alone, 1), losses(work, name, processes)
    return max(abs(expected[step] - loss) for step, loss in found.items())


def apart(work: Path, name: str, alone: str) -> float:
    """Mean difference between the weights that two runs exported.

    Single weights may differ more: Muon rounds to bfloat16, so a gradient that is off by a bit moves some a step aside.
    """
    pair = [load_file(work / run / "weights.safetensors") for run in (name, alone)]
    assert pair[0].keys() == pair[1].keys()
    return torch.cat([(pair[0][k] - pair[1][k]).flatten() for k in pair[0]]).abs().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_losses_and_weights_are_those_of_one_process(work: Path, name: str):
    processes, alone = RUNS[name]
    assert sorted(losses(work, name, processes)) == list(range(STEPS))
    assert difference(work, name, processes, alone) < TOLERANCE
    assert apart(work, name, alone) < TOLERANCE


@pytest.mark.slow
def test_twenty_steps_tell_runs_apart(work: Path):
    """What is compared depends on the noise and moves."""
    alone = losses(work, "one", 1)
    assert len({round(loss, 2) for loss in alone.values()}) > STEPS / 2
    assert apart(work, "packed", "one") > 10 * TOLERANCE
    for name in ("ddp", "sharded"):  # each process has clips and noise of its own
        first, second = (one["losses"] for one in told(work, name, 2))
        assert all(abs(first[step] - second[step]) > 1e-4 for step in first)


@pytest.mark.slow
def test_processes_that_share_clips_have_the_same_loss(work: Path):
    for name in ("ddp-context", "sharded-context-packed"):
        first, second = told(work, name, 2)
        assert first["losses"] == second["losses"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "processes"), [("resumed-by-two", 2), ("resumed-by-one", 1)])
def test_a_sharded_checkpoint_goes_on_with_another_number_of_processes(
    work: Path, name: str, processes: int
):
    assert sorted(losses(work, name, processes)) == list(range(HALF, STEPS))
    assert difference(work, name, processes, "one") < TOLERANCE
    assert apart(work, name, "one") < TOLERANCE


@pytest.mark.slow
def test_validation_sees_the_averages_in_shards_too(work: Path):
    values = [
        told(work, name, 1)[0]["metrics"]["val/loss"] for name in ("one", "sharded-one", "packed")
    ]
    assert values[0] == pytest.approx(values[1], abs=TOLERANCE)
    assert values[0] != pytest.approx(values[2], abs=TOLERANCE)


@pytest.mark.slow
def test_a_checkpoint_of_shards_is_complete_or_not_there(work: Path):
    folder = work / "sharded"
    assert sorted(p.name for p in (folder / "half.ckpt").glob("__*")) == [
        "__0_0.distcp",
        "__1_0.distcp",
    ]
    assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_a_loss_that_is_not_finite_in_one_process_is_skipped_in_all(work: Path):
    first, second = told(work, "ddp-spoiled", 2)
    assert first["bad_steps"] == second["bad_steps"] == 1
    assert all(abs(loss) < 100 for loss in first["losses"].values())
    weights = load_file(work / "ddp-spoiled" / "weights.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


@pytest.mark.filterwarnings("ignore")
def test_a_context_that_does_not_divide_the_processes_is_refused(data: str):  # noqa: F811
    trainer = Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(
        ValueError,
        match=r"context_parallel 3 does not divide the 1 process\(es\) .* give a divisor",
    ):
        trainer.fit(beyond_run.training(context_parallel=3), beyond_run.LatentDataModule([data]))


def test_what_fsdp2_cannot_do_is_said(tmp_path: Path):
    module = beyond_run.training()
    with pytest.raises(
        ValueError,
        match=r"ModelParallelStrategy cannot spread .* use fsdp2 or ddp",
    ):
        shard(module, [], ModelParallelStrategy())
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(ValueError, match=r"last.ckpt: not a folder with shards .*`init_from`"):
        FSDP2().load_checkpoint(tmp_path / "last.ckpt")
