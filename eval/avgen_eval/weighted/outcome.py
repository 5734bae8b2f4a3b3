"""Run a metric over clips: values where it could be measured, a reason where it could not, never a stand-in number."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from avgen import __version__
from avgen_eval.metrics.base import Values
from avgen_eval.weighted.base import Item, WeightedClipMetric, WeightedMetric
from avgen_eval.weighted.catalogue import get_entry, locate, open_metric
from avgen_eval.weighted.weights import Located, Sources, WeightsUnavailableError

Status = Literal["ok", "skipped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a metric.

    Attributes:
        metric: Its name.
        status: ``ok``; ``skipped`` where it cannot apply (no weights, no consent, no suitable clip); ``failed`` where
            something is wrong (another file, a damaged one, an error).
        reason: One line; empty for ``ok``.
        values: By name, finite; empty unless ``ok``.
        by_clip: Values of single clips by the names of the clips; empty for metrics of sets.
        num_items: Clips that were given.
        num_measured: Those that could be measured.
        unmeasured: What could not be, by reason.
        weights: With their hashes and licences.
        signature: Metric, protocol, weights, version and number of clips: values compare only where it is equal.

    Raises:
        ValueError: There is a value without ``ok``, one that is not finite, or no reason.
    """

    metric: str
    status: Status
    reason: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    by_clip: Mapping[str, Values] = field(default_factory=dict)
    num_items: int = 0
    num_measured: int = 0
    unmeasured: Mapping[str, int] = field(default_factory=dict)
    weights: tuple[Located, ...] = ()
    signature: str = ""

    def __post_init__(self) -> None:
        if (self.status == "ok") != (not self.reason) or (self.status != "ok" and self.values):
            raise ValueError(
                f"{self.metric} is {self.status} with reason {self.reason!r} and values "
                f"{dict(self.values)}; values belong to ok, a reason to everything else"
            )
        if not all(map(math.isfinite, self.values.values())):
            raise ValueError(f"{self.metric}: values {dict(self.values)} must be finite; leave out")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "metric": self.metric,
            "status": self.status,
            "reason": self.reason,
            "values": dict(self.values),
            "by_clip": {name: dict(values) for name, values in self.by_clip.items()},
            "num_items": self.num_items,
            "num_measured": self.num_measured,
            "unmeasured": dict(self.unmeasured),
            "weights": [entry.to_dict() for entry in self.weights],
            "signature": self.signature,
        }


def evaluate(
    metric: str, items: Iterable[Item], sources: Sources | None = None, device: str = "cpu"
) -> Outcome:
    """Find the weights of a metric, load them, and measure clips.

    Args:
        metric: Name in the catalogue.
        items: Clips with what is known of them.
        sources: Where weights may come from; the environment if None.
        device: Where networks run.

    Raises:
        ValueError: There is no such metric. Everything else becomes the outcome.
    """
    get_entry(metric)
    located: tuple[Located, ...] = ()
    try:
        located = tuple(locate(metric, sources or Sources()))
        running = open_metric(metric, list(located), device)
    except WeightsUnavailableError as error:
        return Outcome(metric=metric, status="skipped", reason=str(error), weights=located)
    except Exception as error:
        return Outcome(metric=metric, status="failed", reason=_line(error), weights=located)
    return measure(metric, running, items, located)


def measure(
    metric: str, running: WeightedMetric, items: Iterable[Item], located: tuple[Located, ...] = ()
) -> Outcome:
    """Measure clips with a metric that is loaded; an error in one of them fails it as a whole."""
    count, place = 0, "the first clip"
    facts: dict[str, Any] = {"metric": metric, "weights": located}
    try:
        for item in items:
            count, place = count + 1, item.name
            running.update(item)
            place = f"the clip after {item.name}"
        place = "the whole set"
        values = _finite(running.compute()) if count else {}
    except Exception as error:  # whatever libraries raise; a partial mean would be a wrong number
        reason = f"{place}: {_line(error)}"
        return Outcome(status="failed", reason=reason, num_items=count, **facts)
    facts |= {
        "num_items": count,
        "num_measured": running.num_measured,
        "unmeasured": dict(running.unmeasured),
    }
    if isinstance(running, WeightedClipMetric):
        facts["by_clip"] = running.by_clip
    if not values:
        return Outcome(status="skipped", reason=_why(running, count), **facts)
    signature = _signature(metric, running, located)
    return Outcome(status="ok", values=values, signature=signature, **facts)


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: float(value) for name, value in values.items()}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _why(running: WeightedMetric, count: int) -> str:
    if not count:
        return "there are no clips"
    return f"nothing could be measured: {told(running.unmeasured)}"


def told(unmeasured: Mapping[str, int]) -> str:
    """Reasons in words, the most frequent first."""
    return "; ".join(
        f"{reason} ({times} times)" if times > 1 else reason
        for reason, times in Counter(unmeasured).most_common()
    )


def _signature(metric: str, running: WeightedMetric, located: tuple[Located, ...]) -> str:
    weights = [f"{entry.weights.name}:{entry.sha256[:12]}" for entry in located]
    count = f"n:{running.num_measured}"
    return "|".join([metric, running.protocol, *weights, count, f"avgen:{__version__}"])


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"
