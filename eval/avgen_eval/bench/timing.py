"""Cases timed by turns: warm-up, alternating order, medians and quartiles."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

WARM_UP = 2
SHORTEST = 0.02
"""Seconds that a turn lasts at least: a shorter case runs several times in its turn."""
MOST_RUNS = 1000

Clock = Callable[[], float]


class Quartiles(NamedTuple):
    """First quartile, median and third quartile, never outside of the values."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Quartiles":
        """Of at least two values."""
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


@dataclass(frozen=True)
class Prepared:
    """What is timed, how many parameters it runs through (None where it has none), and other figures by name."""

    run: Callable[[], object]
    parameters: int | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Cases that do the same work.

    Attributes:
        title: What the work is.
        cases: By name, what builds a case; the first one is what the others are compared with.
        unit: ``s`` for seconds per run, or the unit of ``work`` per second.
        work: Amount of work of a run, None where the figure is seconds.
    """

    title: str
    cases: Mapping[str, Callable[[], Prepared]]
    unit: str = "s"
    work: float | None = None


@dataclass(frozen=True)
class Ratio:
    """How many times as long a case takes as another, turn by turn."""

    over: str
    values: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        low, median, high = Quartiles.of(self.values)
        return {"over": self.over, "median": short(median), "quartiles": [short(low), short(high)]}


@dataclass(frozen=True)
class Measurement:
    """Seconds per run of one case in each of its turns, or the reason why there are none.

    Attributes:
        comparison: Title of the comparison.
        case: Name of the case.
        seconds: One per turn; empty where the case cannot run here.
        unit: See `Comparison`.
        work: See `Comparison`.
        parameters: Of what was run.
        ratio: To the first case of the comparison.
        reason: Why the case did not run.
        figures: Other figures by name.
    """

    comparison: str
    case: str
    seconds: tuple[float, ...] = ()
    unit: str = "s"
    work: float | None = None
    parameters: int | None = None
    ratio: Ratio | None = None
    reason: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def quartiles(self) -> Quartiles | None:
        """Of the figure in ``unit``; None where there is a reason instead."""
        if not self.seconds:
            return None
        return Quartiles.of([self.work / s if self.work else s for s in self.seconds])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form: the figure, or the reason."""
        row: dict[str, Any] = {"comparison": self.comparison, "case": self.case}
        if self.quartiles is None:
            return row | {"reason": self.reason}
        low, median, high = self.quartiles
        row |= {"unit": self.unit, "median": short(median), "quartiles": [short(low), short(high)]}
        row["seconds"] = [short(second) for second in self.seconds]
        if self.parameters is not None:
            row["parameters"] = self.parameters
        row |= {name: short(value) for name, value in self.figures.items()}
        return row if self.ratio is None else row | {"ratio": self.ratio.to_dict()}


def compare(
    comparison: Comparison, *, repeats: int, clock: Clock = time.perf_counter
) -> list[Measurement]:
    """Time the cases by turns, in one order and then in the other.

    A case that fails, while it is built or later, takes no further turn and becomes a row with the reason.

    Args:
        comparison: What is compared.
        repeats: Turns of each case after its warm-up, at least 2.
        clock: Seconds; see `clock_of`.
    """
    entrants = {name: _Entrant(prepare, clock) for name, prepare in comparison.cases.items()}
    order = list(entrants.values())
    for entrant in order:
        entrant.attempt(entrant.warm_up)
    for _ in range(repeats):
        for entrant in order:
            entrant.attempt(entrant.take_turn)
        order.reverse()
    first, reference = next(iter(entrants.items()))
    return [
        Measurement(
            comparison.title,
            name,
            tuple(entrant.seconds),
            comparison.unit,
            comparison.work,
            entrant.parameters,
            None if entrant is reference else _ratio(entrant, reference, first),
            entrant.reason,
            entrant.figures,
        )
        for name, entrant in entrants.items()
    ]


def clock_of(device: str) -> Clock:
    """A clock in seconds that first waits for all that was asked of the device."""
    if torch.device(device).type != "cuda":
        return time.perf_counter

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def reason_of(error: Exception) -> str:
    """An error in one line."""
    line = next(iter(str(error).strip().splitlines()), "")
    advice = "; pip install 'avgen[diffusers]'" if isinstance(error, ModuleNotFoundError) else ""
    return f"{type(error).__name__}: {line[:200]}{advice}"


def short(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


@dataclass
class _Entrant:
    """One case while it is timed."""

    prepare: Callable[[], Prepared]
    clock: Clock
    run: Callable[[], object] | None = None
    parameters: int | None = None
    runs: int = 1
    seconds: list[float] = field(default_factory=list)
    reason: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    def attempt(self, action: Callable[[], None]) -> None:
        if self.reason is not None:
            return
        try:
            action()
        except Exception as error:
            # Whatever a peer raises, and out of memory: the other cases go on without it.
            self.reason, self.run, self.seconds = reason_of(error), None, []

    def warm_up(self) -> None:
        prepared = self.prepare()
        self.run, self.parameters = prepared.run, prepared.parameters
        self.figures = prepared.figures
        fastest = min(self._time() for _ in range(WARM_UP))
        self.runs = MOST_RUNS if fastest <= 0 else min(MOST_RUNS, math.ceil(SHORTEST / fastest))

    def take_turn(self) -> None:
        self.seconds.append(self._time())

    def _time(self) -> float:
        assert self.run is not None
        start = self.clock()
        for _ in range(self.runs):
            self.run()
        return (self.clock() - start) / self.runs


def _ratio(entrant: _Entrant, reference: _Entrant, name: str) -> Ratio | None:
    if not (entrant.seconds and reference.seconds):
        return None
    pairs = zip(entrant.seconds, reference.seconds, strict=True)
    return Ratio(name, tuple(a / b for a, b in pairs))
