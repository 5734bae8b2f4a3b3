"""A small network of two streams, aligned in time."""

import torch

from avgen.model.config import ModelConfig, StreamConfig
from avgen.model.dual_stream import DualStreamTransformer

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
