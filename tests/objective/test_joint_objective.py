from dataclasses import replace

import pytest
import torch

from avgen.caption import Event, TimedCaption
from avgen.data.datamodule import AVBatch
from avgen.model.bundle import Network
from avgen.model.config import ModelConfig, StreamConfig
from avgen.model.layout import Layout
from avgen.objective.corruption import corrupt, detail_weight
from avgen.objective.joint import JointObjective
from avgen.objective.sigma import SigmaDistribution

CONFIG = ModelConfig(
    streams={
        "video": StreamConfig(channels=4, width=48, num_heads=3, patch=2, spatial=True),
        "audio": StreamConfig(channels=6, width=32, num_heads=2),
    },
    depth=1,
    head_dim=16,
    text_width=32,
    base_tokens=21,
)
CODES = replace(
    CONFIG,
    streams={
        **CONFIG.streams,
        "audio": StreamConfig(channels=6, width=32, num_heads=2, codebooks=2, codebook_size=8),
    },
)


def layout(config: ModelConfig = CONFIG) -> Layout:
    return Layout.of_shapes(
        config,
        {"video": (3, 4, 4), "audio": (9,)},
        fps=25,
        time_stride=4,
        audio_rate=25,
        duration=0.36,
    )


def batch(size: int = 4) -> AVBatch:
    generator = torch.Generator().manual_seed(0)
    caption = TimedCaption(
        duration_us=360_000, text="a ball", events=(Event.at(0.1, 0.2, "it hits"),)
    )
    return AVBatch(
        video=torch.randn(size, 4, 3, 4, 4, generator=generator),
        audio=torch.randn(size, 6, 9, generator=generator),
        codes=torch.randint(0, 8, (size, 2, 9), generator=generator),
        captions=[caption] * size,
        ids=[str(i) for i in range(size)],
        fps=25.0,
        duration=0.36,
        time_stride=4,
        audio_rate=25.0,
        step=0,
    )


def network(config: ModelConfig = CONFIG) -> Network:
    torch.manual_seed(0)
    return Network(config, {"num_heads": 2})


class Oracle(torch.nn.Module):
    """Knows the clean latents, so it can say the true velocity of whatever noisy tokens it gets."""

    def __init__(self, where: Layout, data: AVBatch):
        super().__init__()
        self.clean = {
            "video": where.tokens("video", data.video),
            "audio": where.tokens("audio", data.audio),
        }
        self.seen: dict[str, torch.Tensor] = {}

    def forward(self, streams, text, exchange):
        self.seen = {name: x.sigma for name, x in streams.items()}
        return {
            name: (x.tokens - self.clean[name]) / x.sigma.clamp(min=1e-6)[..., None]
            for name, x in streams.items()
        }


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("task", ["t2av", "i2av", "v2a", "a2v", "extend", "infill"])
def test_the_true_velocity_has_no_loss_in_any_task(task):
    data = batch()
    oracle = Oracle(layout(), data)
    record = JointObjective(tasks={task: 1.0})(
        oracle, network().text_encoder, layout(), data, generator()
    )
    assert record.total.item() == pytest.approx(0.0, abs=1e-6)
    assert record.tasks == (task,)


def test_given_tokens_are_clean_at_level_zero_and_unscored():
    data, oracle = batch(), Oracle(layout(), batch())
    record = JointObjective(tasks={"v2a": 1.0})(
        oracle, network().text_encoder, layout(), data, generator()
    )
    assert set(record.streams) == {"audio"}
    assert not oracle.seen["video"].any()
    assert bool((oracle.seen["audio"] > 0).all())


def test_untrained_loss_is_the_spread_of_the_velocity():
    record = JointObjective()(
        network().model, network().text_encoder, layout(), batch(16), generator()
    )
    for loss in record.streams.values():
        assert loss.item() == pytest.approx(2.0, rel=0.15)  # unit noise minus unit latents


