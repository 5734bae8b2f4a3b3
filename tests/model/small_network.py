"""A small network of two streams, aligned in time, and what it is given."""

import torch

from avgen.model.config import ModelConfig, StreamConfig
from avgen.model.dual_stream import DualStreamTransformer
from avgen.model.inputs import StreamInput
from avgen.model.patchify import audio_grid, video_grid

CONFIG = ModelConfig(
    streams={
        "video": StreamConfig(channels=2, width=32, num_heads=2, patch=2, spatial=True),
        "audio": StreamConfig(channels=3, width=16, num_heads=1),
    },
    depth=2,
    head_dim=16,
    text_width=16,
    aligned=("text", "partners"),
)


def random_network(config: ModelConfig) -> DualStreamTransformer:
    """One in which all weights matter: gates and heads, which start at zero, are not."""
    torch.manual_seed(0)
    model = DualStreamTransformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_clip(
    config: ModelConfig, steps: int, seed: int = 0, start: float = 0.0
) -> dict[str, StreamInput]:
    """``steps`` latents of a picture and the sound that lasts as long, from ``start`` on."""
    generator = torch.Generator().manual_seed(seed)
    grids = {
        "video": video_grid((steps, 4, 4), patch=2, time_stride=4, fps=25),
        "audio": audio_grid(1 + 4 * (steps - 1), 25),
    }
    numbers = {name: s.channels * s.patch**2 for name, s in config.streams.items()}
    return {
        name: StreamInput(
            torch.randn(1, len(grid), numbers[name], generator=generator),
            torch.full((1, len(grid)), 0.5),
            grid.interval[None] + start,
            None if grid.place is None else grid.place[None],
        )
        for name, grid in grids.items()
    }
