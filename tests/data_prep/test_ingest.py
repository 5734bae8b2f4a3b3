"""``avgen prep ingest``: a folder with anything in it becomes a dataset, and every file is accounted for."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from avgen_data_prep import cli

from avgen import media
from avgen.caption import Event, TimedCaption
from avgen.clip import Clip
from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.codecs.video_vae import VideoVAE
from avgen.data.datamodule import LatentDataModule
from avgen.data.dataset import LatentDataset, MediaDataset
from avgen.data.schema import DatasetError, read_info

SECONDS, FRAMES, SIZE = 0.52, 13, 48


def knock_and_flash(duration: float, times: list[float], *, size: int = 24) -> Clip:
    """Grey frames with a square that turns white, and a click, at each time."""
    fps, rate = 25, 16_000
    frames = np.full((round(duration * fps), size, size, 3), 60, np.uint8)
    rng = np.random.default_rng(int(duration * 100))
    waveform = (rng.normal(size=(1, len(frames) * rate // fps)) * 1e-4).astype(np.float32)
    for time in times:
        frame, sample = round(time * fps), round(time * rate)
        frames[frame : frame + 3, 6:18, 6:18] = 220
        ramp = np.arange(800)
        waveform[0, sample : sample + 800] += 0.5 * np.sin(ramp * 0.3) * np.exp(-ramp / 200)
    return Clip(frames=frames, fps=Fraction(fps), waveform=waveform, sample_rate=rate)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    VideoVAE(encoder_widths=(8, 8), decoder_widths=(8, 8)).save(folder / "video_vae.safetensors")
    SeanetAudioCodec(num_filters=2, codebook_size=16).save(folder / "audio_codec.safetensors")
    return folder


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad media, sidecars of every kind, and things that are neither."""
    folder = tmp_path_factory.mktemp("odd")
    clip = knock_and_flash(1.2, [0.2, 0.8])
    media.write(folder / "timed.mp4", clip)
    (folder / "timed.vtt").write_text(
        "WEBVTT\n\n00:00.200 --> 00:00.300\n[sfx] a knock\n\n"
        "00:00.800 --> 00:00.900\n[sfx] another knock\n"
    )
    (folder / "below").mkdir()
    media.write(folder / "below" / "told.MP4", knock_and_flash(0.6, [0.3]))
    (folder / "below" / "told.txt").write_text("A flashing wall.\n")
    media.write(folder / "silent.mp4", replace(knock_and_flash(0.6, [0.2]), waveform=None))
    media.write(folder / "sound.mp4", replace(knock_and_flash(0.64, [0.2]), frames=None))
    (folder / "sound.json").write_text("{broken")
    media.write(folder / "short.mp4", knock_and_flash(0.4, []))
    whole = (folder / "timed.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").touch()
    (folder / "empty.mov").touch()
    (folder / "text.mp4").write_text("This is a letter, not a film.\n")
    shutil.copy(folder / "timed.mp4", folder / "unlike.mp4")
    (folder / "notes.md").write_text("Of no use.")
    (folder / "lonely.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    (folder / ".hidden.mp4").touch()
    return folder


CUT = [
    f"cut.seconds_min={SECONDS}",
    f"cut.seconds_max={SECONDS}",
    f"cut.size={SIZE}",
    "cut.multiple=2",
]


def ingest(folder: Path, out: Path, *rest: str, weights: Path | None = None) -> int:
    changes = [word for change in CUT for word in ("--set", change)]
    encode = ["--weights", str(weights)] if weights else ["--no-encode"]
    words = ["--pipeline", "tiny", "--executor", "inprocess", *changes, *encode, *rest]
    return cli.main(["ingest", str(folder), str(out), *words])


@pytest.fixture(scope="module")
def ingested(odd_folder: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ingested") / "out"
    assert ingest(odd_folder, out, weights=weights) == 0
    return out


def rows_of(out: Path) -> dict[str, list[dict]]:
    """Examples by source, in order of their start."""
    dataset, found = MediaDataset(out), {}
    for row in map(dataset.provenance, range(len(dataset))):
        found.setdefault(row["source"], []).append(row)
    return {k: sorted(v, key=lambda r: r["metadata"]["start_us"]) for k, v in found.items()}


def failed(out: Path) -> list[dict]:
    return pq.ParquetFile(out / "prep" / "failed.parquet").read().to_pylist()


def test_every_file_is_a_clip_or_a_reason(odd_folder: Path, ingested: Path) -> None:
    assert {(row["source"], row["outcome"], row["stage"]) for row in failed(ingested)} == {
        ("empty.mov", "failed", "probe"),
        ("empty.mp4", "failed", "probe"),
        ("short.mp4", "failed", "cut"),
        ("text.mp4", "failed", "probe"),
        ("truncated.mp4", "failed", "probe"),
        ("unlike.mp4", "duplicate", None),
    }
    assert all(row["reason"] for row in failed(ingested))
    assert str(odd_folder) not in json.dumps(failed(ingested))
    sources = Counter({name: len(rows) for name, rows in rows_of(ingested).items()})
    assert sources == {"timed.mp4": 2, "below/told.MP4": 1, "silent.mp4": 1, "sound.mp4": 1}
    assert read_info(ingested).num_examples == sum(sources.values())


def test_captions_come_from_sidecars_cut_to_the_clip(ingested: Path) -> None:
    for row, text, start in zip(
        rows_of(ingested)["timed.mp4"],
        ("a knock", "another knock"),
        (200_000, 280_000),
        strict=True,
    ):
        (caption,) = [c for c in row["captions"] if c.events][:1]
        (event,) = caption.events
        assert (event.text, event.start_us) == (text, start)
        assert caption.duration_us == FRAMES * 40_000


def test_files_without_times_get_what_is_measured(ingested: Path) -> None:
    rows = rows_of(ingested)
    for name, tracks in (
        ("below/told.MP4", {"sfx", "visual"}),
        ("silent.mp4", {"visual"}),
        ("sound.mp4", {"sfx"}),
    ):
        caption = rows[name][0]["captions"][0]
        assert tracks <= {event.track for event in caption.events} | {"camera"}
    assert rows["below/told.MP4"][0]["captions"][0].text == "A flashing wall."
    notes = rows["sound.mp4"][0]["metadata"]["caption_notes"]
    assert any("sound.json" in note for note in notes)


def test_missing_streams_are_recorded(ingested: Path) -> None:
    dataset = LatentDataset(ingested)
    by_source = dict(zip(dataset.manifest["source"].to_pylist(), range(len(dataset)), strict=True))
    silent, sound = dataset[by_source["silent.mp4"]], dataset[by_source["sound.mp4"]]
    assert silent["audio"] is None
    assert silent["video"] is not None
    assert sound["video"] is None
    assert sound["audio"] is not None
    rows = dataset.manifest.to_pylist()
    assert rows[by_source["sound.mp4"]]["num_frames"] == 0
    assert rows[by_source["silent.mp4"]]["num_samples"] == 0


def test_the_dataset_trains(ingested: Path) -> None:
    module = LatentDataModule([str(ingested)], batch_size=2, val_fraction=0)
    seen = [name for batch in module.train_dataloader() for name in batch.ids]
    assert set(seen) == set(LatentDataset(ingested).manifest["id"].to_pylist())


def test_ids_depend_on_contents_and_cut_alone(
    odd_folder: Path, ingested: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(odd_folder / "timed.mp4", elsewhere / "renamed.mp4")
    ingest(elsewhere, tmp_path / "second")
    ids = set(MediaDataset(tmp_path / "second").manifest["id"].to_pylist())
    assert ids < set(MediaDataset(ingested).manifest["id"].to_pylist())


def test_a_filter_and_a_list_of_hashes_leave_clips_out(ingested: Path, tmp_path: Path) -> None:
    run = str(ingested / "prep")
    words = ["pack", run, str(tmp_path / "loud"), "--no-encode", "--where", "num_frames > 0"]
    banned = rows_of(ingested)["timed.mp4"][0]
    (tmp_path / "never.txt").write_text(f"{banned['id']}  # asked to be left out\n")
    assert cli.main([*words, "--exclude", str(tmp_path / "never.txt")]) == 0
    left = rows_of(tmp_path / "loud")
    assert set(left) == {"timed.mp4", "below/told.MP4", "silent.mp4"}
    assert banned["id"] not in [row["id"] for rows in left.values() for row in rows]


def test_latents_in_eight_bits(ingested: Path, tmp_path: Path, weights: Path) -> None:
    words = ["--weights", str(weights), "--latent-dtype", "int8", "--no-media"]
    assert cli.main(["pack", str(ingested / "prep"), str(tmp_path / "small"), *words]) == 0
    assert read_info(tmp_path / "small").latent_dtype == "int8"
    small, full = LatentDataset(tmp_path / "small"), LatentDataset(ingested)
    for index in range(len(small)):
        a, b = small[index]["audio"], full[index]["audio"]
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert torch.allclose(a, b, atol=float(b.abs().max()) / 100)


def test_a_dataset_without_media_is_not_taken_for_one_with_them(
    ingested: Path, tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pack", str(ingested / "prep"), str(tmp_path / "d"), "--weights", str(weights)]
    assert cli.main([*words, "--no-media"]) == 0
    assert cli.main(words) == 2
    assert "holds a dataset with another settings" in capsys.readouterr().err
    MediaDataset(ingested).media(0)
    with pytest.raises(DatasetError, match="media"):
        MediaDataset(tmp_path / "d").media(0)


def test_clips_of_one_source_are_on_one_side_of_a_split(ingested: Path) -> None:
    manifest = LatentDataset(ingested).manifest.to_pandas()
    sides = manifest.groupby("source_sha256")["split_hash"].nunique()
    assert sides.max() == 1
    assert manifest["split_hash"].nunique() == len(sides) > 1


def test_a_rerun_does_nothing_and_a_lost_shard_comes_back(odd_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ingest(odd_folder, out)
    kept = ("rates.json", ".lock")
    files = [p for p in out.rglob("*") if p.is_file() and p.name not in kept]
    before = {path: path.read_bytes() for path in files}
    (out / "dataset.json").unlink()
    (out / "shard-00000.tar").unlink()
    ingest(odd_folder, out)
    assert {path: path.read_bytes() for path in files} == before


def test_a_dataset_inside_the_folder_is_not_read_again(tmp_path: Path) -> None:
    media.write(tmp_path / "a.mp4", knock_and_flash(0.6, [0.2]))
    for _ in range(2):
        assert ingest(tmp_path, tmp_path / "out") == 0
        assert list(rows_of(tmp_path / "out")) == ["a.mp4"]


def test_a_clip_written_by_avgen_keeps_its_caption(tmp_path: Path) -> None:
    event = Event.at(0.2, 0.3, "a knock")
    caption = TimedCaption(duration_us=600_000, text="A wall.", events=(event,))
    (tmp_path / "in").mkdir()
    media.write(tmp_path / "in" / "a.mp4", replace(knock_and_flash(0.6, [0.2]), caption=caption))
    ingest(tmp_path / "in", tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")["a.mp4"]
    assert (row["captions"][0].text, row["captions"][0].events) == ("A wall.", (event,))


def test_folders_without_media_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    assert ingest(tmp_path / "in", tmp_path / "out") == 2
    assert ingest(tmp_path / "nowhere", tmp_path / "out") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "holds no media files" in told
    assert "no such folder" in told
    (tmp_path / "in" / "a.mp4").write_text("no")
    assert ingest(tmp_path / "in", tmp_path / "out") == 1
