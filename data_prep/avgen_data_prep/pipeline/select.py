"""Rows of a run's manifest that pass a filter: an SQL expression over its columns, in DuckDB's dialect."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from avgen_data_prep.pipeline.manifest import MANIFEST
from avgen_data_prep.pipeline.spec import PipelineError


def select(folder: Path, where: str = "") -> pa.Table:
    """Rows of ``manifest.parquet`` for which ``where`` is true, by id.

    Example: ``motion > 0.02 AND loudness_lufs > -40 AND near_duplicate_of IS NULL``.

    Args:
        folder: Of a run.
        where: An expression; empty passes all rows.

    Raises:
        PipelineError: No manifest, or the expression is not one, or names an unknown column.
    """
    import duckdb

    path = folder / MANIFEST
    if not path.is_file():
        raise PipelineError(f"{folder}: holds no {MANIFEST}; run `avgen prep run` first")
    table = pq.ParquetFile(path).read()
    # Files are out of the filter's reach: it may come with a pipeline from elsewhere.
    settings = {"threads": 1, "enable_external_access": False}
    with duckdb.connect(config=settings) as base:
        manifest = base.from_arrow(table)
        try:
            rows = manifest.filter(where) if where.strip() else manifest
            return rows.order("id").to_arrow_table()
        except duckdb.Error as error:
            first, *rest = str(error).splitlines()
            near = [line for line in rest if line.startswith("Candidate")]
            told = f"columns are {', '.join(table.column_names)}"
            if near:
                told = f"did you mean one of {near[0].partition(': ')[2]}?"
            raise PipelineError(f"filter {where!r}: {first}; {told}") from error
