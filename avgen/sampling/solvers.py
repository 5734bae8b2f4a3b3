"""One step of the ordinary differential equation d(noisy) / d(sigma) = velocity.

States and velocities are mappings by stream name, so that all streams move together.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

State = Mapping[str, Tensor]
Velocity = Callable[[State, Tensor], dict[str, Tensor]]
SolverName = Literal["euler", "heun"]


def euler(velocity: Velocity, state: State, sigma: Tensor, next_sigma: Tensor) -> dict[str, Tensor]:
    """First order, one evaluation."""
    slope = velocity(state, sigma)
    return {name: x + (next_sigma - sigma) * slope[name] for name, x in state.items()}


def heun(velocity: Velocity, state: State, sigma: Tensor, next_sigma: Tensor) -> dict[str, Tensor]:
    """Second order, two evaluations (one in the step to zero; Karras et al. 2022, arXiv 2206.00364)."""
    slope = velocity(state, sigma)
    predicted = {name: x + (next_sigma - sigma) * slope[name] for name, x in state.items()}
    if float(next_sigma) == 0.0:
        return predicted
    corrected = velocity(predicted, next_sigma)
    return {
        name: x + (next_sigma - sigma) * (slope[name] + corrected[name]) / 2
        for name, x in state.items()
    }


SOLVERS: dict[str, Callable[[Velocity, State, Tensor, Tensor], dict[str, Tensor]]] = {
    "euler": euler,
    "heun": heun,
}


def solver(name: str) -> Callable[[Velocity, State, Tensor, Tensor], dict[str, Tensor]]:
    """A solver by name.

    Raises:
        ValueError: An unknown name.
    """
    if name not in SOLVERS:
        raise ValueError(f"solver {name!r} is unknown; use one of {', '.join(SOLVERS)}")
    return SOLVERS[name]
