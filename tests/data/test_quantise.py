import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from avgen.data.datamodule import LatentDataModule
from avgen.data.dataset import LatentDataset
from avgen.data.quantise import RoundingLoss, restored, stored
from avgen.data.schema import DatasetError, DatasetInfo, read_info, read_manifest
from avgen.data.shards import Example, finish, write_shard


def gaussian(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    scales = np.array([0.01, 1.0, 50.0])[:, None]
    return {
        "audio": rng.normal(size=(3, 4000)) * scales + scales,
        "video": rng.normal(size=(2, 5, 8, 8)),
        "codes": rng.integers(0, 512, (2, 40)),
    }


@pytest.mark.parametrize(("dtype", "steps"), [("int8", 1 / 254), ("float8", 1 / 28)])
def test_each_channel_is_off_by_at_most_half_a_step_of_its_own_range(
    dtype: str, steps: float
) -> None:
    """int8 has 127 steps up to the largest magnitude; e4m3's largest numbers are 32 of 448 apart."""
    latents = gaussian()
    back = restored(stored(latents, dtype))
    for name in ("audio", "video"):
        for exact, value in zip(latents[name], back[name].numpy(), strict=True):
            assert np.abs(value - exact).max() <= np.abs(exact).max() * steps * 1.001
    assert np.array_equal(back["codes"].numpy(), latents["codes"])
    assert (back["video"].dtype, back["codes"].dtype) == (torch.float32, torch.int64)


def test_eight_bits_take_half_the_space(dataset: Path, tmp_path: Path) -> None:
    latents = {"video": np.random.default_rng(0).normal(size=(16, 13, 8, 8))}
    sizes = {
        d: sum(t.nbytes for t in stored(latents, d).values()) for d in ("float16", "int8", "float8")
    }
    assert sizes["int8"] == sizes["float8"] == sizes["float16"] // 2 + 16 * 4


def test_empty_channels_and_extreme_numbers_survive() -> None:
    latents = {"audio": np.stack([np.zeros(9), np.full(9, 3e-30), np.full(9, 3e30), -np.ones(9)])}
    for dtype in ("int8", "float8"):
        back = restored(stored(latents, dtype))["audio"].numpy()
        np.testing.assert_allclose(back, latents["audio"], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_no_scale_holds_are_refused(bad: float) -> None:
    with pytest.raises(DatasetError, match="audio latents hold infinite or undefined"):
        stored({"audio": np.array([[1.0, bad]])}, "int8")


def test_the_reported_loss_is_that_of_an_independent_computation() -> None:
    loss = RoundingLoss()
    exacts, errors = [], []
    for seed in range(3):
        latents = gaussian(seed)
        tensors = stored(latents, "int8")
        loss.add(latents, tensors)
        scale = np.abs(latents["video"]).max((1, 2, 3), keepdims=True).astype(np.float32) / 127
        rounded = np.rint(latents["video"].astype(np.float32) / scale) * scale
        errors.append(np.var(rounded - latents["video"]))
        exacts.append(latents["video"].var((1, 2, 3)).mean())
    expected = 10 * math.log10(np.mean(exacts) / np.mean(errors))
    assert loss.report()["video"]["snr_db"] == pytest.approx(expected, abs=0.02)
    assert 38 < expected < 46
    assert "codes" not in loss.report()


def write(folder: Path, examples: list[Example], dtype: str, **counts: object) -> Path:
    folder.mkdir()
    for i, example in enumerate(examples):
        write_shard(folder, f"shard-{i:05d}.tar", [example], latent_dtype=dtype)  # type: ignore[arg-type]
    shards = [f"shard-{i:05d}.tar" for i in range(len(examples))]
    finish(folder, shards, DatasetInfo(latent_dtype=dtype, counts=dict(counts)))  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("dtype", ["int8", "float8"])
def test_datasets_in_eight_bits_read_like_others_and_tell_their_loss(
    tmp_path: Path, make_example: Callable[..., Example], dtype: str
) -> None:
    examples = [make_example(n) for n in range(4)]
    kept = {"latent_loss": {"video": {"psnr_drop_db": 0.1}}, "clips": 4}
    folder = write(tmp_path / "data", examples, dtype, **kept)
    info = read_info(folder)
    assert info.latent_dtype == dtype
    told = info.counts["latent_loss"]
    assert told["video"]["psnr_drop_db"] == 0.1
    assert 20 < told["video"]["snr_db"] < 50
    assert 20 < told["audio"]["snr_db"] < 50
    opened, exact = LatentDataset(folder), LatentDataset(write(tmp_path / "f", examples, "float16"))
    assert "latent_loss" not in exact.info.counts
    for i in range(4):
        for name in ("video", "audio"):
            difference = (opened[i][name] - exact[i][name]).square().sum().sqrt()
            assert 0 < difference < 0.1 * exact[i][name].square().sum().sqrt()
        assert torch.equal(opened[i]["codes"], exact[i]["codes"])
    batch = next(iter(LatentDataModule([str(folder)], batch_size=4).train_dataloader()))
    assert batch.video.dtype == torch.float32
    row = read_manifest(folder).to_pylist()[0]
    data = (folder / row["shard"]).read_bytes()[row["latents_offset"] :][: row["latents_size"]]
    tensors = load(data)
    assert tensors["video"].dtype == {"int8": torch.int8, "float8": torch.float8_e4m3fn}[dtype]
    assert tensors["video_scale"].shape == (2,)


def test_shards_of_another_type_than_the_dataset_are_refused(
    tmp_path: Path, make_example: Callable[..., Example]
) -> None:
    write_shard(tmp_path, "shard-00000.tar", [make_example(0)], latent_dtype="int8")
    with pytest.raises(DatasetError, match="latents in int8, but the dataset is to hold float16"):
        finish(tmp_path, ["shard-00000.tar"], DatasetInfo())


def test_unknown_types_are_refused(dataset: Path, make_example: Callable[..., Example]) -> None:
    with pytest.raises(DatasetError, match="latent_dtype 'int4': use one of float16, int8, float8"):
        write_shard(dataset, "shard-00009.tar", [make_example(0)], latent_dtype="int4")  # type: ignore[arg-type]
    path = dataset / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"latent_dtype": "int4"}))
    with pytest.raises(DatasetError, match="latent_dtype 'int4' is none of float16, int8, float8"):
        LatentDataset(dataset)


def test_float16_is_written_as_it_always_was(dataset: Path) -> None:
    info = read_info(dataset)
    assert info.latent_dtype == "float16"
    assert replace(info, version=1).to_dict().keys() == {
        "schema", "video_codec", "audio_codec", "num_examples", "manifest_sha256", "shards",
        "counts", "settings",
    }  # fmt: skip
