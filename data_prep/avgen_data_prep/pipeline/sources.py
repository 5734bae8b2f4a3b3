"""``sources.parquet``: the files that a run is about, and what tells that they are unchanged."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from avgen.data.schema import atomic
from avgen_data_prep.pipeline.stage import Row
from avgen_data_prep.scan import SCANNED, Hashes, MediaFile

SOURCES = "sources.parquet"
_STAMPED = pa.schema([*SCANNED, ("modified_ns", pa.int64()), ("in_run", pa.bool_())])


def write_sources(folder: Path, files: Sequence[MediaFile], limit: int) -> None:
    """Note the files of a scan; the first ``limit`` of them (0: all) are those of the run."""
    stamped = [
        {**file.row(), "modified_ns": file.modified_ns, "in_run": not limit or number < limit}
        for number, file in enumerate(files)
    ]
    with atomic(folder / SOURCES) as temporary:
        pq.write_table(pa.Table.from_pylist(stamped, schema=_STAMPED), temporary)


def read_sources(folder: Path) -> list[Row]:
    """The rows that the last run of a folder was about; none where there was no run."""
    try:
        table = pq.ParquetFile(folder / SOURCES).read()
        return table.filter(table["in_run"]).select(SCANNED.names).to_pylist()
    except (OSError, KeyError, pa.ArrowException):
        return []


def read_stamps(folder: Path) -> Hashes:
    """Hashes of the files that the last run was about, by what tells that they are unchanged."""
    try:
        rows = pq.ParquetFile(folder / SOURCES).read().to_pylist()
    except (OSError, pa.ArrowException):
        return {}
    return {(r["source"], r["source_bytes"], r["modified_ns"]): r["source_sha256"] for r in rows}
