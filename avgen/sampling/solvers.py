"""One step from a noise level to the next: along d(noisy) / d(sigma) = velocity, or with noise drawn anew.

States and velocities are mappings by stream name, so that all streams move together.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

from avgen import flow

State = Mapping[str, Tensor]
Velocity = Callable[[State, Tensor], dict[str, Tensor]]
Noise = Callable[[Tensor], Tensor]
"""Standard normal noise, drawn anew, of the shape of a tensor."""
Solver = Callable[[Velocity, State, Tensor, Tensor, Noise], dict[str, Tensor]]
SolverName = Literal["euler", "heun", "ancestral", "renoise"]


def euler(
    velocity: Velocity, state: State, sigma: Tensor, next_sigma: Tensor, noise: Noise
) -> dict[str, Tensor]:
    """First order, one evaluation."""
    slope = velocity(state, sigma)
    return {name: x + (next_sigma - sigma) * slope[name] for name, x in state.items()}


def heun(
    velocity: Velocity, state: State, sigma: Tensor, next_sigma: Tensor, noise: Noise
) -> dict[str, Tensor]:
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


def ancestral(
    velocity: Velocity, state: State, sigma: Tensor, next_sigma: Tensor, noise: Noise
) -> dict[str, Tensor]:
    """First order, one evaluation; the noise is drawn anew by as much as leaves the distribution as it is.

    What one step gets wrong, later ones can still mend; along the differential equation it stays. Equation 16 of Song
    et al. 2021 (arXiv 2010.02502) with eta 1, for the noise levels of a rectified flow; samplers that are called
    ``euler_ancestral`` elsewhere draw another share of it.
    """
    slope = velocity(state, sigma)
    kept = (1 - sigma) * next_sigma / ((1 - next_sigma) * sigma)
    drawn = (1 - kept.square()).sqrt()
    return {
        name: flow.add_noise(
            flow.denoised(x, slope[name], sigma),
            kept * flow.noise(x, slope[name], sigma) + drawn * noise(x),
            next_sigma,
        )
        for name, x in state.items()
    }


def renoise(
    velocity: Velocity, state: State, sigma: Tensor, next_sigma: Tensor, noise: Noise
) -> dict[str, Tensor]:
    """One evaluation: to the clean data that the velocity points to, and back to the next level with new noise alone.

    It forgets more than `ancestral`, so it mends more, and what it makes varies less than the data do: the clean data
    that a velocity points to are a mean. The step of algorithm 1 of Song et al. 2023 (arXiv 2303.01469), elsewhere
    called LCM, with that mean in place of a consistency model.
    """
    slope = velocity(state, sigma)
    return {
        name: flow.add_noise(flow.denoised(x, slope[name], sigma), noise(x), next_sigma)
        for name, x in state.items()
    }


SOLVERS: dict[str, Solver] = {
    "euler": euler,
    "heun": heun,
    "ancestral": ancestral,
    "renoise": renoise,
}


def solver(name: str) -> Solver:
    """A solver by name.

    Raises:
        ValueError: An unknown name.
    """
    if name not in SOLVERS:
        raise ValueError(f"solver {name!r} is unknown; use one of {', '.join(SOLVERS)}")
    return SOLVERS[name]
