"""What is done: one Parquet file per source, with its clips and the keys of the results they hold.

A file replaces its predecessor in one step, so that a run killed at any point leaves whole files; what they
lack is what is left to do.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from avgen.data.schema import atomic
from avgen_data_prep.pipeline.spec import Pipeline
from avgen_data_prep.pipeline.stage import Row

LEDGER = "ledger"
WORKER = "worker"
_STATE = b"avgen.state"


class Failure(TypedDict):
    """Why a row went no further: the stage, the key of its result, and the reason."""

    stage: str
    key: str
    reason: str


@dataclass
class Part:
    """All that is known of a source.

    Attributes:
        source: Columns of the source row, beyond those of the scan.
        clips: Clip rows by id, failed ones too.
        done: Keys of the results by stage, of the source under ``""`` and of each clip under its id.
        failed: Failures by the same names.
    """

    source: Row = field(default_factory=dict)
    clips: dict[str, Row] = field(default_factory=dict)
    done: dict[str, dict[str, str]] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)

    def good_clips(self) -> Iterator[Row]:
        """Clips that have not failed."""
        return (row for name, row in self.clips.items() if name not in self.failed)


class Ledger:
    """The parts of a run, by the hash of their source.

    Args:
        folder: Folder of the run.
        pipeline: Gives the types of the clips' columns.
    """

    def __init__(self, folder: Path, pipeline: Pipeline):
        self.folder = folder
        stages = (pipeline.split, *pipeline.of_clips)
        fields = [column for stage in stages for column in stage.writes]
        self._schema = pa.schema([("id", pa.string()), *fields])

    def path(self, sha256: str) -> Path:
        """File of a source's part."""
        return self.folder / LEDGER / sha256[:2] / f"{sha256}.parquet"

    def read(self, sha256: str) -> Part:
        """The part of a source; an empty one where there is none, or none that can be read."""
        try:
            table = pq.ParquetFile(self.path(sha256)).read()
            state = json.loads(table.schema.metadata[_STATE])
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException):
            return Part()
        return Part(clips={row["id"]: row for row in table.to_pylist()}, **state)

    def write(self, sha256: str, part: Part) -> None:
        """Replace the part of a source."""
        path = self.path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: getattr(part, name) for name in ("source", "done", "failed")}
        rows = [{name: row.get(name) for name in self._schema.names} for row in part.clips.values()]
        table = pa.Table.from_pylist(rows, schema=self._schema)
        table = table.replace_schema_metadata({_STATE: json.dumps(state, sort_keys=True)})
        with atomic(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")


def types_of(pipeline: Pipeline, scanned: pa.Schema) -> pa.Schema:
    """Columns of the manifest."""
    fields: list[Any] = [pa.field("id", pa.string()), *scanned]
    return pa.schema(fields + [column for stage in pipeline.stages for column in stage.writes])
