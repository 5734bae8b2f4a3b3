"""``avgen bench``: a training step beside the same step of a peer, and the time to generate a clip.

The peer is the LTX-2 transformer of diffusers (Apache-2.0) at equal widths, depth and token counts. Both steps are
forward, mean squared error, backward and AdamW, in bf16 autocast, on the same encoded text; they alternate, so that
what else the machine does falls on both.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from avgen.model.config import ModelConfig, preset
from avgen.model.dual_stream import DualStreamTransformer
from avgen.model.layout import Layout
from avgen.text.base import TextTokens
from avgen_eval.results import provenance, write_json

TEXT_TOKENS = 96
SHAPES = {"video": (13, 8, 8), "audio": (49,)}
FPS, TIME_STRIDE, AUDIO_RATE, DURATION = 25, 4, 25, 1.96


def main(argv: list[str]) -> int:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(prog="avgen bench", description=__doc__)
    parser.add_argument("--preset", default="tiny", help="(%(default)s)")
    parser.add_argument(
        "--batch", type=int, default=16, help="clips per training step (%(default)s)"
    )
    parser.add_argument(
        "--repeats", type=int, default=10, help="steps of each, after two to warm up (%(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="(%(default)s)")
    parser.add_argument(
        "--weights", default="tiny", help="for the time of generation (%(default)s)"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(argv)
    console = Console()
    step = compare_training_steps(options.preset, options.batch, options.repeats, options.device)
    clip = time_generation(options.weights, options.device)
    for name, value in {**step, **clip}.items():
        console.print(f"{name:34} {value}", highlight=False)
    if options.json:
        content = {"provenance": provenance(), "training_step": step, "generation": clip}
        console.print(f"figures: {write_json(options.json, content)}", highlight=False)
    return 0


def compare_training_steps(name: str, batch: int, repeats: int, device: str) -> dict[str, Any]:
    """Seconds per training step of ours and the peer, and the ratio peer / ours with its quartiles."""
    config = preset(name)
    ours, peer = _ours(config, batch, device), _peer(config, batch, device)
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for i in range(repeats + 2):
        for key, step in (("ours", ours), ("peer", peer)):
            elapsed = _timed(step, device)
            if i >= 2:
                seconds[key].append(elapsed)
    ratios = [p / o for o, p in zip(seconds["ours"], seconds["peer"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "ours_seconds_median": round(statistics.median(seconds["ours"]), 3),
        "peer_seconds_median": round(statistics.median(seconds["peer"]), 3),
        "ratio_peer_over_ours_median": round(middle, 3),
        "ratio_quartiles": [round(low, 3), round(high, 3)],
        "preset": name,
        "batch": batch,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
    }


def time_generation(weights: str, device: str, repeats: int = 5) -> dict[str, Any]:
    """Seconds to generate one clip of two seconds, without loading the model."""
    from avgen.caption import Event
    from avgen.pipeline import AVPipeline

    pipe = AVPipeline.from_pretrained(weights, device=device)
    events = [Event.at(0.4, 0.5, "the red ball hits the floor", "visual")]
    pipe("a red ball", events=events, steps=2)
    times = [
        _timed(lambda i=i: pipe("a red ball", events=events, seed=i), device)
        for i in range(repeats)
    ]
    return {
        "clip_seconds_median": round(statistics.median(times), 3),
        "clip_seconds_worst": round(max(times), 3),
    }


def _ours(config: ModelConfig, batch: int, device: str) -> Callable[[], None]:
    model = DualStreamTransformer(config).to(device)
    layout = Layout.of_shapes(
        config, SHAPES, fps=FPS, time_stride=TIME_STRIDE, audio_rate=AUDIO_RATE, duration=DURATION
    )
    states = torch.randn(batch, TEXT_TOKENS, config.text_width, device=device)
    interval = torch.tensor([0.0, DURATION], device=device).expand(batch, TEXT_TOKENS, 2)
    text = TextTokens(
        states, interval, torch.ones(batch, TEXT_TOKENS, dtype=torch.bool, device=device)
    )
    tokens = _tokens(config, layout, batch, device)

    def predict(sigma: Tensor) -> list[Tensor]:
        inputs = {name: layout.input(name, x, sigma) for name, x in tokens.items()}
        return list(model(inputs, text).values())

    return _training_step(model, predict, list(tokens.values()), batch, device)


def _peer(config: ModelConfig, batch: int, device: str) -> Callable[[], None]:
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
    model.to(device)
    layout = Layout.of_shapes(
        config, SHAPES, fps=FPS, time_stride=TIME_STRIDE, audio_rate=AUDIO_RATE, duration=DURATION
    )
    tokens = _tokens(config, layout, batch, device)
    text = torch.randn(batch, TEXT_TOKENS, config.text_width, device=device)
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

    return _training_step(model, predict, list(tokens.values()), batch, device)


def _tokens(config: ModelConfig, layout: Layout, batch: int, device: str) -> dict[str, Tensor]:
    return {
        name: torch.randn(
            batch, len(grid), config.streams[name].channels * config.streams[name].patch ** 2
        ).to(device)
        for name, grid in layout.grids.items()
    }


def _training_step(
    model: nn.Module,
    predict: Callable[[Tensor], list[Tensor]],
    targets: list[Tensor],
    batch: int,
    device: str,
) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            outputs = predict(torch.rand(batch, 1, device=device))
            losses = [
                (o.float() - t).square().mean() for o, t in zip(outputs, targets, strict=True)
            ]
        torch.stack(losses).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _timed(step: Callable[[], Any], device: str) -> float:
    start = time.perf_counter()
    step()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
