from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch

from avgen import flow
from avgen.caption import TimedCaption
from avgen.model.bundle import Network
from avgen.model.config import ModelConfig, StreamConfig
from avgen.model.layout import Layout
from avgen.sampling.guidance import Guidance
from avgen.sampling.sampler import Given, Sampler, unmask
from avgen.sampling.schedules import linear_schedule
from avgen.sampling.solvers import SOLVERS, ancestral, euler, heun, renoise, solver

CONFIG = ModelConfig(
    streams={
        "video": StreamConfig(channels=4, width=32, num_heads=2, patch=2, spatial=True),
        "audio": StreamConfig(channels=6, width=32, num_heads=2),
    },
    depth=1,
    head_dim=16,
    text_width=32,
)
LAYOUT = Layout.of_shapes(
    CONFIG, {"video": (3, 4, 4), "audio": (9,)}, fps=25, time_stride=4, audio_rate=25, duration=0.36
)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def network(config: ModelConfig = CONFIG) -> Network:
    torch.manual_seed(0)
    net = Network(config, {"num_heads": 2}).eval()
    with torch.no_grad():
        for parameter in net.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


NET = network()


def text(*prompts: str):
    return NET.text_encoder([TimedCaption(duration_us=360_000, text=prompt) for prompt in prompts])


class Pull:
    """The exact flow to one point: velocity (noisy - target) / sigma."""

    def __init__(self, target: float):
        self.target = target

    def __call__(self, streams, text, exchange):
        return {
            name: (x.tokens - self.target) / x.sigma[..., None].clamp(min=1e-6)
            for name, x in streams.items()
        }


@pytest.mark.parametrize("name", SOLVERS)
def test_an_exact_flow_ends_at_its_target(name):
    out = Sampler(steps=4, solver=name).sample(
        Pull(0.7), LAYOUT, text("a"), text(""), generators(0)
    )
    for x in out.values():
        assert torch.allclose(x, torch.full_like(x, 0.7), atol=1e-4)


def test_order_of_the_solvers():
    """d x / d sigma = 3 x from x(1) = 1: error of Euler halves, that of Heun quarters, when steps double."""

    def error(step, count):
        x = {"x": torch.ones(1, dtype=torch.float64)}
        for a, b in zip(
            *(linear_schedule(count, 1.0).double()[s] for s in (slice(None, -1), slice(1, None))),
            strict=True,
        ):
            x = step(lambda state, sigma: {"x": 3 * state["x"]}, x, a, b, torch.zeros_like)
        return abs(x["x"].item() - torch.tensor(-3.0).exp().item())

    assert error(euler, 64) / error(euler, 128) == pytest.approx(2, rel=0.1)
    assert error(heun, 64) / error(heun, 128) > 1.9
    assert error(heun, 64) < error(euler, 64) / 3


def normal_clips(step, count: int) -> torch.Tensor:
    """20,000 samples of a normal distribution of mean 2 and deviation 0.5 by its exact velocity."""
    mean, variance = 2.0, 0.25

    def velocity(state, sigma):
        spread = (1 - sigma) ** 2 * variance + sigma**2
        clean = mean + (1 - sigma) * variance / spread * (state["x"] - (1 - sigma) * mean)
        return {"x": (state["x"] - clean) / sigma}

    generator = torch.Generator().manual_seed(0)
    x = {"x": torch.randn(20_000, generator=generator, dtype=torch.float64)}
    for sigma, following in pairwise(linear_schedule(count, 3.0).double()):
        noise = partial(torch.randn, generator=generator, dtype=torch.float64)
        x = step(velocity, x, sigma, following, lambda like, noise=noise: noise(like.shape))
    return x["x"]


def test_ancestral_steps_sample_the_distribution_and_renoising_a_narrower_one():
    for step in (euler, ancestral):
        found = normal_clips(step, 200)
        assert found.mean() == pytest.approx(2.0, abs=0.02)
        assert found.std() == pytest.approx(0.5, rel=0.03)
    narrow = normal_clips(renoise, 200)
    assert narrow.mean() == pytest.approx(2.0, abs=0.02)
    assert narrow.std() < 0.4


