import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from avgen_data_prep import cli
from avgen_data_prep.build import build
from avgen_data_prep.encode import LatentEncoder, Weights
from avgen_data_prep.from_worlds import WorldSource
from avgen_data_prep.reencode import EncodeSource
from avgen_data_prep.worlds import WORLDS

from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.codecs.video_vae import VideoVAE
from avgen.data.dataset import LatentDataset, MediaDataset
from avgen.data.schema import DatasetError, read_info

DURATION, FRAMES, SIZE = 0.52, 13, 16


def save_codecs(folder: Path, seed: int = 0) -> Path:
    """Small untrained codecs."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    VideoVAE(encoder_widths=(8, 8), decoder_widths=(8, 8)).save(folder / "video_vae.safetensors")
    SeanetAudioCodec(num_filters=2, codebook_size=16).save(folder / "audio_codec.safetensors")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_codecs(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def source(weights: Path) -> WorldSource:
    return WorldSource(
        worlds=("bounce", "drums"),
        count=5,
        duration=DURATION,
        size=SIZE,
        weights=Weights.find(weights),
        shard_size=2,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_latents_are_those_of_the_codecs(weights: Path) -> None:
    encoder = LatentEncoder.load(Weights.find(weights), batch_size=4)
    clips = [WORLDS["drums"].render(s, duration=DURATION, size=SIZE).clip for s in range(6)]
    for clip, arrays in zip(clips, encoder.encode(clips), strict=True):
        assert clip.frames is not None
        assert clip.waveform is not None
        frames = torch.from_numpy(clip.frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
        waveform = torch.from_numpy(clip.waveform)[None]
        with torch.inference_mode():
            assert encoder.video is not None
            assert encoder.audio is not None
            video, codes = encoder.video.encode(frames), encoder.audio.encode_codes(waveform)
            audio = encoder.audio.encode(waveform)
        np.testing.assert_allclose(arrays["video"], video[0].numpy(), atol=2e-3)
        np.testing.assert_allclose(arrays["audio"], audio[0].numpy(), atol=2e-3)
        np.testing.assert_array_equal(arrays["codes"], codes[0].numpy())


def test_missing_streams_are_left_out_and_the_rest_batched(weights: Path) -> None:
    encoder = LatentEncoder.load(Weights.find(weights))
    clip = WORLDS["bounce"].render(1, duration=DURATION, size=SIZE).clip
    both, silent, sound = encoder.encode(
        [clip, replace(clip, waveform=None), replace(clip, frames=None)]
    )
    assert set(both) == {"video", "audio", "codes"}
    assert set(silent) == {"video"}
    assert set(sound) == {"audio", "codes"}
    np.testing.assert_allclose(both["video"], silent["video"], atol=2e-3)


def test_stereo_is_mixed_to_the_codec(weights: Path) -> None:
    encoder = LatentEncoder.load(Weights.find(weights))
    clip = WORLDS["bounce"].render(1, duration=DURATION, size=SIZE).clip
    assert clip.waveform is not None
    stereo = replace(clip, waveform=np.repeat(clip.waveform, 2, axis=0))
    mono, mixed = encoder.encode([clip, stereo])
    np.testing.assert_array_equal(mono["codes"], mixed["codes"])


def test_worlds_become_a_dataset(source: WorldSource, tmp_path: Path) -> None:
    info, _ = build(tmp_path / "out", source)
    dataset = LatentDataset(tmp_path / "out")
    assert info.num_examples == len(dataset) == 10
    assert info.counts["by_world"] == {"bounce": 5, "drums": 5}
    rendered = WORLDS["drums"].render(3, duration=DURATION, size=SIZE)
    index = dataset.manifest["id"].to_pylist().index("drums-0000003")
    assert dataset[index]["captions"] == rendered.captions
    assert dataset.metadata(index)["truth"] == rendered.truth
    video, audio = dataset[index]["video"], dataset[index]["audio"]
    assert video is not None
    assert audio is not None
    assert (video.shape[1], audio.shape[1]) == (1 + (FRAMES - 1) // 4, FRAMES)
    assert dataset.manifest["seed"].to_pylist()[index] == 3


def test_rerun_makes_only_what_is_missing(source: WorldSource, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(out, source)
    before = contents(out)
    kept = (out / "shard-00000.tar").stat().st_mtime_ns
    (out / "shard-00003.tar").unlink()
    (out / "parts" / "shard-00004.parquet").write_bytes(b"damaged")
    build(out, source)
    assert contents(out) == before
    assert (out / "shard-00000.tar").stat().st_mtime_ns == kept


def test_larger_count_extends_a_dataset(source: WorldSource, tmp_path: Path) -> None:
    build(tmp_path / "out", source)
    kept = (tmp_path / "out" / "shard-00000.tar").stat().st_mtime_ns
    larger = replace(source, count=7)
    info, _ = build(tmp_path / "out", larger)
    assert info.num_examples == 14
    assert (tmp_path / "out" / "shard-00000.tar").stat().st_mtime_ns == kept
    build(tmp_path / "fresh", larger)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_another_dataset_in_the_folder_is_refused(
    source: WorldSource, tmp_path: Path, weights: Path
) -> None:
    out = tmp_path / "out"
    build(out, source)
    before = contents(out)
    other = Weights.find(save_codecs(tmp_path / "other", seed=1))
    for changed, message in (
        (replace(source, weights=other), "another video codec"),
        (replace(source, fps=50), "another settings"),
        (replace(source, count=2), "beyond the 2 shards"),
    ):
        with pytest.raises(DatasetError, match=message):
            build(out, changed)
    assert contents(out) == before


def test_two_writers_are_refused(source: WorldSource, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def intrude(_: int) -> None:
        with pytest.raises(DatasetError, match="another process"):
            build(out, source)

    build(out, source, progress=intrude)


def test_killed_worlds_run_goes_on_to_the_same_bytes(
    source: WorldSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    larger = replace(source, count=40, shard_size=8)
    build(whole, larger)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for the preloaded module
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["avgen_data_prep.from_worlds"])
    process = context.Process(target=build, args=(killed, larger))
    process.start()
    while not (killed / "shard-00001.tar").exists():
        assert process.is_alive()
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (killed / "dataset.json").exists()
    with pytest.raises(DatasetError, match="run the preparation again"):
        read_info(killed)
    build(killed, larger)
    assert contents(killed) == contents(whole)


def test_workers_write_the_same_bytes(source: WorldSource, tmp_path: Path) -> None:
    smaller = replace(source, count=3)
    build(tmp_path / "alone", smaller)
    build(tmp_path / "workers", smaller, workers=2)
    assert contents(tmp_path / "alone") == contents(tmp_path / "workers")


def test_media_can_be_encoded_again(
    source: WorldSource, tmp_path: Path, run_prep: Callable[..., int]
) -> None:
    media_only = replace(source, weights=None, keep_media=True, count=2)
    build(tmp_path / "media", media_only)
    codecs = save_codecs(tmp_path / "codecs", seed=4)
    assert run_prep("encode", tmp_path / "media", tmp_path / "out", "--weights", codecs) == 0
    encoder = LatentEncoder.load(Weights.find(codecs))
    assert encoder.video is not None
    dataset = LatentDataset(tmp_path / "out", video_identity=encoder.video.identity)
    original = MediaDataset(tmp_path / "media")
    clip = original.clip(1)
    assert clip.frames is not None
    assert clip.frames.shape == (FRAMES, SIZE, SIZE, 3)
    assert clip.waveform is not None
    assert clip.waveform.shape == (1, FRAMES * 640)
    assert dataset[1]["captions"] == original.provenance(1)["captions"]
    assert dataset[1]["id"] == original.provenance(1)["id"]
    video = dataset[1]["video"]
    assert video is not None
    np.testing.assert_allclose(video.numpy(), encoder.encode([clip])[0]["video"], atol=2e-3)
    with pytest.raises(DatasetError, match="has no latents"):
        original[0]


@pytest.fixture
def run_prep() -> Callable[..., int]:
    return lambda *arguments: cli.main([str(argument) for argument in arguments])


def test_command_renders_worlds(
    weights: Path, tmp_path: Path, run_prep: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--count", 2, "--size", SIZE, "--seconds", DURATION, "--weights", weights]
    assert run_prep("worlds", tmp_path / "out", "--world", "drums", *options) == 0
    assert "2 clips in 1 shards" in " ".join(capsys.readouterr().err.split())
    assert len(LatentDataset(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--world", "nowhere"], "choose from bounce"),
        (["--world", "drums", "--count", "0"], "count 0 must be positive"),
        (["--world", "drums", "--size", "20"], "use --size 16"),
        (["--world", "drums", "--seed-start", "999999"], "held out for evaluation"),
        (["--world", "drums", "--sample-rate", "8000"], "use --sample-rate 16000"),
        (["--world", "drums", "--weights", "/nowhere"], "holds no video_vae.safetensors"),
    ],
)
def test_command_explains_errors(
    weights: Path,
    tmp_path: Path,
    run_prep: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert run_prep("worlds", tmp_path / "out", "--weights", weights, *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_encoding_a_missing_dataset_is_an_error(
    weights: Path, tmp_path: Path, run_prep: Callable[..., int]
) -> None:
    assert run_prep("encode", tmp_path, tmp_path / "out", "--weights", weights) == 2


def test_source_travels_to_workers(source: WorldSource) -> None:
    import pickle

    assert pickle.loads(pickle.dumps(source)).jobs() == source.jobs()
    encode = EncodeSource(folder=Path("x"), weights=Weights())
    assert pickle.loads(pickle.dumps(encode)) == encode


class Reworded(WorldSource):
    """The same worlds; the second half of them cannot be had."""

    def jobs(self):
        return [replace(job, key=job.key + "again") for job in super().jobs()]

    def open(self):
        make = super().open()

        def stop(job, records):
            if job.shard != "shard-00000.tar":
                raise KeyboardInterrupt
            yield from make(job, records)

        return stop


def test_a_dataset_that_is_being_made_again_is_not_taken_for_a_whole_one(
    source: WorldSource, tmp_path: Path
) -> None:
    build(tmp_path, source)
    changed = Reworded(**{name: getattr(source, name) for name in source.__dataclass_fields__})
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, changed)
    with pytest.raises(DatasetError, match=r"holds no dataset\.json"):
        read_info(tmp_path)
    with pytest.raises(DatasetError, match="holds a dataset with another settings"):
        build(tmp_path, replace(source, size=8))
    build(tmp_path, source)
    assert len(LatentDataset(tmp_path)) == 10
    assert not (tmp_path / "unfinished.json").exists()
