"""Operations and kept bytes of the formulas against those that PyTorch counts on the real network."""

from dataclasses import replace

import pytest
import torch
from fake_training import (
    FakeTraining,
    autocast,
    fused_attention,
    kept_storages,
    layout,
    shallow,
    step,
)
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from avgen.caption import TimedCaption
from avgen.data.batch import AVBatch
from avgen.model import cost
from avgen.model.bundle import Network
from avgen.model.config import ModelConfig, preset
from avgen.objective.joint import JointObjective
from avgen.training.muon import orthogonalised

CLIPS = 2


def batch(config: ModelConfig) -> AVBatch:
    """Clips whose captions have 24 words, none of them in both."""
    words = [[f"{first}{second}" for second in "abcdefghijklmnopqrstuvwx"] for first in "pq"]
    captions = [TimedCaption(duration_us=680_000, text=" ".join(text)) for text in words]
    channels = {name: stream.channels for name, stream in config.streams.items()}
    return AVBatch(
        video=torch.randn(CLIPS, channels["video"], 5, 8, 8),
        audio=torch.randn(CLIPS, channels["audio"], 17),
        codes=None,
        captions=captions,
        ids=["p", "q"],
        fps=25.0,
        duration=0.68,
        time_stride=4,
        audio_rate=25.0,
        step=0,
    )


def real_loss(network: Network, task: str) -> torch.Tensor:
    """The loss of a training step with nothing dropped."""
    objective = JointObjective(
        tasks={task: 1.0}, text_dropout=0, time_dropout=0, exchange_dropout=0
    )
    where, generator = layout(network.config), torch.Generator().manual_seed(0)
    made = objective(network.model, network.text_encoder, where, batch(network.config), generator)
    return made.total


def test_a_real_training_step_has_the_operations_that_are_counted():
    network = Network(preset("tiny"), backend="plain")
    with FlopCounterMode(display=False) as counter:
        real_loss(network, "t2av").backward()
    shape = step(network.config, CLIPS)
    told = cost.step_flops(network.config, shape) + cost.text_flops(192, 2, shape)
    assert told.total == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("name", ["small", "base", "large"])
def test_larger_networks_have_the_operations_that_are_counted(name):
    config = shallow(name, 1)
    with FakeTensorMode() as mode:
        fake = FakeTraining(mode, config, CLIPS, backend="plain")
        with FlopCounterMode(display=False) as counter:
            fake.loss().backward()
    told = cost.step_flops(config, step(config, CLIPS))
    assert told.total == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_operations_grow_as_they_must():
    config = preset("small")
    one = cost.step_flops(config, step(config, 1))
    assert cost.step_flops(config, step(config, 3)) == one * 3
    few = cost.Step(clips=1, tokens={"video": 100}, text_tokens=1)
    many = cost.Step(clips=1, tokens={"video": 200}, text_tokens=1)
    ratio = cost.step_flops(config, many).attention / cost.step_flops(config, few).attention
    assert 3.9 < ratio < 4


@pytest.mark.parametrize("shape", [(48, 32), (32, 48), (32, 32)])
def test_an_update_by_muon_has_the_operations_that_are_counted(shape):
    with FlopCounterMode(display=False) as counter:
        orthogonalised(torch.randn(3, *shape))
    assert cost.orthogonal_flops([shape] * 3) == counter.get_total_flops()


def test_a_forward_pass_in_mixed_precision_keeps_what_is_told_on_cuda():
    config = shallow("small", 2)
    with FakeTensorMode() as mode, fused_attention("cuda"):
        fake = FakeTraining(mode, config, CLIPS, "cuda")
        with autocast("cuda"), kept_storages([fake.model]) as kept:
            loss = fake.loss()
    assert loss.device.type == "cuda"
    linear = sum(
        layer.weight.numel()
        for name, layer in fake.model.named_modules()
        if isinstance(layer, torch.nn.Linear) and not name.startswith("noise")
    )
    told = cost.saved_bytes(config, step(config, CLIPS), "bf16-mixed")
    assert told == pytest.approx(sum(kept.values()) - 2 * linear, rel=0.05)


@pytest.mark.parametrize(("task", "per_token"), [("t2av", False), ("extend", True)])
def test_a_real_forward_pass_in_full_precision_keeps_what_is_told(task, per_token):
    network = Network(preset("tiny"), backend="sdpa")
    with kept_storages([network]) as kept:
        real_loss(network, task)
    shape = step(network.config, CLIPS, per_token=per_token)
    told = cost.saved_bytes(network.config, shape, "32-true")
    told += cost.text_bytes(192, 2, shape, "32-true")
    assert told == pytest.approx(sum(kept.values()), rel=0.05)


@pytest.mark.parametrize("task", ["t2av", "extend"])
def test_what_alignment_keeps_besides_is_less_than_a_tenth(task):
    config = replace(preset("tiny"), aligned=("text", "partners"), exchange_seconds=0.2)
    network = Network(config, backend="sdpa")
    with kept_storages([network]) as kept:
        real_loss(network, task)
    shape = step(config, CLIPS, per_token=task == "extend")
    told = cost.saved_bytes(config, shape, "32-true") + cost.text_bytes(192, 2, shape, "32-true")
    assert 0.9 < told / sum(kept.values()) < 1


def test_what_is_no_step_is_refused():
    with pytest.raises(ValueError, match="clips is 0; give at least 1"):
        cost.Step(clips=0, tokens={"video": 1}, text_tokens=1)
    with pytest.raises(ValueError, match="audio is -1; give at least 1"):
        cost.Step(clips=1, tokens={"audio": -1}, text_tokens=1)
    with pytest.raises(ValueError, match="no stream has tokens"):
        cost.Step(clips=1, tokens={}, text_tokens=1)
