"""Datasets encoded in eight bits, and what `dataset.json` tells of the loss."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from avgen_data_prep import reader_speed
from avgen_data_prep.build import build
from avgen_data_prep.encode import PACKAGED, LatentEncoder, Weights
from avgen_data_prep.from_worlds import WorldSource
from avgen_data_prep.latent_loss import decode_loss
from avgen_data_prep.reencode import EncodeSource
from avgen_data_prep.worlds import WORLDS

from avgen.data.dataset import LatentDataset
from avgen.data.quantise import restored, stored
from avgen.data.schema import DatasetError

WEIGHTS = Weights.find(PACKAGED)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("worlds")
    source = WorldSource(
        worlds=("bounce",), count=3, duration=0.52, size=32, keep_media=True, weights=None
    )
    build(out, source)
    return out


@pytest.mark.parametrize(
    ("dtype", "least_db", "most_drop_db"), [("int8", 38, 0.02), ("float8", 27, 0.2)]
)
def test_the_shipped_codecs_lose_next_to_nothing(
    rendered: Path, tmp_path: Path, dtype: str, least_db: float, most_drop_db: float
) -> None:
    info, _ = build(
        tmp_path,
        EncodeSource(folder=rendered, weights=WEIGHTS, latent_dtype=dtype),  # type: ignore[arg-type]
    )
    for name in ("video", "audio"):
        told = info.counts["latent_loss"][name]
        assert told["snr_db"] > least_db
        assert told["psnr_db"] > 15
        assert abs(told["psnr_drop_db"]) < most_drop_db
        assert told["clips"] == 3
    opened = LatentDataset(tmp_path)
    assert opened.info.latent_dtype == dtype
    assert opened[0]["video"] is not None
    with pytest.raises(DatasetError, match="another latent dtype"):
        build(tmp_path, EncodeSource(folder=rendered, weights=WEIGHTS))


def test_the_drop_is_that_of_decoding_both(rendered: Path) -> None:
    encoder = LatentEncoder.load(WEIGHTS)
    clip = WORLDS["drums"].render(1, duration=0.52, size=32, fps=25, sample_rate=16_000).clip
    (latents,) = encoder.encode([clip])
    frames = clip.frames.astype(np.float64).transpose(3, 0, 1, 2)
    psnr = {}
    for dtype in ("float16", "float8"):
        with torch.inference_mode():
            video = restored(stored(latents, dtype))["video"]
            decoded = encoder.video.decode(video[None])[0].clamp(-1, 1).numpy()
        error = np.mean(((decoded + 1) * 127.5 - frames) ** 2)
        psnr[dtype] = 10 * math.log10(255**2 / error)
    told = decode_loss(encoder, [clip], "float8")["video"]
    assert told["psnr_db"] == pytest.approx(psnr["float16"], abs=1e-2)
    assert told["psnr_drop_db"] == pytest.approx(psnr["float16"] - psnr["float8"], abs=1e-2)


def test_the_benchmark_reads_what_it_wrote(tmp_path: Path) -> None:
    reader_speed.write_examples(tmp_path, 40, "int8")
    module = reader_speed.LatentDataModule([str(tmp_path)], batch_size=16, val_fraction=0)
    rate, batch = reader_speed.reading_rate(module, 0.1)
    assert rate > 0
    assert batch.video.shape[1:] == (16, 13, 8, 8)
    assert batch.audio.shape[1:] == (32, 49)
