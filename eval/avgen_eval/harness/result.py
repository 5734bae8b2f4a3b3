"""Results on disk: a JSON file for people and comparisons, and a Parquet file with one row per clip."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avgen_eval.harness.manifest import Item, read_manifest, write_manifest
from avgen_eval.harness.score import Figure, Record, Scores
from avgen_eval.harness.scorers import Moments
from avgen_eval.harness.suite import Suite
from avgen_eval.results import provenance, write_json

KIND = "avgen.eval.run/1"
RECORDS = "records.parquet"
CLIPS = "clips.jsonl"


class ResultError(ValueError):
    """A result that cannot be read or compared; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run measured, as read back.

    Attributes:
        path: The JSON file.
        name: Label of the run.
        content: Everything in the JSON file.
        figures: By id.
        records: One per clip.
    """

    path: Path
    name: str
    content: dict[str, Any]
    figures: dict[str, Figure]
    records: list[Record]

    def items(self) -> dict[str, Item]:
        """The clips by id, as they were given; none for results of older versions."""
        manifest = self.content.get("clips")
        items = read_manifest(self.path.parent / manifest) if manifest else []
        return {item.id: item for item in items}


def write_result(
    folder: Path,
    name: str,
    source: str,
    items: Sequence[Item],
    suite: Suite,
    scores: Scores,
    weights: dict[str, str] | None = None,
) -> Path:
    """Write ``result.json``, ``records.parquet`` and ``clips.jsonl``, a manifest, into a folder.

    Args:
        folder: Made if it does not exist.
        name: Label of the run.
        source: Where the clips came from, for people.
        items: The clips.
        suite: What was measured.
        scores: What came out.
        weights: Hashes of the weights used, by metric.
    """
    records = scores.records
    failed = [record for record in records if record.failed]
    content = {
        "kind": KIND,
        "name": name,
        "suite": {"name": suite.name, "version": suite.version},
        "data": {
            "source": source,
            "num_expected": len(records),
            "num_scored": len(records) - len(failed),
            "num_failed": len(failed),
            "failures": [{"id": record.id, "reason": record.failed} for record in failed],
            "num_prompts": len({record.prompt for record in records}),
            "num_with_findings": sum(bool(record.findings) for record in records),
            "findings": dict(
                Counter(text for record in records for text in record.findings).most_common(50)
            ),
            "conditions": scores.conditions,
        },
        "environment": provenance(),
        "weights": weights or {},
        "figures": [figure.to_dict() for figure in scores.figures],
        "records": RECORDS,
        "clips": CLIPS,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder / CLIPS, items)
    pq.write_table(_table(records), folder / RECORDS)
    return write_json(folder / "result.json", content)


def read_result(path: str | Path) -> Result:
    """Read a result from its JSON file or its folder.

    Raises:
        ResultError: It is no result, is of a newer version, or its records are missing.
    """
    path = Path(path)
    path = path / "result.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read as JSON: {error}") from error
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind != KIND:
        raise ResultError(
            f"{path}: is of kind {kind!r}, not {KIND!r}; give what `avgen eval run` wrote"
        )
    try:
        rows = pq.read_table(path.parent / content["records"]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ResultError(f"{path}: its records cannot be read: {error}") from error
    figures = [Figure(**figure) for figure in content["figures"]]
    return Result(
        path=path,
        name=content["name"],
        content=content,
        figures={figure.id: figure for figure in figures},
        records=[_record(row) for row in rows],
    )


def _table(records: list[Record]) -> pa.Table:
    """Columns for the fields of a record, then one per value."""
    fixed = {
        "id": pa.array([r.id for r in records], pa.string()),
        "prompt": pa.array([r.prompt for r in records], pa.string()),
        "seed": pa.array([r.seed for r in records], pa.int64()),
        "file": pa.array([r.file for r in records], pa.string()),
        "failed": pa.array([r.failed for r in records], pa.string()),
        "findings": pa.array([list(r.findings) for r in records], pa.list_(pa.string())),
        "skipped": pa.array([json.dumps(r.skipped) for r in records], pa.string()),
        "curves": pa.array([json.dumps(r.curves) for r in records], pa.string()),
        "events": pa.array([json.dumps(_events(r)) for r in records], pa.string()),
    }
    names = list(records[0].values) if records else []
    values = {name: pa.array([r.values[name] for r in records], pa.float64()) for name in names}
    return pa.table(fixed | values)


def _record(row: dict[str, Any]) -> Record:
    fixed = ("id", "prompt", "seed", "file", "failed", "findings", "skipped", "curves", "events")
    curves, events = (json.loads(row.get(key, "{}")) for key in ("curves", "events"))
    return Record(
        id=row["id"],
        prompt=row["prompt"],
        seed=row["seed"],
        file=row["file"],
        failed=row["failed"],
        findings=tuple(row["findings"]),
        values={key: value for key, value in row.items() if key not in fixed},
        skipped=json.loads(row["skipped"]),
        curves={name: tuple((t, v) for t, v in points) for name, points in curves.items()},
        events={
            scorer: {stream: _moments(times) for stream, times in streams.items()}
            for scorer, streams in events.items()
        },
    )


def _events(record: Record) -> dict[str, Any]:
    return {
        scorer: {stream: asdict(times) for stream, times in streams.items()}
        for scorer, streams in record.events.items()
    }


def _moments(times: dict[str, list[float]]) -> Moments:
    return Moments(requested=tuple(times["requested"]), found=tuple(times["found"]))