def test_all_randomness_comes_from_the_generator():
    objective, net = JointObjective(tasks={"t2av": 1, "extend": 1}), network()
    runs = [
        objective(net.model, net.text_encoder, layout(), batch(), generator(s)).total.item()
        for s in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_weights_scale_streams():
    net = network()
    plain, weighted = (
        JointObjective(weights=w)(net.model, net.text_encoder, layout(), batch(), generator())
        for w in ({}, {"video": 2.0, "audio": 0.5})
    )
    expected = 2 * plain.streams["video"] + 0.5 * plain.streams["audio"]
    assert weighted.total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_losses_by_noise_level_add_up():
    record = JointObjective()(
        network().model, network().text_encoder, layout(), batch(8), generator()
    )
    total, count = record.sums["video"].sum(0).tolist()
    assert count == 8
    assert total / count == pytest.approx(record.streams["video"].item(), rel=1e-4)


def test_codes_are_masked_where_generated_and_start_at_uniform_entropy():
    net = network(CODES)
    record = JointObjective()(net.model, net.text_encoder, layout(CODES), batch(), generator())
    assert record.streams["audio"].item() == pytest.approx(torch.tensor(8.0).log().item(), rel=1e-3)
    clean = torch.randint(0, 8, (2, 9, 2), generator=generator())
    given = torch.arange(9) < 4
    masked = corrupt(CODES.streams["audio"], clean, torch.ones(2), given, generator())
    assert bool((masked.tokens[:, 4:] == 8).all())
    assert torch.equal(masked.tokens[:, :4], clean[:, :4])


def test_shared_and_independent_noise_levels():
    shared = SigmaDistribution(mode="shared").draw(64, ["video", "audio"], 2.0, generator())
    apart = SigmaDistribution(mode="independent").draw(64, ["video", "audio"], 2.0, generator())
    assert torch.equal(shared["video"], shared["audio"])
    assert not torch.equal(apart["video"], apart["audio"])
    for sigma in (*shared.values(), *apart.values()):
        assert 0 < sigma.min() <= sigma.max() <= 1


def test_a_larger_shift_draws_more_noise():
    draws = [
        SigmaDistribution().draw(2000, ["video"], shift, generator())["video"].mean()
        for shift in (1.0, 3.0)
    ]
    assert draws[1] > draws[0] + 0.1


def test_missing_stream_says_what_to_add():
    data = replace(batch(), audio=None, codes=None)
    with pytest.raises(ValueError, match="no data for stream 'audio'"):
        JointObjective()(network().model, network().text_encoder, layout(), data, generator())


def test_detail_weighs_what_differs_from_the_clip_and_keeps_the_mean():
    clean = torch.zeros(1, 10, 4)
    clean[0, 3] = 1.0
    weight = detail_weight(clean, 0.5)
    assert weight.mean().item() == pytest.approx(1.0)
    assert weight[0, 3] > 4 * weight[0, 0] > 0
    assert torch.equal(detail_weight(clean, 0.0), torch.ones(1, 10))


def test_detail_changes_the_loss_of_its_stream_only():
    net = network()
    with torch.no_grad():
        net.model.ports["video"].head.weight.normal_(std=0.5)
    plain, detailed = (
        JointObjective(detail=d)(net.model, net.text_encoder, layout(), batch(), generator())
        for d in ({}, {"video": 0.8})
    )
    assert plain.streams["audio"] == detailed.streams["audio"]
    assert plain.streams["video"] != detailed.streams["video"]


def test_mixed_noise_is_shared_in_about_half_of_the_clips():
    drawn = SigmaDistribution(mode="mixed").draw(2000, ["video", "audio"], 2.0, generator())
    same = drawn["video"] == drawn["audio"]
    assert 0.45 < same.float().mean() < 0.55
    alone = SigmaDistribution(mode="independent").draw(2000, ["video", "audio"], 2.0, generator())
    assert (drawn["audio"][~same] == alone["audio"][~same]).all()


def test_clips_that_lose_their_times_are_encoded_as_untimed_captions():
    seen, net, clips = [], network(), batch()
    net.text_encoder.register_forward_pre_hook(lambda _, arguments: seen.extend(arguments[0]))
    objective = JointObjective(time_dropout=1.0, text_dropout=0.0)
    objective(net.model, net.text_encoder, layout(), clips, generator())
    assert seen == [caption.untimed() for caption in clips.captions]
