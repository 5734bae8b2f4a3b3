"""A plan: lines, each with what it rests on, their total, and its JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from avgen_data_prep.plan.ranges import Range

SCHEMA = "avgen.plan/1"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One figure of a plan.

    Attributes:
        part: ``storage``, ``transfer``, ``work``, ``captions`` or ``workers``.
        name: Of what.
        amount: How much.
        unit: Of the amount: ``bytes``, ``hours``, ``tokens``, ``workers`` or ``days``.
        cost: In the plan's currency; None where another line has it.
        rests_on: What was measured where, what was given, and prices with their days.
        price: Name of the price; None without a cost.
    """

    part: str
    name: str
    amount: Range
    unit: str
    cost: Range | None
    rests_on: str
    price: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All lines, and what to know of them.

    Attributes:
        currency: Of the costs.
        lines: The figures.
        notes: What is not in them, and what is doubtful.
    """

    currency: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    @property
    def total(self) -> Range:
        """Sum of the costs."""
        costs = (line.cost for line in self.lines if line.cost is not None)
        return sum(costs, Range.exactly(0.0))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ranges are lists of low, middle and high."""
        lines = [
            {
                **asdict(line),
                "amount": line.amount.to_list(),
                "cost": line.cost and line.cost.to_list(),
            }
            for line in self.lines
        ]
        return {
            "schema": SCHEMA,
            "currency": self.currency,
            "total": self.total.to_list(),
            "lines": lines,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """Read what `to_dict` made.

        Raises:
            ValueError: Another schema.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(
                f"schema {data.get('schema')!r} is not {SCHEMA!r}; make the plan again"
            )
        lines = tuple(
            Line(
                **{
                    **line,
                    "amount": Range(*line["amount"]),
                    "cost": line["cost"] and Range(*line["cost"]),
                }
            )
            for line in data["lines"]
        )
        return cls(currency=data["currency"], lines=lines, notes=tuple(data["notes"]))
