"""Rows of finished runs, one line of JSON each, appended when a run is done: what is there is not run again."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avgen.checkpoint import MODEL_FILE, find_weights
from avgen.model.bundle import Network
from avgen.pipeline import AVPipeline
from avgen_eval.ablations.data import prepare_codecs, prepare_data
from avgen_eval.ablations.measuring import measure
from avgen_eval.ablations.study import Variant, find_variant, studies
from avgen_eval.ablations.training import train
from avgen_eval.results import provenance
from avgen_eval.roundtrip import load_codecs


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of runs whose variants are still defined as they were then.

    Raises:
        ValueError: A line is not a row.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            variant = find_variant(row["variant"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {error}; remove the line") from error
        if row["key"] == variant.key:
            rows.append(row)
    return rows


def run(names: Sequence[str], seeds: Sequence[int], work: Path, path: Path) -> None:
    """Train and measure what has no row yet; seeds in the outer order, so that all variants get their first one first.

    Args:
        names: Variants.
        seeds: Of training, or of sampling where weights ship.
        work: Folder of codecs, data and trained weights.
        path: File of the rows.
    """
    for seed in seeds:
        for name in names:
            done = {(row["variant"], row["seed"]) for row in read_rows(path)}
            if (name, seed) not in done:
                _append(path, _row(find_variant(name), seed, work))


def _append(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, sort_keys=True) + "\n")


def _row(variant: Variant, seed: int, work: Path) -> dict[str, Any]:
    source = studies()[0].get(str(variant.weights), variant)
    if source.training is None:
        codecs = find_weights(str(source.weights))
        weights, facts, noise = codecs / MODEL_FILE, {}, seed
    else:
        codecs = prepare_codecs(source, work)
        weights, facts, noise = *_trained(source, seed, work), 0
    pair = load_codecs(str(codecs))
    pipeline = AVPipeline(Network.from_file(weights), pair.video, pair.audio)
    head = {"variant": variant.name, "seed": seed, "key": variant.key, "provenance": provenance()}
    return {**head, **facts, **measure(pipeline, variant, noise)}


def _trained(variant: Variant, seed: int, work: Path) -> tuple[Path, dict[str, Any]]:
    """Weights of a variant with what is known of their training; those of a run before are used again."""
    stem = work / "weights" / f"{variant.name}-{variant.key}-{seed}"
    weights, told = stem.with_suffix(".safetensors"), stem.with_suffix(".json")
    if not told.exists():
        start = _trained(find_variant(variant.start), 0, work)[0] if variant.start else None
        data = prepare_data(variant, work)
        started = time.perf_counter()
        network, losses = train(variant, seed, data, start)
        network.save(weights, variant=variant.name, seed=seed)
        facts = {"losses": losses, "training_seconds": time.perf_counter() - started}
        told.write_text(json.dumps(facts), encoding="utf-8")
    return weights, json.loads(told.read_text(encoding="utf-8"))
