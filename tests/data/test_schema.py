import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from avgen.data.dataset import LatentDataset
from avgen.data.schema import (
    COLUMNS,
    INFO,
    MANIFEST,
    DatasetError,
    DatasetInfo,
    read_info,
    read_manifest,
)
from avgen.data.shards import Example, finish, read_part, write_shard
from avgen.data.storage import open_storage


def test_manifest_offsets_read_what_tar_readers_read(dataset: Path) -> None:
    reader = open_storage(dataset)
    for row in read_manifest(dataset).to_pylist():
        with tarfile.open(dataset / row["shard"]) as tar:
            for member, suffix in (("captions", ".json"), ("latents", ".latents.safetensors")):
                file = tar.extractfile(row["id"] + suffix)
                assert file is not None
                read = reader.read(row["shard"], row[f"{member}_offset"], row[f"{member}_size"])
                assert read == file.read()
        assert row["media_offset"] is None


def test_latents_are_half_precision_and_codes_short(dataset: Path) -> None:
    row = read_manifest(dataset).to_pylist()[3]
    arrays = load(
        open_storage(dataset).read(row["shard"], row["latents_offset"], row["latents_size"])
    )
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "video": "float16",
        "audio": "float16",
        "codes": "int16",
    }
    assert row["video_shape"] == [2, 3, 2, 2]
    assert row["codes_shape"] == [2, 9]


def test_same_examples_make_the_same_bytes(
    make_dataset: Callable[..., Path], make_example: Callable[..., Example]
) -> None:
    folders = [make_dataset([make_example(n) for n in range(12)], name) for name in "ab"]
    for name in ("shard-00000.tar", "shard-00001.tar", MANIFEST, INFO):
        first, second = ((folder / name).read_bytes() for folder in folders)
        assert first == second


def test_writing_leaves_no_temporary_files(dataset: Path) -> None:
    names = {path.name for path in dataset.rglob("*") if path.is_file()}
    assert names == {INFO, MANIFEST} | {
        f"shard-0000{i}.{end}" for i in range(3) for end in ("tar", "parquet")
    }


def test_failing_examples_leave_no_shard(
    tmp_path: Path, make_example: Callable[..., Example]
) -> None:
    def failing():
        yield make_example(0)
        raise RuntimeError("renderer broke")

    with pytest.raises(RuntimeError, match="renderer broke"):
        write_shard(tmp_path, "shard-00000.tar", failing())
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert read_part(tmp_path, "shard-00000.tar") is None


def test_part_of_another_key_is_made_again(
    tmp_path: Path, make_example: Callable[..., Example]
) -> None:
    write_shard(tmp_path, "shard-00000.tar", [make_example(0)], key="old")
    assert read_part(tmp_path, "shard-00000.tar", "new") is None
    assert read_part(tmp_path, "shard-00000.tar", "old") is not None


@pytest.mark.parametrize("bad", ["a.b", "a/b", "", "x" * 81, "ä"])
def test_ids_that_webdataset_would_split_are_refused(
    tmp_path: Path, make_example: Callable[..., Example], bad: str
) -> None:
    example = Example(**{**make_example(0).__dict__, "id": bad})
    with pytest.raises(DatasetError, match="id "):
        write_shard(tmp_path, "shard-00000.tar", [example])


def test_double_ids_are_refused(tmp_path: Path, make_example: Callable[..., Example]) -> None:
    for shard in ("shard-00000.tar", "shard-00001.tar"):
        write_shard(tmp_path, shard, [make_example(0)])
    shards = ["shard-00000.tar", "shard-00001.tar"]
    with pytest.raises(DatasetError, match="'e000' occurs twice"):
        finish(tmp_path, shards, DatasetInfo())


