import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from joint_run import CONFIG, module

from avgen.caption import Event, TimedCaption
from avgen.data.datamodule import LatentDataModule
from avgen.data.schema import CodecInfo, DatasetInfo
from avgen.data.shards import Example, finish, write_shard
from avgen.model.bundle import Network
from avgen.objective.joint import JointObjective
from avgen.training.callbacks import peak_flops
from avgen.training.ema import EMA
from avgen.training.flops import batch_flops
from avgen.training.joint import MAX_BAD_STEPS, JointTraining
from avgen.training.optim import build_optimizer, trapezoid, warmup_cosine

SCRIPT = Path(__file__).parent / "joint_run.py"
STEPS = 12


def example(number: int) -> Example:
    rng = np.random.default_rng(number)
    events = (Event.at(0.12, 0.16, f"knock {number % 3}"),)
    return Example(
        id=f"e{number:03}",
        captions=(TimedCaption(duration_us=360_000, text=f"clip {number}", events=events),),
        duration_us=360_000, num_frames=9, height=32, width=32, fps=Fraction(25),
        num_samples=9 * 640, sample_rate=16_000, source="test", seed=number, metadata={},
        latents={
            "video": rng.normal(size=(4, 3, 4, 4)), "audio": rng.normal(size=(6, 9)),
            "codes": np.full((2, 9), number % 8)
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shard(folder, "shard-00000.tar", [example(i) for i in range(20)])
    video = CodecInfo(identity="v" * 64, latent_channels=4, time_stride=4, space_stride=8)
    audio = CodecInfo(identity="a" * 64, latent_channels=6, sample_rate=16_000, hop=640)
    finish(folder, ["shard-00000.tar"], DatasetInfo(video_codec=video, audio_codec=audio))
    return folder


def run(data: Path, checkpoints: Path, *, kill_after: int | None = None) -> dict[int, str]:
    """Losses by step; with ``kill_after`` the process is killed as soon as that step is printed."""
    command = [sys.executable, str(SCRIPT), str(data), str(checkpoints), str(STEPS)]
    losses: dict[int, str] = {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            step, loss = line.split()
            losses[int(step)] = loss
            if int(step) == kill_after:
                process.send_signal(signal.SIGKILL)
    assert kill_after is not None or process.returncode == 0
    return losses


@pytest.mark.slow
def test_killed_at_three_random_steps_the_losses_are_the_same_bits(data, tmp_path):
    whole = run(data, tmp_path / "whole")
    assert sorted(whole) == list(range(1, STEPS + 1))
    kills = sorted(random.Random(4).sample(range(2, STEPS), 3))
    seen: dict[int, str] = {}
    for kill in [*kills, None]:
        losses = run(data, tmp_path / "killed", kill_after=kill)
        for step, loss in losses.items():
            assert seen.setdefault(step, loss) == loss  # a repeated step repeats its loss
    assert seen == whole


def steps(count: int, training, data: Path, modalities=("video", "audio"), **options):
    from lightning.pytorch import Trainer

    trainer = Trainer(
        max_steps=count, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, limit_val_batches=0, **options,
    )  # fmt: skip
    loader = LatentDataModule([str(data)], batch_size=4, val_fraction=0.0, modalities=modalities)
    trainer.fit(training, loader)
    return trainer


@pytest.fixture
def quiet():
    import warnings

    from avgen.cli.train import quiet_known_warnings

    with warnings.catch_warnings():
        quiet_known_warnings()
        yield


class Bad:
    """An objective that is not finite on chosen calls."""

    def __init__(self, inner, bad):
        self.inner, self.bad, self.calls = inner, bad, 0

    def __call__(self, *args):
        record = self.inner(*args)
        self.calls += 1
        if self.calls - 1 in self.bad:
            return SimpleNamespace(
                total=record.total * float("nan"), streams=record.streams, sums=record.sums
            )
        return record


@pytest.mark.usefixtures("quiet")
def test_a_loss_that_is_not_finite_skips_the_step_and_is_counted(data):
    training = module()
    training.objective = Bad(training.objective, {1, 2})
    trainer = steps(4, training, data)
    assert trainer.global_step == 4
    assert training.bad_steps == 2
    assert all(bool(torch.isfinite(p).all()) for p in training.parameters())


@pytest.mark.usefixtures("quiet")
def test_ten_bad_losses_in_a_row_stop_the_run(data):
    training = module()
    training.objective = Bad(training.objective, set(range(3, 100)))
    with pytest.raises(RuntimeError, match=r"not finite 10 steps in a row .*learning_rate"):
        steps(30, training, data)
    assert training.bad_steps == MAX_BAD_STEPS


@pytest.mark.usefixtures("quiet")
def test_training_lowers_the_loss_and_binds_the_codecs(data):
    training = module(learning_rate=1e-2)
    batch = next(
        iter(LatentDataModule([str(data)], batch_size=16, val_fraction=0.0).train_dataloader())
    )
    before = training.loss(batch).total.item()
    steps(60, training, data)
    assert training.loss(batch).total.item() < 0.97 * before
    assert training.network.codecs == {"video": "v" * 64, "audio": "a" * 64}


@pytest.mark.usefixtures("quiet")
def test_weights_of_other_codecs_are_refused(data):
    training = module()
    training.network.codecs["video"] = "x" * 64
    with pytest.raises(ValueError, match="trained on video latents of codec xxx"):
        steps(1, training, data)


@pytest.mark.usefixtures("quiet")
def test_the_average_follows_the_weights_and_is_what_is_left_at_the_end(data):
    ema, training = EMA(decay=0.5), module(learning_rate=1e-2)
    history = []

    from lightning.pytorch import Callback

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            history.append(pl_module.network.model.ports["video"].embed.weight.detach().clone())

    steps(6, training, data, callbacks=[ema, Watch()])
    final = training.network.model.ports["video"].embed.weight
    assert not torch.equal(final, history[-1])
    assert (final - history[-1]).norm() < (history[0] - history[-1]).norm()


def test_network_file_keeps_everything(tmp_path):
    network = Network(CONFIG, {"num_heads": 2}, codecs={"video": "v"})
    network.save(tmp_path / "n.safetensors", steps=3)
    again = Network.from_file(tmp_path / "n.safetensors")
    assert again.config == CONFIG
    assert again.codecs == {"video": "v"}
    assert all(
        torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items()
    )
    with pytest.raises(ValueError, match="use one of bytes, huggingface"):
        Network(CONFIG, {"name": "clip"})


def kept_bytes(training, batch) -> tuple[int, torch.Tensor, list[torch.Tensor]]:
    """Bytes kept for the backward pass, the loss, and the gradients."""
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = training.loss(batch).total
    return sum(kept.values()), loss, list(torch.autograd.grad(loss, training.network.parameters()))


def test_checkpointed_blocks_keep_less_and_train_alike(data, tmp_path):
    deep = Network(replace(CONFIG, depth=4), {"num_heads": 2})
    with torch.no_grad():  # gates and heads start at zero
        for parameter in deep.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    deep.save(tmp_path / "deep.safetensors")
    batch = next(
        iter(LatentDataModule([str(data)], batch_size=8, val_fraction=0.0).train_dataloader())
    )
    (whole, loss, grads), (less, same, again) = (
        kept_bytes(
            JointTraining(init_from=str(tmp_path / "deep.safetensors"), checkpoint_blocks=on), batch
        )
        for on in (False, True)
    )
    assert torch.equal(loss, same)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(grads, again, strict=True))
    assert less < 0.35 * whole, (less, whole)


def test_a_window_is_a_setting_of_training_and_stays_in_its_weights(tmp_path):
    path = str(tmp_path / "n.safetensors")
    Network(CONFIG, {"num_heads": 2}).save(path)
    assert JointTraining(init_from=path).network.config.window_seconds is None
    JointTraining(init_from=path, config={"window_seconds": 0.5}).network.save(path)
    assert JointTraining(init_from=path).network.config.window_seconds == 0.5
    assert JointTraining(init_from=path).network.text_encoder.written_times is False
    told = JointTraining(init_from=path, text={"written_times": True}).network
    assert told.text_encoder.written_times is True
    module = JointTraining(config={"window_seconds": 2.0})
    assert module.network.config.window_seconds == 2.0
    with pytest.raises(ValueError, match="do not fit a network with"):
        JointTraining(init_from=path, config={"depth": 2})
    with pytest.raises(ValueError, match="has no 'windows'; its fields are streams, depth"):
        JointTraining(config={"windows": 2.0})


def test_streams_that_never_read_each_other_can_begin_to(tmp_path):
    path = str(tmp_path / "n.safetensors")
    apart = Network(replace(CONFIG, reads={"video": (), "audio": ()}), {"num_heads": 2})
    apart.save(path)
    joined = JointTraining(init_from=path, config={"reads": {}}).network
    kept = apart.state_dict()
    assert all(torch.equal(joined.state_dict()[name], kept[name]) for name in kept)
    new = joined.state_dict().keys() - kept.keys()
    assert new
    assert all(".partners." in name for name in new)


@pytest.mark.usefixtures("quiet")
def test_discrete_codes_are_a_setting(data):
    training = module(learning_rate=1e-2)
    video = training.network.model.ports["video"].embed.weight.clone()
    training.network = training.network.with_codes("audio", 2, 8)
    assert torch.equal(training.network.model.ports["video"].embed.weight, video)
    loader = LatentDataModule(
        [str(data)], batch_size=16, val_fraction=0.0, modalities=("video", "codes")
    )
    batch = next(iter(loader.train_dataloader()))
    before = training.loss(batch).streams["audio"].item()
    assert before == pytest.approx(np.log(8), rel=0.05)
    steps(80, training, data, modalities=("video", "codes"))
    assert training.loss(batch).streams["audio"].item() < 0.9 * before


def rates_of(schedule, steps):
    """Learning rates of the first steps."""
    rates = []
    for _ in range(steps):
        rates.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return rates


@pytest.fixture
def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_cosine_rises_then_falls(optimizer):
    rates = rates_of(warmup_cosine(optimizer, warmup_steps=10, max_steps=100), 120)
    assert rates[9] == max(rates) == 1
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.505)
    assert rates[-1] == pytest.approx(0.01)


def test_trapezoid_rises_holds_and_falls(optimizer):
    rates = rates_of(trapezoid(optimizer, warmup_steps=4, decay_steps=5, max_steps=20), 20)
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:15] == [1.0] * 11
    assert rates[15:] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_every_trainable_parameter_is_in_one_group():
    network = Network(CONFIG, {"num_heads": 2})
    groups = build_optimizer([network], lr=1e-3, weight_decay=0.1).param_groups
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in network.parameters())
    assert all(p.ndim == 2 for p in groups[0]["params"])


def test_flops_of_a_step_agree_with_the_counter(data):
    from torch.utils.flop_counter import FlopCounterMode

    # The counter does not know the attention that SDPA has for the CPU.
    module = JointTraining(
        preset_name="nano", video_channels=4, audio_channels=6, backend="plain",
        objective=JointObjective(text_dropout=0.0, time_dropout=0.0, exchange_dropout=0.0),
    )  # fmt: skip
    loader = LatentDataModule([str(data)], batch_size=4, val_fraction=0.0).train_dataloader()
    batch = next(iter(loader))
    with FlopCounterMode(display=False) as counter:
        module.loss(batch).total.backward()
    assert batch_flops(module, batch) == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert peak_flops(torch.device("cpu")) > 1e9
