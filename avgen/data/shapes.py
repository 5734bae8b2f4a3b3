"""The distinct shapes of a manifest's rows, without a Python object per row."""

import numpy as np
import pyarrow as pa

Shape = tuple[tuple[int, ...] | None, ...]
_ROWS = 1 << 16


def distinct_shapes(table: pa.Table) -> tuple[np.ndarray, list[Shape]]:
    """Number the distinct shapes in the order in which they first occur.

    Args:
        table: Columns of lists of integers, one per stream, null or empty where the row lacks the
            stream; then the numerator and denominator of the frame rate.

    Returns:
        Of each row the number of its shape, ``(N,)`` int32, and the shapes: a tuple per stream or
        None, then the frame rate.
    """
    numbers = np.empty(table.num_rows, dtype=np.int32)
    known: dict[Shape, int] = {}
    for start in range(0, table.num_rows, _ROWS):
        part = table.slice(start, _ROWS)
        matrices = [_matrix(column) for column in part.columns]
        rows, widths = np.concatenate(matrices, axis=1), [m.shape[1] for m in matrices]
        _, first, inverse = np.unique(_alike(rows), return_index=True, return_inverse=True)
        codes = np.empty(len(first), dtype=np.int32)
        for i in np.argsort(first):
            codes[i] = known.setdefault(_shape(rows[first[i]], widths), len(known))
        numbers[start : start + len(rows)] = codes[inverse]
    return numbers, list(known)


def _alike(rows: np.ndarray) -> np.ndarray:
    """A number per row, equal where the rows are; column by column, as sorting rows is slow."""
    numbers = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        low, high = int(column.min()), int(column.max())
        if high > low:
            numbers = np.unique(numbers * (high - low + 1) + column - low, return_inverse=True)[1]
    return numbers


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Values of each row side by side, ``(N, K)``, with -1 where a row has fewer."""
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if not pa.types.is_list(array.type):
        return array.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)[:, None]
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    matrix = np.full((len(array), int(lengths.max(initial=0))), -1, dtype=np.int64)
    matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = array.flatten().to_numpy()
    return matrix


def _shape(row: np.ndarray, widths: list[int]) -> Shape:
    """Streams and rate of one distinct row; the last two columns are the rate."""
    ends = np.cumsum(widths)
    cells = [row[end - width : end] for end, width in zip(ends, widths, strict=True)]
    streams = [tuple(int(v) for v in cell if v >= 0) or None for cell in cells[:-2]]
    return (*streams, (int(cells[-2][0]), int(cells[-1][0])))
