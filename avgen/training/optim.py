"""Optimiser and learning-rate schedule of the network."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from torch.optim.lr_scheduler import LambdaLR


class MuonAdamW(Optimizer):
    """Muon for the matrices inside blocks and AdamW for everything else, behind one optimiser.

    Muon: Jordan et al. 2024; scaled so that its steps are as large as AdamW's (Liu et al. 2025, arXiv 2502.16982), so
    both share one learning rate.

    Args:
        matrices: Two-dimensional weights of hidden layers.
        others: Embeddings, heads, scales, biases.
        lr: Learning rate.
        weight_decay: Decoupled, on ``matrices``.
        betas: Of AdamW.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        others: Iterable[Tensor],
        *,
        lr: float,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        muon = Muon(list(matrices), lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        adamw = AdamW(list(others), lr=lr, weight_decay=0.0, betas=betas, fused=True)
        self.parts = (muon, adamw)
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        # The groups are shared, so that a learning-rate schedule on this optimiser reaches both parts.
        self.param_groups = [*muon.param_groups, *adamw.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of both parts."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """State of both parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def build_optimizer(modules: Iterable[nn.Module], *, lr: float, weight_decay: float) -> MuonAdamW:
    """Optimiser over the trainable parameters: matrices of linear layers inside blocks go to Muon."""
    matrices, others = [], []
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                inside = "blocks." in name or "layers." in name
                (matrices if inside and parameter.ndim == 2 and "table" not in name else others).append(parameter)
    return MuonAdamW(matrices, others, lr=lr, weight_decay=weight_decay)


def trapezoid(optimizer: Optimizer, *, warmup_steps: int, decay_steps: int, max_steps: int) -> LambdaLR:
    """Linear warm-up, constant, then linear decay to zero over the last ``decay_steps``."""

    def factor(step: int) -> float:
        up = (step + 1) / max(1, warmup_steps)
        down = (max_steps - step) / max(1, decay_steps) if max_steps > 0 else 1.0
        return max(0.0, min(1.0, up, down))

    return LambdaLR(optimizer, factor)
