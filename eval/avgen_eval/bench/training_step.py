"""A training step beside the same step of diffusers' LTX-2 transformer (Apache-2.0).

Equal widths, depth and token counts. Both steps are forward, mean squared error, backward and AdamW, in one
precision, with as much encoded text.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from avgen.model.config import ModelConfig, preset
from avgen.model.dual_stream import DualStreamTransformer
from avgen.model.layout import Layout
from avgen.text.base import TextTokens
from avgen_eval.bench.setup import Result, Setup, count_parameters, random_tokens
from avgen_eval.bench.timing import Comparison, Measurement, Prepared

TEXT_TOKENS = 96
SHAPES = {"video": (13, 8, 8), "audio": (49,)}
FPS, TIME_STRIDE, AUDIO_RATE, DURATION = 25, 4, 25, 1.96
OURS, ALIGNED, PEER = "avgen", "avgen, aligned", "diffusers LTX-2"
AS_TRAINED = {"aligned": ("text", "partners"), "exchange_seconds": 0.2}
"""What `recipes/joint.yaml` adds to a preset."""

Predict = Callable[[Tensor], list[Tensor]]


def bench(setup: Setup) -> Result:
    """Seconds per training step."""
    config = preset(setup.preset)
    measurements = setup.measure(
        [comparison(config, way, added) for added, way in setup.ways().items()]
    )
    settings = {
        "preset": setup.preset,
        "batch": setup.batch,
        "repeats": setup.repeats,
        "threads": torch.get_num_threads(),
    }
    return Result(measurements, settings, headline(*measurements[-3:]))


def comparison(config: ModelConfig, setup: Setup, added: str = "") -> Comparison:
    """The steps for a network of a shape, and what their title adds."""
    cases = {
        OURS: lambda: ours(config, setup),
        ALIGNED: lambda: ours(replace(config, **AS_TRAINED), setup),
        PEER: lambda: _peer(config, setup),
    }
    return Comparison(f"training step{added}", cases)


def headline(ours: Measurement, aligned: Measurement, peer: Measurement) -> dict[str, Any]:
    """Medians and the ratios; None where a step cannot run."""
    ratio = peer.ratio and peer.ratio.to_dict()
    costs = aligned.ratio and aligned.ratio.to_dict()
    return {
        "ratio_aligned_over_ours_median": costs and costs["median"],
        "ours_seconds_median": ours.to_dict().get("median"),
        "peer_seconds_median": peer.to_dict().get("median"),
        "ratio_peer_over_ours_median": ratio and ratio["median"],
        "ratio_quartiles": ratio and ratio["quartiles"],
    }


def ours(config: ModelConfig, setup: Setup) -> Prepared:
    """The project's step."""
    model = DualStreamTransformer(config).to(setup.device)
    setup.compile(model.blocks)
    layout = _layout(config)
    states = torch.randn(setup.batch, TEXT_TOKENS, config.text_width, device=setup.device)
    interval = torch.tensor([0.0, DURATION], device=setup.device).expand(*states.shape[:2], 2)
    mask = torch.ones(states.shape[:2], dtype=torch.bool, device=setup.device)
    text = TextTokens(states, interval, mask)
    tokens = random_tokens(layout, setup.batch, setup)

    def predict(sigma: Tensor) -> list[Tensor]:
        inputs = {name: layout.input(name, x, sigma) for name, x in tokens.items()}
        return list(model(inputs, text).values())

    return _training_step(model, predict, tokens, setup)


def _peer(config: ModelConfig, setup: Setup) -> Prepared:
    from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel

    video, audio = config.streams["video"], config.streams["audio"]
    model: Any = LTX2VideoTransformer3DModel(
        in_channels=video.channels * video.patch**2,
        out_channels=video.channels * video.patch**2,
        num_attention_heads=video.num_heads,
        attention_head_dim=config.head_dim,
        cross_attention_dim=video.width,
        audio_in_channels=audio.channels,
        audio_out_channels=audio.channels,
        audio_num_attention_heads=audio.num_heads,
        audio_attention_head_dim=config.head_dim,
        audio_cross_attention_dim=audio.width,
        num_layers=config.depth,
        caption_channels=config.text_width,
        vae_scale_factors=(TIME_STRIDE, 16, 16),
    )
    model.to(setup.device)
    setup.compile(model.transformer_blocks)
    tokens = random_tokens(_layout(config), setup.batch, setup)
    text = torch.randn(setup.batch, TEXT_TOKENS, config.text_width, device=setup.device)
    steps, height, width = SHAPES["video"]

    def predict(sigma: Tensor) -> list[Tensor]:
        return list(
            model(
                tokens["video"],
                tokens["audio"],
                text,
                text,
                timestep=1000 * sigma,
                num_frames=steps,
                height=height // video.patch,
                width=width // video.patch,
                fps=FPS,
                audio_num_frames=SHAPES["audio"][0],
                return_dict=False,
            )
        )

    return _training_step(model, predict, tokens, setup)


def _layout(config: ModelConfig) -> Layout:
    return Layout.of_shapes(
        config, SHAPES, fps=FPS, time_stride=TIME_STRIDE, audio_rate=AUDIO_RATE, duration=DURATION
    )


def _training_step(
    model: nn.Module, predict: Predict, targets: Mapping[str, Tensor], setup: Setup
) -> Prepared:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with setup.precision():
            outputs = predict(torch.rand(setup.batch, 1, device=setup.device))
            losses = [
                (output.float() - target).square().mean()
                for output, target in zip(outputs, targets.values(), strict=True)
            ]
        torch.stack(losses).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return Prepared(step, count_parameters([model]))
