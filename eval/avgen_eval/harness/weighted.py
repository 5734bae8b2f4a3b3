"""Metrics with weights that the user brings, as figures of a run; see docs/metrics-with-weights.md."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from avgen_eval.harness.decode import decode
from avgen_eval.harness.manifest import Item
from avgen_eval.harness.score import Figure
from avgen_eval.metrics.base import Field
from avgen_eval.statistics import clustered_interval
from avgen_eval.weighted.base import Item as WeightedItem
from avgen_eval.weighted.catalogue import check_given, choose, get_class
from avgen_eval.weighted.outcome import Outcome, evaluate, told
from avgen_eval.weighted.weights import Sources


def weighted_figures(
    names: Sequence[str], items: Sequence[Item], sources: Sources
) -> tuple[list[Figure], dict[str, str]]:
    """Run metrics over the clips, one metric after the other; clips are decoded for each and not kept.

    Args:
        names: Of the catalogue, such as ``clap_score``, or ``default`` for all that are free to use.
        items: The clips; transcripts and face boxes are read from ``meta``.
        sources: Where weights come from.

    Returns:
        Figures, and the hashes of the weights that were used by their names.

    Raises:
        ValueError: There is no such metric, or a path that was given is not what it needs, see `check_given`.
    """
    metrics = choose(names)
    check_given(metrics, sources)
    figures: list[Figure] = []
    hashes: dict[str, str] = {}
    for name in metrics:
        lost: Counter[str] = Counter()
        outcome = evaluate(name, _decoded(items, lost), sources)
        for value, kind in get_class(name).fields.items():
            figures.append(_figure(outcome, lost, value, kind, _ends(outcome, value, items)))
        hashes |= {located.weights.name: located.sha256 for located in outcome.weights}
    return figures, hashes


def _decoded(items: Sequence[Item], lost: Counter[str]) -> Iterator[WeightedItem]:
    """What the metrics take; clips that cannot be decoded are counted in ``lost``."""
    for item in items:
        decoded = decode(item)
        if decoded.clip is None:
            lost["the clip could not be decoded"] += 1
            continue
        yield WeightedItem(
            clip=decoded.clip,
            name=item.id,
            text=decoded.caption.text if decoded.caption else None,
            reference=decoded.reference,
            transcript=item.meta.get("transcript"),
            face=item.meta.get("face"),
        )


def _ends(outcome: Outcome, value: str, items: Sequence[Item]) -> dict[str, float | None]:
    """The 95% interval of a mean over clips, with prompts as clusters; nothing for values of sets."""
    values = [outcome.by_clip.get(item.id, {}).get(value) for item in items]
    if value not in outcome.values or not any(number is not None for number in values):
        return {}
    prompts = [item.prompt for item in items]
    interval = clustered_interval(values, prompts, np.random.default_rng(0))
    return {"low": interval.low, "high": interval.high} if interval else {}


def _figure(
    outcome: Outcome, lost: Counter[str], value: str, kind: Field, ends: dict[str, float | None]
) -> Figure:
    shared: dict[str, Any] = {
        "id": f"{outcome.metric}.{value}",
        "unit": kind.unit,
        "better": kind.better,
        "signature": outcome.signature,
    }
    missing = told(lost + Counter(outcome.unmeasured))
    if value in outcome.values:
        note = f"left out: {missing}" if missing else ""
        shared |= {"value": outcome.values[value], "num": outcome.num_measured, **ends}
        return Figure(status="ok", reason=note, **shared)
    if outcome.status == "ok" or (lost and not outcome.num_items):
        reason = f"could not be measured: {missing}" if missing else "could not be measured"
        return Figure(status="skipped", reason=reason, **shared)
    return Figure(status=outcome.status, reason=outcome.reason, **shared)
