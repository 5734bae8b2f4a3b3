"""A plan on the terminal."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from avgen_data_prep.plan.ranges import Range
from avgen_data_prep.plan.result import Line, Plan

_BYTES = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_TOKENS = ((1e9, "G tokens"), (1e6, "M tokens"), (1e3, "k tokens"), (1.0, "tokens"))


def show(plan: Plan, console: Console) -> None:
    """Print the lines with their bounds and what they rest on, the total, and the notes."""
    table = Table("", "", "amount", plan.currency, "rests on", box=None, pad_edge=False)
    part = ""
    for line in plan.lines:
        cost = "" if line.cost is None else _spread(line.cost, _money)
        heading = "" if line.part == part else line.part
        part = line.part
        table.add_row(heading, Text(line.name), amount_text(line), cost, Text(line.rests_on))
    table.add_row("total", "", "", _spread(plan.total, _money), Text("the sum of all costs above"))
    console.print(table)
    for note in plan.notes:
        console.print(Text(f"- {note}"), highlight=False)


def amount_text(line: Line) -> str:
    """An amount in a unit of fitting size, with its bounds where they differ."""
    if line.unit == "workers":
        return _spread(line.amount, lambda value: f"{value:,.0f}") + " workers"
    scales = {"bytes": _BYTES, "tokens": _TOKENS}.get(line.unit, ((1.0, line.unit),))
    fitting = (scale for scale in scales if line.amount.mid >= scale[0])
    scale, name = next(fitting, scales[-1])
    return _spread(line.amount * (1 / scale), _number) + f" {name}"


def _spread(amount: Range, text: Callable[[float], str]) -> str:
    middle = text(amount.mid)
    if amount.low == amount.high:
        return middle
    return f"{middle} ({text(amount.low)} to {text(amount.high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _money(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
