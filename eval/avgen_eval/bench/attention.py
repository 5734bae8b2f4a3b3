"""The attention backends over sequence lengths, forward alone and with backward."""

from collections.abc import Sequence
from typing import Any

import torch

from avgen.model.config import preset
from avgen.ops.attention import BACKENDS, Backend, attend, resolve_backend
from avgen_eval.bench.limits import Budget
from avgen_eval.bench.setup import Result, Setup
from avgen_eval.bench.timing import WARM_UP, Comparison, Measurement, Prepared, clock_of

LENGTHS = {
    "cpu": (256, 512, 1024, 2048, 4096, 16_384, 65_536),
    "cuda": (256, 1024, 4096, 16_384, 65_536),
}
PASSES = {"forward": False, "with backward": True}


def bench(setup: Setup, lengths: Sequence[int] = ()) -> Result:
    """Seconds per call for one sequence, with the heads of the preset's video stream.

    A length that would not fit into memory or into the budget of a row is a row with the reason.

    Args:
        setup: How to run.
        lengths: Tokens of the sequence; empty for those of the device in `LENGTHS`.
    """
    kind = torch.device(setup.device).type
    config = preset(setup.preset)
    heads = config.streams["video"].num_heads
    usable, refused = _backends(setup.device)
    budget = Budget(setup.budget, setup.repeats + WARM_UP + 1, setup.device)
    comparisons = [
        Comparison(
            f"{length} tokens, {name}",
            {
                backend: lambda b=backend, n=length, t=trains: _call(
                    b, (1, n, heads, config.head_dim), t, setup, budget
                )
                for backend in usable
            },
        )
        for length in lengths or LENGTHS[kind]
        for name, trains in PASSES.items()
    ]
    settings = {"heads": heads, "head_dim": config.head_dim, "batch": 1}
    return Result([*setup.measure(comparisons), *refused], settings)


def _backends(device: str) -> tuple[list[Backend], list[Measurement]]:
    """Backends that a device has, and rows for those that it has not."""
    usable: list[Backend] = []
    refused = []
    for name in BACKENDS:
        try:
            usable.append(resolve_backend(name, device)[0])  # type: ignore[arg-type]
        except ValueError as error:
            refused.append(Measurement("any length", name, reason=str(error)))
    return usable, refused


def _call(
    backend: Backend, shape: tuple[int, ...], trains: bool, setup: Setup, budget: Budget
) -> Prepared:
    length, case = shape[1], (backend, trains)
    budget.check(case, length, _weights_bytes(backend, shape, trains, setup))
    form: dict[str, Any] = {"device": setup.device, "dtype": getattr(torch, setup.dtype)}
    query, key, value = (torch.randn(shape, **form, requires_grad=trains) for _ in range(3))
    gradient = torch.randn(shape, **form)

    def forward() -> object:
        return attend(query, key, value, backend=backend)

    def both() -> object:
        read = attend(query, key, value, backend=backend)
        return torch.autograd.grad(read, (query, key, value), gradient)

    run, clock = both if trains else forward, clock_of(setup.device)
    if case not in budget:
        run()  # the first call of all is no measure of the others
    start = clock()
    run()
    budget.record(case, length, clock() - start)
    return Prepared(run)


def _weights_bytes(backend: Backend, shape: tuple[int, ...], trains: bool, setup: Setup) -> int:
    """What `plain_attention` keeps: scores and weights, and as much again for their gradients."""
    if backend != "plain":
        return 0
    _, length, heads, _ = shape
    each = heads * length**2 * getattr(torch, setup.dtype).itemsize
    return each * (4 if trains else 2)
