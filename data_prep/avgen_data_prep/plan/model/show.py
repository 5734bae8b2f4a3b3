"""A plan of a model on the terminal."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from avgen_data_prep.plan.model.estimate import ModelPlan
from avgen_data_prep.plan.model.gpus import GIB
from avgen_data_prep.plan.ranges import Range

_SCALES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def show(plan: ModelPlan, console: Console) -> None:
    """Print what a run takes, and what the figures rest on."""
    console.print(Text(f"{plan.name}: {plan.setting}"), highlight=False)
    table = Table("", "", "amount", "", box=None, pad_edge=False)
    _group(table, "parameters", {**plan.parameters, "all": sum(plan.parameters.values())}, _scaled)
    _group(table, "tokens of a clip", plan.tokens, str)
    table.add_row("tokens of a step", "", f"{plan.tokens_per_step:,}", "all GPUs, without text")
    work = {name: value for name, value in plan.flops.items() if value}
    _group(table, "FLOPs of a step", work, _scaled, "on each GPU")
    _memory(table, plan)
    tokens = plan.steps_per_second * plan.tokens_per_step
    table.add_row("MFU", "", _spread(plan.mfu, lambda x: f"{x:.1%}"), plan.mfu_from)
    table.add_row("speed", "steps per second", _spread(plan.steps_per_second, _number), "")
    table.add_row("", "tokens per second", _spread(tokens, _scaled), "all GPUs, without text")
    table.add_row(f"{plan.steps:,} steps", "GPU hours", _spread(plan.gpu_hours, _number), "")
    if plan.cost is None:
        table.add_row("", "cost", "", plan.cost_from)
    else:
        table.add_row("", plan.currency, _spread(plan.cost, _number), plan.cost_from)
    console.print(table)
    for note in plan.notes:
        console.print(Text(f"- {note}"), highlight=False)


def _memory(table: Table, plan: ModelPlan) -> None:
    """What lies in the memory of a GPU, without and with activation checkpointing."""
    _group(table, "GiB of a GPU", plan.memory.state, _gib, "always")
    memory, at = plan.memory, plan.checkpointing
    passing = {"weights in bfloat16": memory.casts, "gathered weights": memory.gathered[at]}
    for name, size in passing.items():
        if size:
            table.add_row("", name, _gib(size), "forward and backward")
    kept = f"with activation checkpointing {_gib(memory.inputs + memory.block)}"
    table.add_row("", "activations", _gib(memory.activations), kept)
    table.add_row("", "scratch of the optimiser", _gib(plan.memory.scratch), "after backward")
    without, less = plan.peak
    told = "with" if plan.checkpointing else "without"
    other = f"{'without' if plan.checkpointing else 'with'} it {_gib(without if plan.checkpointing else less)}"
    peak = plan.peak[plan.checkpointing]
    free = (
        f"{_gib(plan.limit - peak)} free"
        if peak <= plan.limit
        else f"{_gib(peak - plan.limit)} too much"
    )
    table.add_row("", "peak", _gib(peak), f"{told} activation checkpointing, {other}; {free}")


def _group(
    table: Table, heading: str, rows: Mapping[str, Any], text: Callable[[Any], str], told: str = ""
) -> None:
    for name, value in rows.items():
        table.add_row(heading, name, text(value), told)
        heading = ""


def _spread(amount: Range, text: Callable[[float], str]) -> str:
    middle = text(amount.mid)
    if amount.low == amount.high:
        return middle
    return f"{middle} ({text(amount.low)} to {text(amount.high)})"


def _scaled(value: float) -> str:
    scale, name = next((s for s in _SCALES if value >= s[0]), _SCALES[-1])
    return f"{value / scale:.4g} {name}".rstrip()


def _gib(size: float) -> str:
    return f"{size / GIB:.3g}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
