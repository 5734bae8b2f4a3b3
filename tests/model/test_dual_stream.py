from dataclasses import replace

import pytest
import torch

from avgen.caption import Event, TimedCaption
from avgen.model.config import PRESETS, ModelConfig, StreamConfig, preset
from avgen.model.dual_stream import DualStreamTransformer
from avgen.model.inputs import StreamInput, pack, pad
from avgen.model.patchify import Grid, audio_grid, video_grid
from avgen.text.byte_encoder import ByteTextEncoder

CONFIG = ModelConfig(
    streams={
        "video": StreamConfig(channels=4, width=48, num_heads=3, patch=2, spatial=True),
        "audio": StreamConfig(channels=6, width=32, num_heads=2),
    },
    depth=2,
    head_dim=16,
    text_width=32,
)


def network(config: ModelConfig = CONFIG) -> tuple[DualStreamTransformer, ByteTextEncoder]:
    torch.manual_seed(0)
    model, text = DualStreamTransformer(config).eval(), ByteTextEncoder(32, num_heads=2).eval()
    with torch.no_grad():  # gates and heads start at zero: move away, so that every path matters
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, text


MODEL, TEXT = network()


def caption(duration: float, shift: float = 0.0) -> TimedCaption:
    event = Event.at(0.1 + shift, 0.2 + shift, "the red ball hits the floor", "visual")
    return TimedCaption(
        duration_us=round((duration + shift) * 1e6), text="a red ball", events=(event,)
    )


def stream(
    grid: Grid, numbers: int, seed: int, sigma: float = 0.5, shift: float = 0.0
) -> StreamInput:
    tokens = torch.randn(1, len(grid), numbers, generator=torch.Generator().manual_seed(seed))
    place = None if grid.place is None else grid.place[None]
    return StreamInput(
        tokens, torch.full((1, len(grid)), sigma), grid.interval[None] + shift, place
    )


def clip(steps: int, seed: int = 0, shift: float = 0.0) -> dict[str, StreamInput]:
    video = video_grid((steps, 4, 4), patch=2, time_stride=4, fps=25)
    audio = audio_grid(1 + 4 * (steps - 1), 25)
    return {
        "video": stream(video, 16, seed, shift=shift),
        "audio": stream(audio, 6, seed + 1, shift=shift),
    }


@torch.inference_mode()
def test_shapes_and_names():
    inputs = clip(3)
    out = MODEL(inputs, TEXT([caption(0.36)]))
    assert {name: x.shape for name, x in out.items()} == {
        name: x.tokens.shape for name, x in inputs.items()
    }


@torch.inference_mode()
def test_an_untrained_network_predicts_zero():
    model = DualStreamTransformer(CONFIG)
    assert all(not x.any() for x in model(clip(3), TEXT([caption(0.36)])).values())


@torch.inference_mode()
def test_shifting_all_times_changes_nothing():
    text = TEXT([caption(0.36)])
    moved = replace(text, interval=text.interval + 0.7)
    here, there = MODEL(clip(3), text), MODEL(clip(3, shift=0.7), moved)
    for name, x in here.items():
        assert torch.allclose(x, there[name], atol=2e-4)


@torch.inference_mode()
def test_moving_an_event_alone_changes_the_output():
    text = TEXT([caption(0.36)])
    moved = TEXT(
        [
            replace(
                caption(0.36), events=(Event.at(0.2, 0.3, "the red ball hits the floor", "visual"),)
            )
        ]
    )
    for name, x in MODEL(clip(3), text).items():
        assert not torch.allclose(x, MODEL(clip(3), moved)[name], atol=1e-3)


@torch.inference_mode()
def test_padding_and_packing_equal_each_clip_alone():
    clips, captions = (
        [clip(3, seed=0), clip(2, seed=5)],
        [caption(0.36), replace(caption(0.3), text="a longer text, it is")],
    )
    text = TEXT(captions)
    alone = [MODEL(c, TEXT([t])) for c, t in zip(clips, captions, strict=True)]
    padded = MODEL({name: pad([c[name] for c in clips]) for name in CONFIG.streams}, text)
    packed = MODEL({name: pack([c[name] for c in clips]) for name in CONFIG.streams}, text)
    for name in CONFIG.streams:
        lengths = [c[name].tokens.shape[1] for c in clips]
        pieces = packed[name][0].split(lengths)
        for i, expected in enumerate(alone):
            assert torch.allclose(padded[name][i, : lengths[i]], expected[name][0], atol=1e-4)
            assert torch.allclose(pieces[i], expected[name][0], atol=1e-4)


