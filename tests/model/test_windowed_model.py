"""A network whose streams read each other, and its sound itself, within seconds."""

from dataclasses import replace

import pytest
import torch
from small_network import CONFIG, random_clip, random_network

from avgen.model.bundle import Network
from avgen.model.config import ModelConfig
from avgen.model.dual_stream import DualStreamTransformer
from avgen.model.inputs import pack, pad
from avgen.text.base import TextTokens


def network(window: float | None) -> DualStreamTransformer:
    return random_network(replace(CONFIG, window_seconds=window, exchange_seconds=window))


def text(rows: int = 1) -> TextTokens:
    states = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(9)).repeat(rows, 1, 1)
    interval = torch.tensor([0.0, 1.0]).expand(rows, 3, 2)
    return TextTokens(states, interval, torch.ones(rows, 3, dtype=torch.bool))


@torch.inference_mode()
def test_a_window_of_the_whole_clip_changes_no_bit():
    inputs = random_clip(CONFIG, 9)
    full, wide = network(None)(inputs, text()), network(1.4)(inputs, text())
    narrow = network(0.3)(inputs, text())
    for name, x in full.items():
        assert torch.equal(x, wide[name])
        assert not torch.allclose(x, narrow[name], atol=1e-3)


@torch.inference_mode()
def test_sound_reaches_one_window_per_block():
    model, window = network(0.28), 0.28  # seven tokens
    sound = random_clip(CONFIG, 17)["audio"]
    tokens = sound.tokens.clone()
    tokens[0, 0] += 5
    centre = sound.centre[0]
    moved = model({"audio": replace(sound, tokens=tokens)}, text())["audio"]
    changed = (moved - model({"audio": sound}, text())["audio"]).abs().amax(-1)[0] > 1e-6
    reached = centre - centre[0] <= CONFIG.depth * window + 0.01
    assert torch.equal(changed, reached)


@torch.inference_mode()
def test_streams_read_each_other_within_the_window():
    model = network(0.3)
    inputs = random_clip(CONFIG, 17)
    tokens = inputs["video"].tokens.clone()
    tokens[0, :4] += 5
    read: list[torch.Tensor] = []
    exchange = model.get_submodule("blocks.0.layers.audio.partners.video")
    exchange.register_forward_hook(lambda *call: read.append(call[-1]))
    # The picture reads itself whole, so only with no output of that is the exchange seen alone.
    model.get_parameter("blocks.0.layers.video.itself.out.weight").zero_()
    for video in (inputs["video"], replace(inputs["video"], tokens=tokens)):
        model({**inputs, "video": video}, text())
    changed = (read[1] - read[0]).abs().amax(-1)[0] > 1e-6
    away = inputs["audio"].centre[0] - inputs["video"].centre[0, 0]
    assert torch.equal(changed, away.abs() <= 0.3 + 1e-3)


@torch.inference_mode()
def test_padded_and_packed_windows_equal_each_clip_alone():
    model = network(0.4)
    clips = [
        random_clip(CONFIG, 9, seed=0),
        random_clip(CONFIG, 5, seed=5),
        random_clip(CONFIG, 2, seed=7),
    ]
    padded = model({name: pad([c[name] for c in clips]) for name in CONFIG.streams}, text(3))
    packed = model({name: pack([c[name] for c in clips]) for name in CONFIG.streams}, text(3))
    for name in CONFIG.streams:
        lengths = [c[name].tokens.shape[1] for c in clips]
        pieces = packed[name][0].split(lengths)
        for i, alone in enumerate(model(c, text())[name][0] for c in clips):
            assert torch.allclose(padded[name][i, : lengths[i]], alone, atol=1e-4)
            assert torch.allclose(pieces[i], alone, atol=1e-4)


def test_the_window_travels_in_the_checkpoint(tmp_path):
    config = replace(CONFIG, window_seconds=0.3, exchange_seconds=0.2)
    Network(config, {"num_heads": 1}).save(tmp_path / "model.safetensors")
    assert Network.from_file(tmp_path / "model.safetensors").config == config
    older = CONFIG.to_dict()
    del older["window_seconds"], older["exchange_seconds"]
    assert ModelConfig.from_dict(older) == CONFIG


@pytest.mark.parametrize("field", ["window_seconds", "exchange_seconds"])
@pytest.mark.parametrize("window", [0.0, -1.0, float("inf"), float("nan")])
def test_a_window_that_cannot_be_used_is_refused(field, window):
    with pytest.raises(ValueError, match=f"{field} {window} must be positive and finite"):
        replace(CONFIG, **{field: window})


def test_a_window_without_a_key_names_the_shortest():
    with pytest.raises(ValueError, match="has no key in it, the nearest is"):
        network(0.05)(random_clip(CONFIG, 5), text())
