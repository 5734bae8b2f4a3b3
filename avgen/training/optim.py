"""Optimiser of the network, and learning-rate schedules."""

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from avgen.training.muon import Muon


def build_optimizer(modules: Iterable[nn.Module], *, lr: float, weight_decay: float) -> Muon:
    """Optimiser over the trainable parameters: matrices of linear layers inside blocks go to Muon."""
    matrices, others = [], []
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                inside = "blocks." in name or "layers." in name
                (
                    matrices if inside and parameter.ndim == 2 and "table" not in name else others
                ).append(parameter)
    return Muon(matrices, others, lr=lr, weight_decay=weight_decay)


def trapezoid(
    optimizer: Optimizer, *, warmup_steps: int, decay_steps: int, max_steps: int
) -> LambdaLR:
    """Linear warm-up, constant, then linear decay to zero over the last ``decay_steps``."""

    def factor(step: int) -> float:
        up = (step + 1) / max(1, warmup_steps)
        down = (max_steps - step) / max(1, decay_steps) if max_steps > 0 else 1.0
        return max(0.0, min(1.0, up, down))

    return LambdaLR(optimizer, factor)


def warmup_cosine(optimizer: Optimizer, *, warmup_steps: int, max_steps: int) -> LambdaLR:
    """Linear warm-up, then half a cosine down to a hundredth of the peak."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min((step - warmup_steps) / max(max_steps - warmup_steps, 1), 1.0)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
