"""Muon for matrices with AdamW for the rest: convolutional networks converge in far fewer steps.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the scale
of updates after Liu et al., "Muon is scalable for LLM training" (arXiv 2502.16982).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def orthogonalised(matrix: Float[Tensor, "m n"], iterations: int = 5) -> Float[Tensor, "m n"]:
    """The nearest half-orthogonal matrix, nearly: Newton-Schulz steps of fifth order in bf16."""
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        mixed = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.addmm(x, mixed, x, beta=3.4445)
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose update of every weight matrix is orthogonalised; AdamW for the rest.

    Args:
        matrices: Weights of two or more dimensions, read as ``(outputs, inputs * taps)``.
        others: Weights for AdamW: biases, norms, first and last layers.
        lr: Peak learning rate, as one would choose it for AdamW.
        momentum: Of the matrices.
        betas: Of AdamW.
        weight_decay: Decoupled, on matrices.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        others: Iterable[Tensor],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "matrix": True, "weight_decay": weight_decay},
            {"params": list(others), "matrix": False, "weight_decay": 0.0},
        ]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update all weights once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._update_matrix if group["matrix"] else self._update_other
            for weight in group["params"]:
                if weight.grad is not None:
                    update(weight, weight.grad, self.state[weight], group)
        return loss

    def _update_matrix(
        self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        velocity: Tensor = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        matrix = gradient.lerp(velocity, group["momentum"]).flatten(1)
        rms_of_adamw = 0.2 * max(matrix.shape) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        update = orthogonalised(matrix).view_as(weight)
        weight.add_(update, alpha=-group["lr"] * rms_of_adamw)

    def _update_other(
        self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        if not state:
            state.update(step=0, mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["step"])
        square = state["square"] / (1 - second ** state["step"])
        weight.addcdiv_(mean, square.sqrt().add_(1e-8), value=-group["lr"])
