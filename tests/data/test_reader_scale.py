"""A manifest of 100,000 rows whose members all lie in one small shard."""

import dataclasses
import gc
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avgen.data.datamodule import LatentDataModule
from avgen.data.dataset import LatentDataset
from avgen.data.schema import COLUMNS, MANIFEST, read_info, read_manifest, write_info
from avgen.data.shapes import distinct_shapes
from avgen.data.shards import Example

ROWS = 100_000


@pytest.fixture
def large(dataset: Path) -> Path:
    small = read_manifest(dataset)
    rng = np.random.default_rng(0)
    table = small.take(pa.array(rng.integers(0, small.num_rows, ROWS)))
    hashes = pa.array(rng.integers(0, 2**32, ROWS, dtype=np.uint32))
    table = table.set_column(0, "id", pa.array([f"row-{i:06d}" for i in range(ROWS)]))
    table = table.set_column(table.column_names.index("split_hash"), "split_hash", hashes)
    pq.write_table(table.cast(COLUMNS), dataset / MANIFEST)
    sha = hashlib.sha256((dataset / MANIFEST).read_bytes()).hexdigest()
    info = dataclasses.replace(read_info(dataset), num_examples=ROWS, manifest_sha256=sha)
    write_info(dataset, info)
    return dataset


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_stays_flat_over_a_large_manifest(large: Path) -> None:
    module = LatentDataModule([str(large)], batch_size=16, cache_bytes=1 << 20)
    before = resident()
    module.setup()
    loader = iter(module.train_dataloader())
    for _ in range(60):
        next(loader)
    opened = resident()
    for _ in range(240):
        next(loader)
    after = resident()
    loader.close()  # type: ignore[attr-defined]
    assert opened - before < 150e6
    assert after - opened < 8e6


def test_buckets_of_a_large_manifest_take_no_time(large: Path) -> None:
    opened = LatentDataset(large)
    start = time.perf_counter()
    numbers, shapes = opened.shapes()
    seconds = time.perf_counter() - start
    assert seconds < 2
    assert len(shapes) == 2
    listed = opened.manifest["audio_shape"].to_pylist()
    for row in (0, 1, 2, 99_999):
        assert shapes[numbers[row]][1] == tuple(listed[row])
    assert numbers.nbytes == 4 * ROWS


def test_shapes_are_those_of_the_rows_whatever_is_missing(
    make_dataset: Callable[..., Path], make_example: Callable[..., Example]
) -> None:
    examples = [
        make_example(n, frames=5 + 4 * (n % 3), video=n % 4 != 0, audio=n % 5 != 1)
        for n in range(30)
    ]
    numbers, shapes = LatentDataset(make_dataset(examples)).shapes()
    for example, number in zip(examples, numbers, strict=True):
        streams = [example.latents.get(name) for name in ("video", "audio", "codes")]
        expected = (*(None if s is None else s.shape for s in streams), (25, 1))
        assert shapes[number] == expected
    assert len(set(shapes)) == len(shapes)


def test_shapes_agree_across_the_chunks_they_are_read_in() -> None:
    """More rows than a chunk, the second of which begins with another number of columns."""
    rows = 70_000
    lists = [[2, 3]] * 66_000 + [None] * 2_000 + [[2, 3, 4]] * (rows - 68_000)
    column = pa.array(lists, pa.list_(pa.int32()))
    ones = pa.array(np.ones(rows, dtype=np.int32))
    numbers, shapes = distinct_shapes(
        pa.table({"v": column, "a": column, "c": column, "n": ones, "d": ones})
    )
    assert shapes == [
        ((2, 3), (2, 3), (2, 3), (1, 1)),
        (None, None, None, (1, 1)),
        ((2, 3, 4), (2, 3, 4), (2, 3, 4), (1, 1)),
    ]
    assert np.bincount(numbers).tolist() == [66_000, 2_000, 2_000]