@pytest.mark.parametrize(
    ("name", "kept", "drawn"), [("ancestral", 0.25, 0.9682), ("renoise", 0.0, 1.0)]
)
def test_a_step_with_fresh_noise_is_the_closed_form(name, kept, drawn):
    """From 0.8 to 0.5: of the noise that was there (1 - 0.8) 0.5 / ((1 - 0.5) 0.8) = 1/4 stays in `ancestral`."""
    clean, old, new = torch.randn(3, 5, generator=torch.Generator().manual_seed(4)).double()
    sigma, following = torch.tensor([0.8, 0.5], dtype=torch.float64)
    state = {"x": flow.add_noise(clean, old, sigma)}
    found = SOLVERS[name](
        lambda *_: {"x": flow.velocity(clean, old)}, state, sigma, following, lambda x: new
    )
    assert torch.allclose(found["x"], 0.5 * clean + 0.5 * (kept * old + drawn * new), atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("name", SOLVERS)
def test_a_clip_does_not_depend_on_its_batch(name):
    sampler = Sampler(steps=3, solver=name, guidance=Guidance(text=2.0, time=1.5, partner=1.5))
    alone = sampler.sample(NET.model, LAYOUT, text("a"), text(""), generators(5))
    both = sampler.sample(
        NET.model, LAYOUT, text("something longer", "a"), text(""), generators(3, 5)
    )
    for name, x in alone.items():
        assert torch.allclose(both[name][1], x[0], atol=1e-4)
        assert not torch.allclose(both[name][0], x[0], atol=1e-2)


@torch.inference_mode()
@pytest.mark.parametrize("name", SOLVERS)
def test_given_tokens_stay_untouched_and_matter(name):
    tokens = torch.randn(1, 9, 6, generator=torch.Generator().manual_seed(9))
    given = {"audio": Given(tokens, torch.arange(9) < 4)}
    sampler = Sampler(steps=3, solver=name)
    out = sampler.sample(NET.model, LAYOUT, text("a"), text(""), generators(5), given)
    assert torch.equal(out["audio"][:, :4], tokens[:, :4])
    free = sampler.sample(NET.model, LAYOUT, text("a"), text(""), generators(5))
    assert not torch.allclose(out["video"], free["video"], atol=1e-3)


def test_guidance_adds_the_differences_per_stream():
    full, none, untimed = (torch.full((1, 2, 2), v) for v in (3.0, 1.0, 2.0))
    guidance = Guidance(text={"video": 3.0}, time=1.5)
    weaker = {"text": none, "time": untimed}
    assert torch.equal(
        guidance.combine("video", full, weaker), torch.full((1, 2, 2), 3 + 2 * 2 + 0.5)
    )
    assert torch.equal(guidance.combine("audio", full, weaker), torch.full((1, 2, 2), 3 + 0.5))
    assert guidance.active({"video": 0, "audio": 0}) == ["text", "time"]
    assert Guidance().active({"video": 0}) == []


def test_guidance_above_a_level_acts_there_alone_and_costs_there_alone():
    rows: list[int] = []

    def model(streams, told, exchange):
        rows.append(len(streams["video"].sigma))
        return NET.model(streams, told, exchange)

    def states(guidance: Guidance) -> list[torch.Tensor]:
        sampler = Sampler(steps=4, guidance=guidance)
        run = sampler.run(model, LAYOUT, text("a red ball"), text(""), generators(0))
        return [state.tokens["video"].clone() for state in run]

    level = float(linear_schedule(4, LAYOUT.shift)[1])
    throughout, early = states(Guidance(text=3.0)), states(Guidance(text=3.0, above=level))
    assert rows == [2, 2, 2, 2, 2, 2, 1, 1]
    assert [torch.equal(a, b) for a, b in zip(throughout, early, strict=True)] == [
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(ValueError, match=r"above 1.5 is no noise level; give one from 0 to 1"):
        Guidance(above=1.5)


def test_rescale_brings_back_the_spread():
    generator = torch.Generator().manual_seed(0)
    full, none = torch.randn(2, 3, 8, 4, generator=generator)
    guided = Guidance(text=5.0, rescale=1.0).combine("video", full, {"text": none})
    assert torch.allclose(guided.std((1, 2)), full.std((1, 2)), rtol=1e-4)
    assert Guidance(text=5.0).combine("video", full, {"text": none}).std() > 2 * full.std()


def test_schedule_runs_from_noise_to_clean_and_refuses_no_steps():
    sigmas = linear_schedule(8, 2.0)
    assert (sigmas[0], sigmas[-1]) == (1, 0)
    assert bool((sigmas.diff() < 0).all())
    with pytest.raises(ValueError, match="at least 1 step"):
        linear_schedule(0, 1.0)
    with pytest.raises(ValueError, match="use one of euler, heun, ancestral, renoise"):
        solver("ddim")


def test_progress_is_told_after_every_step_and_can_stop():
    steps = [
        state.step
        for state in Sampler(steps=3).run(Pull(0.0), LAYOUT, text("a"), text(""), generators(0))
    ]
    assert steps == [1, 2, 3]
    running = Sampler(steps=3).run(Pull(0.0), LAYOUT, text("a"), text(""), generators(0))
    next(running)
    running.close()


def test_sampling_runs_under_autograd():
    out = Sampler(steps=2).sample(NET.model, LAYOUT, text("a"), text(""), generators(0))
    out["video"].sum().backward()
    gradient = NET.model.ports["video"].head.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    NET.zero_grad()


@torch.inference_mode()
def test_codes_are_all_unmasked_at_the_end():
    streams = {
        **CONFIG.streams,
        "audio": StreamConfig(channels=6, width=32, num_heads=2, codebooks=3, codebook_size=10),
    }
    config = replace(CONFIG, streams=streams)
    net, layout = network(config), replace(LAYOUT, config=config)
    counts = []
    for state in Sampler(steps=4).run(
        net.model, layout, text("a", "b"), text(""), generators(0, 1)
    ):
        counts.append(int((state.tokens["audio"] == 10).sum()))
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0
    assert state.tokens["audio"].shape == (2, 9, 3)


def test_unmasking_keeps_the_surest_and_never_touches_given_codes():
    codes = torch.full((1, 4, 1), 5)
    codes[0, 0, 0] = 2
    logits = torch.zeros(1, 4, 1, 5)
    logits[0, 1, 0, 3] = 50.0
    given = Given(codes, torch.tensor([True, False, False, False]))
    out = unmask(codes, logits, 2 / 3, generators(0), given)[0, :, 0]
    assert out[:2].tolist() == [2, 3]
    assert out[2:].tolist() == [5, 5]


@torch.inference_mode()
@pytest.mark.parametrize("scales", [{}, {"text": 3.0, "time": 2.0, "partner": 1.5}])
def test_the_text_is_projected_once_in_a_run_and_the_result_is_the_same(scales):
    sampler = Sampler(steps=3, guidance=Guidance(**scales))
    calls = []
    projections = [
        layer.text.key_value.register_forward_hook(lambda *call: calls.append(call))
        for block in NET.model.blocks
        for layer in block.layers.values()
    ]
    try:
        runs = []
        for model in (NET.model, lambda *inputs: NET.model(*inputs)):
            calls.clear()
            given = (LAYOUT, text("a red ball", "b"), text(""), generators(0, 1))
            runs.append((sampler.sample(model, *given), len(calls)))
    finally:
        for hook in projections:
            hook.remove()
    (kept, once), (anew, thrice) = runs
    assert (once, thrice) == (len(projections), 3 * len(projections))
    assert all(torch.equal(kept[name], anew[name]) for name in kept)
