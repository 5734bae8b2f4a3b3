"""Clips of different length in one batch: padded to the longest, or packed without padding."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from avgen.model.config import ModelConfig, preset
from avgen.model.dual_stream import DualStreamTransformer
from avgen.model.inputs import StreamInput, pack, pad
from avgen.text.base import TextTokens
from avgen_eval.bench.clip_length import TEXT_TOKENS, layout_of
from avgen_eval.bench.setup import Result, Setup, count_parameters, random_tokens
from avgen_eval.bench.timing import Comparison, Prepared

MIXTURES = {"equal lengths": (4, 4, 4, 4), "mixed lengths": (10, 4, 2, 2)}
WAYS: dict[str, Callable[[Sequence[StreamInput]], StreamInput]] = {"packed": pack, "padded": pad}


def bench(setup: Setup) -> Result:
    """Seconds of forward and backward over one batch."""
    config = preset(setup.preset)
    comparisons = [
        Comparison(
            f"{name} of {', '.join(map(str, seconds))} s",
            {way: partial(_prepare, join, config, seconds, setup) for way, join in WAYS.items()},
        )
        for name, seconds in MIXTURES.items()
    ]
    return Result(setup.measure(comparisons), {"preset": setup.preset})


def _prepare(
    join: Callable[[Sequence[StreamInput]], StreamInput],
    config: ModelConfig,
    seconds: Sequence[int],
    setup: Setup,
) -> Prepared:
    model = DualStreamTransformer(config).to(setup.device)
    setup.compile(model.blocks)
    layouts = [layout_of(config, length) for length in seconds]
    sigma = torch.full((1, 1), 0.5, device=setup.device)
    clips = [
        {name: layout.input(name, x, sigma) for name, x in random_tokens(layout, 1, setup).items()}
        for layout in layouts
    ]
    streams = {name: join([clip[name] for clip in clips]) for name in config.streams}
    states = torch.randn(len(clips), TEXT_TOKENS, config.text_width, device=setup.device)
    ends = torch.tensor([[0.0, layout.duration] for layout in layouts], device=setup.device)
    real = torch.ones(states.shape[:2], dtype=torch.bool, device=setup.device)
    text = TextTokens(states, ends[:, None].expand(-1, TEXT_TOKENS, -1), real)

    def step() -> None:
        with setup.precision():
            outputs = model(streams, text)
        torch.stack([x.float().square().mean() for x in outputs.values()]).sum().backward()
        model.zero_grad()

    computed = sum(x.tokens.shape[0] * x.tokens.shape[1] for x in streams.values())
    return Prepared(step, count_parameters([model]), {"tokens": computed})
