"""Metrics with weights that the user brings, as figures of a run; see docs/metrics-with-weights.md."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from avgen_eval.harness.decode import decode
from avgen_eval.harness.manifest import Item
from avgen_eval.harness.score import Figure
from avgen_eval.metrics.base import Field
from avgen_eval.weighted.base import Item as WeightedItem
from avgen_eval.weighted.catalogue import get_entry
from avgen_eval.weighted.outcome import Outcome, evaluate
from avgen_eval.weighted.weights import Sources


def weighted_figures(
    names: Sequence[str], items: Sequence[Item], sources: Sources
) -> tuple[list[Figure], dict[str, str]]:
    """Run metrics over the clips, one metric after the other; clips are decoded for each and not kept.

    Args:
        names: Of the catalogue, such as ``clap_score``.
        items: The clips; transcripts and face boxes are read from ``meta``.
        sources: Where weights come from.

    Returns:
        Figures, and the hashes of the weights that were used by their names.

    Raises:
        ValueError: There is no such metric.
    """
    figures: list[Figure] = []
    hashes: dict[str, str] = {}
    for name in names:
        fields = _fields(name)
        outcome = evaluate(name, _decoded(items), sources)
        figures += [_figure(outcome, value, kind) for value, kind in fields.items()]
        hashes |= {located.weights.name: located.sha256 for located in outcome.weights}
    return figures, hashes


def _decoded(items: Sequence[Item]) -> Iterator[WeightedItem]:
    for item in items:
        decoded = decode(item)
        if decoded.clip is not None:
            yield WeightedItem(
                clip=decoded.clip,
                name=item.id,
                text=decoded.caption.text if decoded.caption else None,
                reference=decoded.reference,
                transcript=item.meta.get("transcript"),
                face=item.meta.get("face"),
            )


def _fields(name: str) -> dict[str, Field]:
    module, _, target = get_entry(name).target.partition(":")
    return dict(getattr(import_module(f"avgen_eval.weighted.{module}"), target).fields)


def _figure(outcome: Outcome, value: str, kind: Field) -> Figure:
    shared: dict[str, Any] = {
        "id": f"{outcome.metric}.{value}",
        "unit": kind.unit,
        "better": kind.better,
        "signature": outcome.signature,
    }
    if value not in outcome.values:
        reason = outcome.reason or "could not be measured"
        status = outcome.status if outcome.status != "ok" else "skipped"
        return Figure(status=status, reason=reason, **shared)
    return Figure(status="ok", value=outcome.values[value], num=outcome.num_measured, **shared)
