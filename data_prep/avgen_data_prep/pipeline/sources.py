"""``sources.parquet``: the files that a run is about, and what tells that they are unchanged."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from avgen.data.schema import atomic
from avgen_data_prep.pipeline.stage import Row
from avgen_data_prep.scan import SCANNED, Hashes, stamp

SOURCES = "sources.parquet"
_STAMPED = pa.schema([*SCANNED, ("modified_ns", pa.int64())])


def write_sources(folder: Path, sources: Path, rows: Sequence[Row]) -> None:
    """Note the rows of a scan of ``sources``."""
    stamped = [{**row, "modified_ns": stamp(sources / row["source"], sources)[2]} for row in rows]
    with atomic(folder / SOURCES) as temporary:
        pq.write_table(pa.Table.from_pylist(stamped, schema=_STAMPED), temporary)


def read_sources(folder: Path) -> list[Row]:
    """The rows that the last run of a folder was about; none where there was no run."""
    try:
        return pq.ParquetFile(folder / SOURCES).read().select(SCANNED.names).to_pylist()
    except (OSError, KeyError, pa.ArrowException):
        return []


def read_stamps(folder: Path) -> Hashes:
    """Hashes of the files that the last run was about, by what tells that they are unchanged."""
    try:
        rows = pq.ParquetFile(folder / SOURCES).read().to_pylist()
    except (OSError, pa.ArrowException):
        return {}
    return {(r["source"], r["source_bytes"], r["modified_ns"]): r["source_sha256"] for r in rows}
