"""What is done: one Parquet file per source, with its clips and the keys of the results they hold.

A file replaces its predecessor in one step, so that a run killed at any point leaves whole files; what they
lack is what is left to do.
"""

import io
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from avgen.data.schema import atomic
from avgen_data_prep.pipeline.spec import Pipeline
from avgen_data_prep.pipeline.stage import Row, Stage

LEDGER = "ledger"
WORKER = "worker"
SOURCE = ""
_log = logging.getLogger(__name__)
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
        types: Columns of the clips that stages outside the pipeline have written.
    """

    source: Row = field(default_factory=dict)
    clips: dict[str, Row] = field(default_factory=dict)
    done: dict[str, dict[str, str]] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)
    types: pa.Schema = field(default_factory=lambda: pa.schema([]))

    def good_clips(self) -> Iterator[Row]:
        """Clips that have not failed, of a source that has not."""
        if SOURCE in self.failed:
            return iter(())
        return (row for name, row in self.clips.items() if name not in self.failed)

    def current(self, pipeline: Pipeline, keys: dict[str, str]) -> "Part":
        """What of it holds where results have these keys: other columns are null, other failures forgotten."""

        def columns(name: str, row: Row, stages: Sequence[Stage]) -> Row:
            done = self.done.get(name, {})
            valid = {c for s in stages if done.get(s.name) == keys[s.name] for c in s.writes.names}
            return {column: value for column, value in row.items() if column in valid}

        split = pipeline.split
        is_cut = self.done.get(SOURCE, {}).get(split.name) == keys[split.name]
        return Part(
            source=columns(SOURCE, self.source, pipeline.of_sources),
            clips={
                name: {
                    **{column: row.get(column) for column in ("id", *split.writes.names)},
                    **columns(name, row, pipeline.of_clips),
                }
                for name, row in (self.clips.items() if is_cut else ())
            },
            done=self.done,
            failed={
                name: failure
                for name, failure in self.failed.items()
                if keys.get(failure["stage"]) == failure["key"]
                and (name == SOURCE or (is_cut and name in self.clips))
            },
        )


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
        """The part of a source; an empty one where there is none, or a damaged one.

        Raises:
            OSError: It is there, but the machine cannot read it now.
        """
        try:
            data = self.path(sha256).read_bytes()
        except FileNotFoundError:
            return Part()
        try:
            table = pq.ParquetFile(io.BytesIO(data)).read()
            state = json.loads(table.schema.metadata[_STATE])
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            _log.warning("%s: damaged (%s); made again", self.path(sha256), error)
            return Part()
        own = set(self._schema.names)
        types = pa.schema([column for column in table.schema if column.name not in own])
        return Part(clips={row["id"]: row for row in table.to_pylist()}, types=types, **state)

    def write(self, sha256: str, part: Part) -> None:
        """Replace the part of a source."""
        path = self.path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: getattr(part, name) for name in ("source", "done", "failed")}
        types = pa.schema([*self._schema, *part.types])
        rows = [{name: row.get(name) for name in types.names} for row in part.clips.values()]
        table = pa.Table.from_pylist(rows, schema=types)
        table = table.replace_schema_metadata({_STATE: json.dumps(state, sort_keys=True)})
        with atomic(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")


def keys_of(pipeline: Pipeline, source: Row) -> dict[str, str]:
    """Key of each stage's results for a source.

    Under `WORKER` that of the verdict that it takes its process down: any other pipeline tries again.
    """
    keys = {stage.name: pipeline.key(stage, source) for stage in pipeline.stages}
    return {**keys, WORKER: "-".join(pipeline.keys.values())}


def types_of(pipeline: Pipeline, scanned: pa.Schema) -> pa.Schema:
    """Columns of the manifest."""
    fields: list[Any] = [pa.field("id", pa.string()), *scanned]
    return pa.schema(fields + [column for stage in pipeline.stages for column in stage.writes])
