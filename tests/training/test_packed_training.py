import multiprocessing
import os
import sys
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import packed_run
import pytest
import torch
from joint_run import module

from avgen.caption import Event, TimedCaption
from avgen.cli.train import run as avgen_train
from avgen.data.datamodule import LatentDataModule
from avgen.data.schema import CodecInfo, DatasetInfo
from avgen.data.shards import Example, finish, write_shard
from avgen.training.callbacks import Throughput

FRAMES = (5, 9, 13)


def example(number: int) -> Example:
    rng, frames = np.random.default_rng(number), FRAMES[number % 3]
    events = (Event.at(0.12, 0.16, f"knock {number % 5}"),)
    duration = 40_000 * frames
    return Example(
        id=f"e{number:03}",
        captions=(TimedCaption(duration_us=duration, text=f"clip {number}", events=events),),
        duration_us=duration, num_frames=frames, height=32, width=32, fps=Fraction(25), num_samples=frames * 640,
        sample_rate=16_000, source="test", seed=number, metadata={},
        latents={"video": rng.normal(size=(4, 1 + frames // 4, 4, 4)), "audio": rng.normal(size=(6, frames))},
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Twelve clips of each of three lengths."""
    folder = tmp_path_factory.mktemp("data")
    write_shard(folder, "shard-00000.tar", [example(i) for i in range(36)])
    video = CodecInfo(identity="v" * 64, latent_channels=4, time_stride=4, space_stride=8)
    audio = CodecInfo(identity="a" * 64, latent_channels=6, sample_rate=16_000, hop=640)
    finish(folder, ["shard-00000.tar"], DatasetInfo(video_codec=video, audio_codec=audio))
    return str(folder)


@pytest.mark.slow
def test_killed_and_resumed_the_losses_are_the_same_bits(data, tmp_path, monkeypatch):
    """Six steps, an epoch being five; the killed run goes on with another number of loader processes."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for the preloaded module
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["packed_run"])

    def run(name: str, kill_at: int = -1, num_workers: int = 0) -> list[str]:
        work = tmp_path / name
        work.mkdir(exist_ok=True)
        process = context.Process(target=packed_run.run, args=(data, work, kill_at, num_workers))
        process.start()
        process.join()
        assert process.exitcode == (0 if kill_at < 0 else -9)
        return (work / "log.txt").read_text().splitlines()

    whole = run("whole")
    assert [line.split()[0] for line in whole] == list("123456")
    durations = {clip.split(":")[1] for line in whole for clip in line.split()[1].split(",")}
    assert durations == {"0.2", "0.36", "0.52"}
    clips = [clip for line in whole[:4] for clip in line.split()[1].split(",")]
    assert len(clips) == 4 * 4 * 2
    assert len(set(clips)) == len(clips)  # within a round
    run("killed", kill_at=3)
    killed = run("killed", num_workers=1)
    assert len(killed) == 6 + 1  # the step that was killed is repeated
    assert list(dict.fromkeys(killed)) == whole


def test_a_packed_step_has_the_random_numbers_of_its_first_part(data):
    loader = LatentDataModule([data], batch_size=2, pack=4, val_fraction=0.0).train_dataloader()
    training, batch = module(), next(iter(loader))
    assert len({part.duration for part in batch.parts}) > 1
    losses = [training.loss(batch).total.item() for _ in range(2)]
    assert losses[0] == losses[1]
    one = training.loss(replace(batch, parts=batch.parts[:1])).total.item()
    assert one == training.loss(batch.parts[0]).total.item() != losses[0]


@pytest.mark.filterwarnings("ignore")
def test_pack_is_an_option_of_a_recipe(data, tmp_path):
    weights = tmp_path / "small.safetensors"
    module().network.save(weights)
    cli: Any = avgen_train([
        "fit", "--config", "joint", "--model.init_args.init_from", str(weights), "--model.init_args.decay_steps", "0",
        "--data.init_args.folders", f"[{data}]", "--data.init_args.val_fraction", "0.5",
        "--data.init_args.batch_size", "1", "--data.init_args.pack", "4",
        "--trainer.max_steps", "2", "--trainer.precision", "32-true", "--trainer.accelerator", "cpu",
        "--trainer.val_check_interval", "1", "--trainer.limit_val_batches", "2", "--trainer.callbacks", "[]",
        "--trainer.default_root_dir", str(tmp_path), "--trainer.logger", "false",
        "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false",
        "--trainer.enable_checkpointing", "false",
    ])  # fmt: skip
    loader = cli.trainer.datamodule.train_dataloader()
    assert len(next(iter(loader)).parts) == 4
    assert cli.trainer.global_step == loader.first_step() == 2
    assert all(
        bool(torch.isfinite(cli.trainer.callback_metrics[f"{k}/loss"])) for k in ("train", "val")
    )


def test_throughput_counts_the_clips_and_tokens_of_every_part(data):
    logged: dict[str, float] = {}
    training, throughput = module(), Throughput(every_n_steps=1)
    training.log = lambda name, value: logged.update({name: value})  # type: ignore[method-assign,assignment]
    throughput._peak = 1e12
    loader = LatentDataModule([data], batch_size=2, pack=4, val_fraction=0.0).train_dataloader()
    batch = next(iter(loader))
    trainer: Any = SimpleNamespace(global_step=1, world_size=1)
    throughput.on_train_batch_end(trainer, training, None, batch, 0)
    tokens = {
        0.2: 5 + 2 * 4,
        0.36: 9 + 3 * 4,
        0.52: 13 + 4 * 4,
    }  # a token per frame, four per video latent
    expected = sum(2 * tokens[part.duration] for part in batch.parts) / 8
    rates = logged["speed/tokens_per_second"], logged["speed/clips_per_second"]
    assert rates[0] / rates[1] == pytest.approx(expected)
    assert logged["speed/mfu"] > 0
