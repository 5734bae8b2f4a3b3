"""What one evaluation of the network, and the decoding of its picture, cost by the length of the clip.

Each case is compared with the shortest clip: the ratio is how many times as long it takes.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from avgen import clock
from avgen.codecs.video_vae import VideoVAE
from avgen.model.config import ModelConfig, preset
from avgen.model.dual_stream import DualStreamTransformer
from avgen.model.layout import Layout
from avgen.text.base import TextTokens
from avgen_eval.bench.limits import MIB, Budget, peak_bytes
from avgen_eval.bench.setup import Result, Setup, count_parameters, random_tokens
from avgen_eval.bench.timing import WARM_UP, Comparison, Prepared, clock_of

SECONDS = (2, 10, 60, 300, 600)
DECODED_SECONDS = (2, 10, 60)
WINDOW = 4.0
FPS, TIME_STRIDE, AUDIO_RATE, CELLS = 25, 4, 25, 8
TEXT_TOKENS = 96
CHUNK = 4
"""Latent steps that are decoded at once."""


def bench(setup: Setup, seconds: Sequence[int] = SECONDS, window: float = WINDOW) -> Result:
    """Seconds and peak memory of an evaluation of the preset, and of decoding, for each length.

    Args:
        setup: How to run.
        seconds: Lengths of the clips, from the shortest.
        window: Of audio and cross-modal attention where it is not full.
    """
    config = preset(setup.preset)
    budget = Budget(setup.budget, setup.repeats + WARM_UP + 2, setup.device)
    networks = [
        Comparison(f"one evaluation, {name}", _cases(evaluation, seconds, how, setup, budget))
        for name, how in {
            "full attention": config,
            f"window of {window:g} s": replace(
                config, window_seconds=window, exchange_seconds=window
            ),
        }.items()
    ]
    short = [length for length in seconds if length <= max(DECODED_SECONDS)]
    decoders = [
        Comparison(f"decoding, {name}", _cases(decoding, short, chunk, setup, budget))
        for name, chunk in {"at once": None, f"{CHUNK} steps at a time": CHUNK}.items()
    ]
    settings = {"preset": setup.preset, "batch": 1, "picture": f"{8 * CELLS}x{8 * CELLS}"}
    return Result(setup.measure([*networks, *decoders]), settings)


def _cases(build: Any, seconds: Sequence[int], how: Any, setup: Setup, budget: Budget) -> Any:
    return {
        f"{length} s": partial(_prepare, build, length, how, setup, budget) for length in seconds
    }


def _prepare(build: Any, length: int, how: Any, setup: Setup, budget: Budget) -> Prepared:
    """A case with its peak memory, if what the shorter ones took lets it fit."""
    case = (build.__name__, how if isinstance(how, int | None) else how.window_seconds)
    budget.check(case, length, power=1.0 if build is decoding else 2.0)
    prepared: Prepared = build(length, how, setup)
    peak = peak_bytes(prepared.run, setup.device)
    watch = clock_of(setup.device)
    start = watch()
    prepared.run()
    budget.record(case, length, watch() - start)
    return Prepared(prepared.run, prepared.parameters, {"peak MiB": peak / MIB})


def evaluation(length: int, config: ModelConfig, setup: Setup) -> Prepared:
    """One evaluation of a network for a clip of ``length`` seconds."""
    model = DualStreamTransformer(config).to(setup.device).eval()
    setup.compile(model.blocks)
    layout = layout_of(config, length)
    sigma = torch.full((1, 1), 0.5, device=setup.device)
    streams = {
        name: layout.input(name, x, sigma) for name, x in random_tokens(layout, 1, setup).items()
    }
    states = torch.randn(1, TEXT_TOKENS, config.text_width, device=setup.device)
    interval = torch.tensor([0.0, layout.duration], device=setup.device)
    real = torch.ones(1, TEXT_TOKENS, dtype=torch.bool, device=setup.device)
    text = TextTokens(states, interval.expand(1, TEXT_TOKENS, 2), real)
    return Prepared(setup.inference(lambda: model(streams, text)), count_parameters([model]))


def layout_of(config: ModelConfig, seconds: int) -> Layout:
    """Layout of a clip of about so many seconds."""
    frames = clock.frames_on_grid(seconds * FPS, TIME_STRIDE)
    steps = clock.latent_steps(frames, TIME_STRIDE)
    shapes = {"video": (steps, CELLS, CELLS), "audio": (frames,)}
    return Layout.of_shapes(
        config,
        shapes,
        fps=FPS,
        time_stride=TIME_STRIDE,
        audio_rate=AUDIO_RATE,
        duration=frames / FPS,
    )


def decoding(length: int, chunk: int | None, setup: Setup) -> Prepared:
    """The picture of a clip of ``length`` seconds, decoded ``chunk`` latent steps at a time and let go."""
    vae = VideoVAE().to(setup.device).eval()
    steps = clock.latent_steps(clock.frames_on_grid(length * FPS, TIME_STRIDE), TIME_STRIDE)
    latents = torch.randn(1, vae.latent_channels, 1, CELLS, CELLS, device=setup.device)

    def run() -> None:
        state, done = None, 0
        while done < steps:
            count = min(chunk or steps, steps - done)
            _, state = vae.decode_chunk(latents.expand(-1, -1, count, -1, -1), state)
            done += count

    return Prepared(torch.inference_mode()(run), count_parameters([vae.decoder]))
