"""What a run ends with: ``manifest.parquet`` of clips, and ``failed.parquet`` of all that is not in it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from avgen.data.schema import atomic
from avgen_data_prep.build import Record, fingerprint
from avgen_data_prep.pipeline.ledger import LEDGER, Ledger, keys_of, types_of
from avgen_data_prep.pipeline.spec import Pipeline, PipelineError
from avgen_data_prep.pipeline.stage import Gather, Row
from avgen_data_prep.scan import SCANNED

MANIFEST = "manifest.parquet"
FAILED = "failed.parquet"
_FAILED_COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("source", "id", "stage", "outcome", "reason")]
)
_CHUNK = 1024
_KEY = b"avgen.key"
_STAGES = b"avgen.stages"


def write_manifest(
    folder: Path, pipeline: Pipeline, sources: Sequence[Row], others: Sequence[Record]
) -> tuple[int, int]:
    """Join the parts of all sources, compare the clips, and write both tables, ordered.

    Args:
        folder: Folder of the run.
        pipeline: Its stages.
        sources: Rows of the scan.
        others: What the scan found besides.

    Returns:
        Numbers of clips and of rows that failed.
    """
    ledger, types = Ledger(folder, pipeline), types_of(pipeline, SCANNED)
    gathered = {name for stage in pipeline.gathers for name in stage.writes.names}
    own = pa.schema([column for column in types if column.name not in gathered])
    failed: list[Row] = [
        {"source": r["file"], "outcome": r["outcome"], "reason": r["reason"]}
        for r in others
        if r["outcome"] not in ("sidecar", "ignored")
    ]
    chunks = [
        pa.Table.from_pylist(c, schema=own)
        for c in _chunks(_rows(ledger, pipeline, sources, failed))
    ]
    table = pa.concat_tables([own.empty_table(), *chunks]).sort_by("id").combine_chunks()
    for stage in pipeline.gathers:
        table = _gathered(folder, pipeline, stage, table)
    keys = {_STAGES: json.dumps(pipeline.keys)}
    _write(folder / MANIFEST, table.select(types.names).replace_schema_metadata(keys))
    rows = pa.Table.from_pylist(failed, schema=_FAILED_COLUMNS)
    order = [(name, "ascending") for name in ("source", "id", "stage", "reason")]
    _write(folder / FAILED, rows.sort_by(order))
    return table.num_rows, rows.num_rows


def stage_keys(folder: Path) -> dict[str, str]:
    """Keys of the stages that the manifest of a run was made by.

    Raises:
        PipelineError: The folder holds no manifest.
    """
    try:
        metadata = pq.read_schema(folder / MANIFEST).metadata or {}
    except FileNotFoundError as error:
        raise PipelineError(f"{folder}: holds no {MANIFEST}; give the folder of a run") from error
    return json.loads(metadata.get(_STAGES, b"{}"))


def _rows(
    ledger: Ledger, pipeline: Pipeline, sources: Sequence[Row], failed: list[Row]
) -> Iterator[Row]:
    """Clips that have not failed; the failures are appended to ``failed``."""
    for source in sources:
        part = ledger.read(source["source_sha256"]).current(pipeline, keys_of(pipeline, source))
        for name, failure in part.failed.items():
            row = {
                "source": source["source"],
                "stage": failure["stage"],
                "reason": failure["reason"],
            }
            failed.append({**row, "id": name or None, "outcome": "failed"})
        yield from ({**source, **part.source, **clip} for clip in part.good_clips())


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    yield chunk


def _gathered(folder: Path, pipeline: Pipeline, stage: Gather, table: pa.Table) -> pa.Table:
    """The table with a gather's columns, which are made again only if what they depend on changed."""
    inputs = table.select(["id", *(name for name in stage.reads if name != "id")])
    sink = pa.BufferOutputStream()
    pq.write_table(inputs, sink)
    key = fingerprint(pipeline.keys[stage.name], hashlib.sha256(sink.getvalue()).hexdigest())
    path = folder / LEDGER / f"{stage.name}.parquet"
    kept = _kept(path, key)
    if kept is None:
        rows = stage.gather(inputs.to_pylist())
        kept = pa.Table.from_pylist(
            [{name: row.get(name) for name in stage.writes.names} for row in rows],
            schema=stage.writes.with_metadata({_KEY: key.encode()}),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, kept)
    for name in stage.writes.names:
        table = table.append_column(stage.writes.field(name), kept[name])
    return table


def _kept(path: Path, key: str) -> pa.Table | None:
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException):
        return None
    return table if (table.schema.metadata or {}).get(_KEY) == key.encode() else None


def _write(path: Path, table: pa.Table) -> None:
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
