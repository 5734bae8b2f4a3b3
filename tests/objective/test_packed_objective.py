"""A packed batch against its parts alone, with the same random numbers."""

from collections.abc import Mapping

import pytest
import torch
from test_joint_objective import CODES, CONFIG, generator, network

from avgen.caption import Event, TimedCaption
from avgen.data.batch import AVBatch, PackedBatch
from avgen.model.bundle import Network
from avgen.model.config import ModelConfig
from avgen.model.layout import Layout
from avgen.objective.joint import JointObjective, LossRecord
from avgen.objective.sigma import SigmaDistribution

SIZES = {3: 1, 2: 3, 5: 2}  # video latents of a clip: clips
WEIGHTS = {"video": 1.5, "audio": 0.5}


def layout_of(config: ModelConfig, steps: int) -> Layout:
    frames = 4 * steps - 3
    return Layout.of_shapes(
        config,
        {"video": (steps, 4, 2 * steps), "audio": (frames,)},
        fps=25,
        time_stride=4,
        audio_rate=25,
        duration=frames / 25,
    )


def batch_of(steps: int, size: int) -> AVBatch:
    frames, rng = 4 * steps - 3, generator(steps)
    texts = ["a ball", "two balls on a floor of stone", ""]
    captions = [
        TimedCaption(
            duration_us=frames * 40_000, text=texts[i], events=(Event.at(0.04, 0.16, f"hit {i}"),)
        )
        for i in range(size)
    ]
    return AVBatch(
        video=torch.randn(size, 4, steps, 4, 2 * steps, generator=rng),
        audio=torch.randn(size, 6, frames, generator=rng),
        codes=torch.randint(0, 8, (size, 2, frames), generator=rng),
        captions=captions,
        ids=[f"{steps}-{i}" for i in range(size)],
        fps=25.0,
        duration=frames / 25,
        time_stride=4,
        audio_rate=25.0,
        step=0,
    )


PARTS = PackedBatch(tuple(batch_of(steps, size) for steps, size in SIZES.items()))


def moved(config: ModelConfig) -> Network:
    """A network whose gates and heads are not zero, so that every path matters."""
    net = network(config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(1)))
    return net


def objective(tasks: Mapping[str, float]) -> JointObjective:
    return JointObjective(
        sigma=SigmaDistribution(mode="independent"),
        tasks=tasks,
        weights=WEIGHTS,
        detail={"video": 0.5},
        text_dropout=0.3,
        time_dropout=0.5,
        exchange_dropout=0.5,
    )


def together(config: ModelConfig, tasks: Mapping[str, float], seed: int, net: Network):
    layouts = [layout_of(config, steps) for steps in SIZES]
    return objective(tasks)(net.model, net.text_encoder, layouts, PARTS, generator(seed))


def apart(
    config: ModelConfig, tasks: Mapping[str, float], seed: int, net: Network
) -> list[LossRecord]:
    shared, loss = generator(seed), objective(tasks)
    return [
        loss(net.model, net.text_encoder, layout_of(config, steps), part, shared)
        for steps, part in zip(SIZES, PARTS.parts, strict=True)
    ]


@pytest.mark.parametrize("config", [CONFIG, CODES], ids=["latents", "codes"])
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_the_mean_over_clips_of_that_of_the_parts_alone(config: ModelConfig, seed: int):
    net, tasks = moved(config), {"t2av": 1.0, "v2a": 1.0, "a2v": 1.0, "extend": 1.0}
    packed, parts = together(config, tasks, seed, net), apart(config, tasks, seed, net)
    totals = [r.total * n for r, n in zip(parts, SIZES.values(), strict=True)]
    expected = torch.stack(totals).sum() / len(PARTS)
    assert packed.tasks == sum((record.tasks for record in parts), ())
    torch.testing.assert_close(packed.total, expected, atol=1e-5, rtol=1e-5)

    parameters = list(net.parameters())
    found, wanted = (
        torch.autograd.grad(x, parameters, allow_unused=True, materialize_grads=True)
        for x in (packed.total, expected)
    )
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_a_stream_is_logged_over_the_clips_that_generate_it():
    """Seeds are tried until one part is given its picture and another is not."""
    net, tasks = moved(CONFIG), {"t2av": 1.0, "v2a": 1.0}
    records = (together(CONFIG, tasks, seed, net) for seed in range(50))
    packed, seed = next((r, s) for s, r in enumerate(records) if len(set(r.tasks)) == 2)
    parts = apart(CONFIG, tasks, seed, net)
    pairs = [(r, n) for r, n in zip(parts, SIZES.values(), strict=True) if "video" in r.streams]
    clips = sum(n for _, n in pairs)
    mean = sum(r.streams["video"] * n for r, n in pairs) / clips
    torch.testing.assert_close(packed.streams["video"], mean, atol=1e-5, rtol=1e-5)
    assert 0 < clips < len(PARTS)
    share = clips / len(PARTS)
    weighted = WEIGHTS["video"] * share * mean + WEIGHTS["audio"] * packed.streams["audio"]
    torch.testing.assert_close(packed.total, weighted, atol=1e-5, rtol=1e-5)
    for stream, count in (("video", clips), ("audio", len(PARTS))):
        total, number = packed.sums[stream].sum(0).tolist()
        assert number == count
        assert total / number == pytest.approx(packed.streams[stream].item(), rel=1e-4)


def test_a_packed_batch_where_every_part_is_given_its_picture_scores_the_sound_alone():
    packed = together(CONFIG, {"v2a": 1.0}, 0, moved(CONFIG))
    assert packed.tasks == ("v2a",) * 3
    assert set(packed.streams) == set(packed.sums) == {"audio"}


def test_all_captions_are_encoded_in_one_call_and_stretched_to_their_own_clip():
    net, calls, seen = moved(CONFIG), [], {}

    class Seen(torch.nn.Module):
        def forward(self, streams, text, exchange):
            seen.update(text=text, exchange=exchange, lengths=streams["audio"].lengths)
            return net.model(streams, text, exchange)

    net.text_encoder.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    loss = JointObjective(time_dropout=1.0, text_dropout=0.0)
    layouts = [layout_of(CONFIG, steps) for steps in SIZES]
    loss(Seen(), net.text_encoder, layouts, PARTS, generator())
    assert calls == [len(PARTS)]
    assert seen["lengths"] == (9, 5, 5, 5, 17, 17)
    assert seen["exchange"].shape == (6,)
    ends = seen["text"].interval[:, 0, 1].tolist()
    assert ends == pytest.approx([0.36, 0.2, 0.2, 0.2, 0.68, 0.68])


def test_one_layout_for_each_part():
    net = network(CONFIG)
    with pytest.raises(ValueError, match="1 layouts for a batch of 3 parts"):
        JointObjective()(net.model, net.text_encoder, layout_of(CONFIG, 3), PARTS, generator())
