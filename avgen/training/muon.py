"""Muon for matrices with AdamW for the rest: convolutional networks converge in far fewer steps.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the scale
of updates after Liu et al., "Muon is scalable for LLM training" (arXiv 2502.16982).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from avgen.ops.precision import computes_bfloat16
from avgen.ops.sharded import gathered, local, scattered


def orthogonalised(
    matrices: Float[Tensor, "*batch m n"], iterations: int = 5
) -> Float[Tensor, "*batch m n"]:
    """The nearest half-orthogonal matrices, nearly: Newton-Schulz steps of fifth order.

    In bfloat16, which is exact enough, where the device multiplies in it.
    """
    x = matrices.bfloat16() if computes_bfloat16(matrices.device) else matrices.float()
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).reshape(-1, *sorted(x.shape[-2:]))
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        mixed = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, mixed, x, beta=3.4445)
    return (x.mT if tall else x).reshape(matrices.shape).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose update of every weight matrix is orthogonalised; AdamW for the rest.

    Weights may be spread over processes as DTensors. Then the directions of matrices are gathered, and every process
    orthogonalises the whole and keeps its share.

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
            for weight in group["params"]:
                # Also without a gradient, so that a checkpoint holds the same whatever was trained.
                if not self.state[weight]:
                    self.state[weight] = _initial_state(weight, group)
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if group["matrix"]:
                for alike in _by_shape(weights):
                    self._update_matrices(alike, group)
            else:
                for weight in weights:
                    self._update_other(weight, self.state[weight], group)
        return loss

    def _update_matrices(self, weights: Sequence[Tensor], group: dict[str, Any]) -> None:
        """Weights of one shape together: many small products are slow one by one."""
        directions = torch.stack([self._direction(weight, group) for weight in weights])
        rms_of_adamw = 0.2 * max(directions.shape[1:]) ** 0.5
        for weight, update in zip(weights, orthogonalised(directions), strict=True):
            part = local(weight).mul_(1 - group["lr"] * group["weight_decay"])
            step = scattered(update.view(weight.shape), weight)
            part.add_(step, alpha=-group["lr"] * rms_of_adamw)

    def _direction(self, weight: Tensor, group: dict[str, Any]) -> Tensor:
        """Nesterov momentum as a whole matrix."""
        assert weight.grad is not None
        gradient, velocity = local(weight.grad), local(self.state[weight]["momentum"])
        velocity.lerp_(gradient, 1 - group["momentum"])
        return gathered(gradient.lerp(velocity, group["momentum"]), weight).flatten(1)

    def _update_other(self, weight: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        assert weight.grad is not None
        gradient, mean, square = map(local, (weight.grad, state["mean"], state["square"]))
        state["step"] += 1
        first, second = group["betas"]
        mean.lerp_(gradient, 1 - first)
        square.lerp_(gradient.square(), 1 - second)
        mean = mean / (1 - first ** state["step"])
        square = square / (1 - second ** state["step"])
        local(weight).addcdiv_(mean, square.sqrt().add_(1e-8), value=-group["lr"])


def _initial_state(weight: Tensor, group: dict[str, Any]) -> dict[str, Any]:
    if group["matrix"]:
        return {"momentum": torch.zeros_like(weight)}
    return {"step": 0, "mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}


def _by_shape(weights: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    groups: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for weight in weights:
        groups[weight.shape].append(weight)
    return groups.values()