def change_info(folder: Path, **changes: object) -> None:
    data = json.loads((folder / INFO).read_text())
    (folder / INFO).write_text(json.dumps(data | changes))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("avgen.dataset/3", "newer than the 2"),
        ("other.dataset/1", "not written by `avgen prep`"),
        (None, "not written by `avgen prep`"),
        ("avgen.dataset/x", "not written by `avgen prep`"),
    ],
)
def test_newer_and_foreign_folders_are_refused(dataset: Path, schema: str, message: str) -> None:
    change_info(dataset, schema=schema)
    with pytest.raises(DatasetError, match=message):
        LatentDataset(dataset)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no dataset\.json"):
        LatentDataset(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_damaged_info_is_refused(dataset: Path, content: bytes) -> None:
    (dataset / INFO).write_bytes(content)
    with pytest.raises(DatasetError, match="copy the dataset again"):
        read_info(dataset)


def test_missing_fields_are_refused(dataset: Path) -> None:
    data = json.loads((dataset / INFO).read_text())
    del data["shards"]
    (dataset / INFO).write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="damaged"):
        read_info(dataset)


def test_truncated_shard_is_refused_when_opened(dataset: Path) -> None:
    shard = dataset / "shard-00001.tar"
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(DatasetError, match=r"shard-00001\.tar: \d+ bytes long instead of \d+"):
        LatentDataset(dataset)


def test_shard_truncated_after_opening_is_refused_when_read(dataset: Path) -> None:
    opened = LatentDataset(dataset)
    shard = dataset / "shard-00001.tar"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(DatasetError, match="truncated"):
        opened[19]


def test_missing_shard_is_refused(dataset: Path) -> None:
    (dataset / "shard-00000.tar").unlink()
    with pytest.raises(DatasetError, match=r"shard-00000\.tar: missing"):
        LatentDataset(dataset)


def test_truncated_manifest_is_refused(dataset: Path) -> None:
    manifest = dataset / MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"manifest\.parquet: damaged"):
        LatentDataset(dataset)


def test_manifest_of_another_dataset_is_refused(
    dataset: Path, make_dataset: Callable[..., Path], make_example: Callable[..., Example]
) -> None:
    other = make_dataset([make_example(0)])
    (dataset / MANIFEST).write_bytes((other / MANIFEST).read_bytes())
    with pytest.raises(DatasetError, match="of another dataset"):
        LatentDataset(dataset)


def test_stale_latents_are_refused(dataset: Path) -> None:
    LatentDataset(dataset, video_identity="v" * 64, audio_identity="a" * 64)
    with pytest.raises(DatasetError, match="stale: encoded with vvvvvvvvvvvv video codec"):
        LatentDataset(dataset, video_identity="w" * 64)
    with pytest.raises(DatasetError, match=r"stale.*audio codec.*bbbb"):
        LatentDataset(dataset, audio_identity="b" * 64)


def test_item_holds_what_was_written(dataset: Path, make_example: Callable[..., Example]) -> None:
    item, written = LatentDataset(dataset)[17], make_example(17, frames=5)
    assert item["id"] == "e017"
    assert item["captions"] == written.captions
    assert (item["fps"], item["duration"]) == (25.0, 0.2)
    for stream in ("video", "audio", "codes"):
        tensor = item[stream]
        assert tensor is not None
        np.testing.assert_allclose(tensor.numpy(), written.latents[stream], atol=0.01)


def test_missing_streams_are_none(
    make_dataset: Callable[..., Path], make_example: Callable[..., Example]
) -> None:
    examples = [make_example(0, video=False), make_example(1, audio=False)]
    opened = LatentDataset(make_dataset(examples))
    assert opened[0]["video"] is None
    assert opened[0]["audio"] is not None
    assert opened[1]["audio"] is None
    assert opened[1]["codes"] is None
    assert read_manifest(opened.folder)["num_samples"].to_pylist() == [9 * 640, 0]


def test_cache_stays_below_its_limit_and_changes_nothing(dataset: Path) -> None:
    plain, cached = LatentDataset(dataset), LatentDataset(dataset, cache_bytes=30_000)
    for _ in range(2):
        for index in range(len(plain)):
            first, second = plain[index], cached[index]
            assert first["id"] == second["id"]
            assert first["video"] is not None
            assert second["video"] is not None
            assert first["video"].equal(second["video"])
    assert 0 < cached._cached_bytes <= 30_000
    assert 0 < len(cached._cache) < len(cached)


def test_columns_of_the_manifest_are_the_contract(dataset: Path) -> None:
    assert read_manifest(dataset).schema.equals(COLUMNS)