@torch.inference_mode()
def test_packed_exchange_is_per_clip():
    clips, text = [clip(3, seed=0), clip(2, seed=5)], TEXT([caption(0.36), caption(0.3)])
    packed = {name: pack([c[name] for c in clips]) for name in CONFIG.streams}
    mixed = MODEL(packed, text, torch.tensor([1.0, 0.0]))
    on, off = MODEL(packed, text, torch.ones(2)), MODEL(packed, text, torch.zeros(2))
    for name in CONFIG.streams:
        first = clips[0][name].tokens.shape[1]
        assert torch.allclose(mixed[name][:, :first], on[name][:, :first], atol=1e-5)
        assert torch.allclose(mixed[name][:, first:], off[name][:, first:], atol=1e-5)
        assert not torch.allclose(on[name][:, first:], off[name][:, first:], atol=1e-3)


@torch.inference_mode()
def test_without_exchange_it_is_two_single_stream_models():
    inputs, text = clip(3), TEXT([caption(0.36)])
    apart = MODEL(inputs, text, torch.zeros(1))
    for name, x in inputs.items():
        assert torch.allclose(MODEL({name: x}, text)[name], apart[name], atol=1e-5)


@torch.inference_mode()
def test_one_noise_level_per_row_equals_it_written_per_token():
    inputs, text = clip(3), TEXT([caption(0.36)])
    short = {name: replace(x, sigma=x.sigma[:, :1]) for name, x in inputs.items()}
    for name, x in MODEL(inputs, text).items():
        assert torch.allclose(x, MODEL(short, text)[name], atol=1e-5)


@torch.inference_mode()
def test_the_noise_level_belongs_to_the_token():
    inputs, text = clip(3), TEXT([caption(0.36)])
    sigma = inputs["video"].sigma.clone()
    sigma[:, :4] = 0.0
    changed = MODEL({**inputs, "video": replace(inputs["video"], sigma=sigma)}, text)
    assert not torch.allclose(changed["video"], MODEL(inputs, text)["video"], atol=1e-3)


@torch.inference_mode()
def test_codes_in_logits_out():
    streams = {
        **CONFIG.streams,
        "audio": StreamConfig(channels=6, width=32, num_heads=2, codebooks=3, codebook_size=10),
    }
    model, text = network(replace(CONFIG, streams=streams))
    inputs = clip(3)
    codes = torch.randint(0, 11, (1, 9, 3), generator=torch.Generator().manual_seed(0))
    out = model({**inputs, "audio": replace(inputs["audio"], tokens=codes)}, text([caption(0.36)]))
    assert out["audio"].shape == (1, 9, 3, 10)


def test_gradients_reach_every_parameter():
    model, text = network()
    out = model(clip(3), text([caption(0.36)]))
    sum(x.square().sum() for x in out.values()).backward()
    silent = [n for n, p in [*model.named_parameters(), *text.named_parameters()] if p.grad is None]
    assert silent == []


@pytest.mark.parametrize(
    ("name", "video", "audio"),
    [
        ("tiny", (0, 12e6), (0, 5e6)),
        ("small", (120e6, 180e6), None),
        ("base", (1.7e9, 2.3e9), None),
        ("large", (13e9, 15e9), (4.4e9, 5.6e9)),
    ],
)
def test_presets_have_the_sizes_they_promise(name, video, audio):
    with torch.device("meta"):
        model = DualStreamTransformer(preset(name))
    sizes = {"audio": 0, "all": 0}
    for key, parameter in model.named_parameters():
        sizes["all"] += parameter.numel()
        if key.startswith(("ports.audio", "noise.audio")) or ".layers.audio." in key:
            sizes["audio"] += parameter.numel()
    low, high = video
    total = sizes["all"] - sizes["audio"] if name == "large" else sizes["all"]
    assert low <= total <= high
    if audio:
        assert audio[0] <= sizes["audio"] <= audio[1]


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match="nano, tiny, small, base, large"):
        preset("huge")
    assert set(PRESETS) == {"nano", "tiny", "small", "base", "large"}


def test_configuration_survives_json():
    assert ModelConfig.from_dict(CONFIG.to_dict()) == CONFIG
    with pytest.raises(ValueError, match="multiple of 8"):
        replace(CONFIG, head_dim=12)


@torch.inference_mode()
def test_keys_of_the_text_replace_the_text():
    captions = [caption(0.36), replace(caption(0.36), text="a longer text, it is")]
    text, inputs = TEXT(captions), {name: pad([x, x]) for name, x in clip(3).items()}
    for name, x in MODEL(inputs, text).items():
        assert torch.equal(x, MODEL(inputs, MODEL.text_keys(text))[name])
    packed = {name: pack([x, x]) for name, x in clip(3).items()}
    with pytest.raises(ValueError, match="give packed streams the text itself"):
        MODEL(packed, MODEL.text_keys(text))
