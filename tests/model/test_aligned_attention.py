"""Attention that begins by reading what happens at the same time, and tells how far off it lies."""

from dataclasses import replace

import pytest
import torch
from small_network import CONFIG, random_clip, random_network

from avgen.model.blocks import Attention
from avgen.model.bundle import Network
from avgen.model.config import ModelConfig
from avgen.ops.rope import frequencies, rotation
from avgen.text.base import TextTokens

WIDTH = 64


def turns(times: torch.Tensor):
    return rotation(times[None], frequencies(WIDTH // 2, 30.0, 0.15))


def reader(aligned: bool = True) -> Attention:
    """One head that hands on what it reads."""
    torch.manual_seed(0)
    attention = Attention(WIDTH, WIDTH, 1, WIDTH, "auto", aligned=aligned)
    with torch.no_grad():
        attention.query.weight.zero_()
        attention.key_value.weight.copy_(torch.cat((torch.zeros(WIDTH, WIDTH), torch.eye(WIDTH))))
        attention.out.weight.copy_(torch.eye(WIDTH))
        attention.out.bias.zero_()
    return attention


@torch.inference_mode()
def test_before_it_is_trained_a_query_reads_most_what_has_its_time():
    times, at = torch.arange(25) / 25, torch.tensor([0.48])
    shares = []
    for place in range(25):  # the length of what is read, where only one key has a value
        source = torch.zeros(1, 25, WIDTH)
        source[0, place, 0] = 1.0
        read = reader()(torch.zeros(1, 1, WIDTH), source, turns(at), turns(times), None)
        shares.append(float(read.norm()))
    assert sum(shares) == pytest.approx(1.0, abs=1e-4)
    assert max(range(25), key=shares.__getitem__) == 12
    assert all(
        shares[12 - away] == pytest.approx(shares[12 + away], rel=1e-3) for away in range(13)
    )
    assert (
        sum(share for share, time in zip(shares, times, strict=True) if abs(time - at) < 0.11) > 0.7
    )


@torch.inference_mode()
@pytest.mark.parametrize("aligned", [True, False])
def test_what_is_read_tells_how_far_off_it_lies(aligned: bool):
    torch.manual_seed(1)
    early_and_late = torch.randn(1, 2, WIDTH)
    at, times = turns(torch.tensor([0.5])), turns(torch.tensor([0.4, 0.6]))  # equally far
    one, other = (
        reader(aligned)(torch.zeros(1, 1, WIDTH), source, at, times, None)
        for source in (early_and_late, early_and_late.flip(1))
    )
    assert torch.allclose(one, other, atol=1e-5) != aligned


def text(start: float) -> TextTokens:
    states = torch.randn(1, 2, 16, generator=torch.Generator().manual_seed(3))
    interval = torch.tensor([[[0.0, 0.5], [0.1, 0.2]]]) + start
    return TextTokens(states, interval, torch.ones(1, 2, dtype=torch.bool))


@torch.inference_mode()
@pytest.mark.parametrize("seconds", [None, 0.2])
def test_only_distances_in_time_count(seconds: float | None):
    model = random_network(replace(CONFIG, exchange_seconds=seconds))
    early, late = (model(random_clip(CONFIG, 4, start=start), text(start)) for start in (0.0, 3.0))
    for name, x in early.items():
        assert torch.allclose(x, late[name], atol=2e-4)


@torch.inference_mode()
def test_weights_that_are_not_aligned_become_so_and_keep_all_else(tmp_path):
    plain = Network(replace(CONFIG, aligned=()), {"num_heads": 1})
    plain.save(tmp_path / "model.safetensors")
    loaded = Network.from_file(tmp_path / "model.safetensors")
    aligned = loaded.with_config({"aligned": ["text", "partners"]})
    new = aligned.state_dict().keys() - plain.state_dict().keys()
    assert {name.rpartition(".")[2] for name in new} == {"bias"}
    assert len(new) == CONFIG.depth * 4
    assert all(torch.equal(x, aligned.state_dict()[name]) for name, x in plain.state_dict().items())
    aligned.save(tmp_path / "aligned.safetensors")
    again = Network.from_file(tmp_path / "aligned.safetensors")
    assert again.config.aligned == ("text", "partners")
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in aligned.state_dict().items())


@torch.inference_mode()
def test_an_exchange_that_begins_anew_is_shut_and_all_else_stays():
    network = Network(CONFIG, {"num_heads": 1})
    network.model = random_network(CONFIG)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    shut = network.model(random_clip(CONFIG, 4), text(0.0), torch.zeros(1))
    network.renew_exchange()
    after = network.model(random_clip(CONFIG, 4), text(0.0))
    for name, x in shut.items():
        assert torch.allclose(x, after[name], atol=1e-5)
    changed = {n for n, x in network.state_dict().items() if not torch.equal(x, before[n])}
    assert changed
    assert all(".partners." in n or ".noise." in n or n.endswith(".table") for n in changed)


def test_checkpoints_of_before_are_not_aligned():
    older = CONFIG.to_dict()
    del older["aligned"]
    assert not ModelConfig.from_dict(older).aligned


def test_what_cannot_be_aligned_is_refused():
    with pytest.raises(ValueError, match="aligned names 'video'; it can name text and partners"):
        replace(CONFIG, aligned=("video",))
