"""Datasets of schema version 1, made from those of today by taking away what version 2 added."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from avgen.data.datamodule import LatentDataModule
from avgen.data.dataset import LatentDataset
from avgen.data.schema import ADDED, COLUMNS, INFO, MANIFEST, DatasetError, read_info, read_manifest
from avgen.data.shards import finish


def to_version_1(folder: Path) -> None:
    for path in (folder / MANIFEST, *(folder / "parts").iterdir()):
        table = pq.ParquetFile(path).read().drop_columns(list(ADDED))
        metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"avgen.loss"}
        pq.write_table(table.replace_schema_metadata(metadata), path)
    info = json.loads((folder / INFO).read_text())
    del info["text_encoder"], info["latent_dtype"]
    info |= {
        "schema": "avgen.dataset/1",
        "manifest_sha256": hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
    }
    (folder / INFO).write_text(json.dumps(info))


def test_version_1_reads_as_today(dataset: Path) -> None:
    new = LatentDataset(dataset)
    batches = [b.ids for b in LatentDataModule([str(dataset)], batch_size=4).train_dataloader()]
    examples = [new[i] for i in range(len(new))]
    to_version_1(dataset)
    old = LatentDataset(dataset)
    assert read_manifest(dataset).schema.equals(COLUMNS)
    assert read_manifest(dataset)["licence"].null_count == 25
    assert old.info.to_dict() == json.loads((dataset / INFO).read_text())
    for i, example in enumerate(examples):
        assert old[i]["captions"] == example["captions"]
        np.testing.assert_array_equal(old[i]["video"], example["video"])
    assert batches == [
        b.ids for b in LatentDataModule([str(dataset)], batch_size=4).train_dataloader()
    ]


def test_parts_of_version_1_can_still_be_finished(dataset: Path) -> None:
    to_version_1(dataset)
    info = read_info(dataset)
    finish(dataset, list(info.shards), info.__class__(video_codec=info.video_codec))
    assert read_info(dataset).version == 2
    assert read_manifest(dataset).num_rows == 25


def test_version_1_must_have_the_columns_of_version_1(dataset: Path) -> None:
    to_version_1(dataset)
    table = pq.ParquetFile(dataset / MANIFEST).read().drop_columns(["sha256"])
    pq.write_table(table, dataset / MANIFEST)
    info = json.loads((dataset / INFO).read_text())
    info["manifest_sha256"] = hashlib.sha256((dataset / MANIFEST).read_bytes()).hexdigest()
    (dataset / INFO).write_text(json.dumps(info))
    with pytest.raises(DatasetError, match=r"columns \['sha256'\] are missing"):
        LatentDataset(dataset)


def test_a_run_begun_on_version_1_resumes(dataset: Path) -> None:
    """Its fingerprint is made of the same values as then."""
    to_version_1(dataset)
    module = LatentDataModule([str(dataset)], batch_size=4)
    values = (
        [json.loads((dataset / INFO).read_text())],
        [],
        [4, 0],
        [0.02, ["video", "audio"], False, None],
    )
    then = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    module.load_state_dict({"fingerprint": then, "step": 7})
