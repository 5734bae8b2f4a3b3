"""Streams that are not told when events are, and streams that read no partner."""

from dataclasses import replace

import pytest
import torch
from small_network import random_clip, random_network

from avgen.model.config import ModelConfig, StreamConfig
from avgen.model.dual_stream import DualStreamTransformer
from avgen.model.inputs import StreamInput
from avgen.text.base import TextTokens

CONFIG = ModelConfig(
    streams={
        "video": StreamConfig(channels=4, width=48, num_heads=3, patch=2, spatial=True),
        "audio": StreamConfig(channels=6, width=32, num_heads=2),
    },
    depth=1,
    head_dim=16,
    text_width=32,
)


def model(**fields) -> DualStreamTransformer:
    return random_network(replace(CONFIG, **fields))


def clip(seed: int = 0) -> dict[str, StreamInput]:
    return random_clip(CONFIG, 3, seed)


def text(start: float, end: float) -> TextTokens:
    states = torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(3))
    return TextTokens(states, torch.tensor([[[0.0, 0.36], [start, end]]]), torch.ones(1, 2) > 0)


@torch.inference_mode()
def moved(network: DualStreamTransformer) -> set[str]:
    """Streams that change when an event moves."""
    early, late = (network(clip(), text(*span)) for span in ((0.0, 0.04), (0.2, 0.3)))
    return {name for name in early if not torch.allclose(early[name], late[name], atol=1e-6)}


def test_only_streams_that_are_told_follow_the_times_of_events():
    apart = {"video": (), "audio": ()}
    assert moved(model(reads=apart)) == {"video", "audio"}
    assert moved(model(reads=apart, timed=("audio",))) == {"audio"}
    assert moved(model(reads=apart, timed=())) == set()


@torch.inference_mode()
def test_a_stream_that_is_not_told_reads_events_over_the_whole_clip():
    told, untold = model(), model(timed=())
    whole, event = told(clip(), text(0.0, 0.36)), untold(clip(), text(0.1, 0.12))
    assert all(torch.allclose(whole[name], event[name], atol=1e-6) for name in whole)


@torch.inference_mode()
def test_keys_of_a_sampling_run_keep_what_each_stream_is_told():
    network = model(timed=("video",))
    direct = network(clip(), text(0.1, 0.2))
    kept = network(clip(), network.text_keys(text(0.1, 0.2)))
    assert all(torch.allclose(direct[name], kept[name], atol=1e-6) for name in direct)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("reads", "changed"),
    [
        ({}, {"video", "audio"}),
        ({"audio": ()}, {"video"}),
        ({"video": (), "audio": ()}, set()),
    ],
)
def test_streams_read_the_partners_they_name(reads, changed):
    network, other = model(reads=reads), clip(1)
    first = network(clip(), text(0.1, 0.2))
    for stream, partner in (("video", "audio"), ("audio", "video")):
        second = network(clip() | {partner: other[partner]}, text(0.1, 0.2))
        reached = not torch.allclose(first[stream], second[stream], atol=1e-6)
        assert reached == (stream in changed)


def test_a_direction_that_is_not_read_has_no_weights():
    sizes = [
        sum(p.numel() for p in model(reads=reads).parameters()) for reads in ({}, {"audio": ()})
    ]
    assert sizes[1] < sizes[0]


def test_configuration_survives_json_and_names_streams_that_are_there():
    config = replace(CONFIG, timed=("audio",), reads={"audio": ()})
    assert ModelConfig.from_dict(config.to_dict()) == config
    old = {k: v for k, v in CONFIG.to_dict().items() if k not in ("timed", "reads")}
    assert ModelConfig.from_dict(old) == CONFIG
    with pytest.raises(ValueError, match="name stream 'text'; the streams are video, audio"):
        replace(CONFIG, timed=("text",))
    with pytest.raises(ValueError, match="name stream 'smell'"):
        replace(CONFIG, reads={"audio": ("smell",)})
