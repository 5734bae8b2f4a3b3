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
from avgen_data_prep.encode import Weights
from avgen_data_prep.ingest import FAILED, IngestSource, ingest
from avgen_data_prep.proposals import propose_events
from avgen_data_prep.worlds import WORLDS

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
    """Grey frames that turn white, and a click, at each time."""
    fps, rate = 25, 16_000
    frames = np.full((round(duration * fps), size, size, 3), 60, np.uint8)
    rng = np.random.default_rng(int(duration * 100))
    waveform = (rng.normal(size=(1, len(frames) * rate // fps)) * 1e-4).astype(np.float32)
    for time in times:
        frame, sample = round(time * fps), round(time * rate)
        frames[frame : frame + 3] = 220
        ramp = np.arange(800)
        waveform[0, sample : sample + 800] += 0.5 * np.sin(ramp * 0.3) * np.exp(-ramp / 200)
    return Clip(frames=frames, fps=Fraction(fps), waveform=waveform, sample_rate=rate)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    VideoVAE(encoder_widths=(8, 8), decoder_widths=(8, 8)).save(folder / "video_vae.safetensors")
    SeanetAudioCodec(num_filters=2, codebook_size=16).save(folder / "audio_codec.safetensors")
    return Weights.find(folder)


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


def source_of(folder: Path, out: Path, weights: Weights | None = None) -> IngestSource:
    return IngestSource(folder=folder, out=out, seconds=SECONDS, size=SIZE, weights=weights)


def test_odd_folder(odd_folder: Path, tmp_path: Path, weights: Weights) -> None:
    out = tmp_path / "out"
    info, records = ingest(source_of(odd_folder, out, weights))
    outcomes = {record["file"]: record["outcome"] for record in records}
    assert outcomes == {
        "below/told.txt": "sidecar",
        "empty.mov": "failed",
        "empty.mp4": "failed",
        "lonely.srt": "ignored",
        "notes.md": "ignored",
        "short.mp4": "failed",
        "sound.json": "bad caption",
        "text.mp4": "failed",
        "timed.vtt": "sidecar",
        "truncated.mp4": "failed",
        "unlike.mp4": "duplicate",
    }
    sources = Counter(MediaDataset(out).manifest["source"].to_pylist())
    assert sources == {"timed.mp4": 2, "below/told.MP4": 1, "silent.mp4": 1, "sound.mp4": 1}
    assert info.num_examples == sum(sources.values())


def test_counts_add_up(odd_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    info, records = ingest(source_of(odd_folder, out))
    counts = info.counts
    kinds = ("used", "failed", "duplicate", "sidecar", "ignored")
    found = [p for p in odd_folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    assert counts["files_found"] == len(found) == sum(counts[f"files_{kind}"] for kind in kinds)
    assert (counts["files_used"], counts["files_failed"], counts["captions_unreadable"]) == (
        4,
        5,
        1,
    )
    table = pq.ParquetFile(out / FAILED).read().to_pylist()
    assert {row["file"] for row in table} == {
        r["file"] for r in records if r["outcome"] not in ("sidecar", "ignored")
    } | {"sound.json"}
    assert all(row["reason"] for row in table)
    assert str(odd_folder) not in json.dumps(table)


def test_captions_come_from_sidecars_cut_to_the_window(odd_folder: Path, tmp_path: Path) -> None:
    ingest(source_of(odd_folder, tmp_path / "out"))
    dataset = MediaDataset(tmp_path / "out")
    rows = [dataset.provenance(index) for index in range(len(dataset))]
    timed = sorted(
        (row for row in rows if row["source"] == "timed.mp4"),
        key=lambda r: r["metadata"]["start_us"],
    )
    for row, text, start in zip(
        timed, ("a knock", "another knock"), (200_000, 280_000), strict=True
    ):
        (caption,) = row["captions"]
        (event,) = caption.events
        assert (event.text, event.start_us, event.provenance) == (text, start, None)
        assert caption.duration_us == FRAMES * 40_000
    assert timed[1]["metadata"]["start_us"] == 520_000


def test_files_without_times_get_proposals(odd_folder: Path, tmp_path: Path) -> None:
    ingest(source_of(odd_folder, tmp_path / "out"))
    dataset = MediaDataset(tmp_path / "out")
    rows = {row["source"]: row for row in map(dataset.provenance, range(len(dataset)))}
    for name, text, tracks in (
        ("below/told.MP4", "A flashing wall.", {"sfx", "visual"}),
        ("silent.mp4", "a silent video", {"visual"}),
        ("sound.mp4", "a sound recording", {"sfx"}),
    ):
        (caption,) = rows[name]["captions"]
        assert caption.text == text
        assert {event.track for event in caption.events} == tracks
        assert {event.provenance for event in caption.events} == {"proposal"}
        assert all(0 < (event.confidence or 0) < 1 for event in caption.events)


def test_missing_streams_are_recorded(odd_folder: Path, tmp_path: Path, weights: Weights) -> None:
    ingest(source_of(odd_folder, tmp_path / "out", weights))
    dataset = LatentDataset(tmp_path / "out")
    by_source = dict(zip(dataset.manifest["source"].to_pylist(), range(len(dataset)), strict=True))
    silent, sound = dataset[by_source["silent.mp4"]], dataset[by_source["sound.mp4"]]
    assert silent["audio"] is None
    assert silent["video"] is not None
    assert silent["video"].shape[1:] == (4, 6, 6)
    assert sound["video"] is None
    assert sound["audio"] is not None
    assert sound["audio"].shape == (32, FRAMES)
    rows = dataset.manifest.to_pylist()
    assert rows[by_source["sound.mp4"]]["num_frames"] == 0
    assert rows[by_source["silent.mp4"]]["num_samples"] == 0


def test_ingested_folder_trains(odd_folder: Path, tmp_path: Path, weights: Weights) -> None:
    ingest(source_of(odd_folder, tmp_path / "out", weights))
    module = LatentDataModule([str(tmp_path / "out")], batch_size=2, val_fraction=0)
    seen = [name for batch in module.train_dataloader() for name in batch.ids]
    assert set(seen) == set(LatentDataset(tmp_path / "out").manifest["id"].to_pylist())


def test_ids_depend_on_contents_and_cut_alone(odd_folder: Path, tmp_path: Path) -> None:
    def ids(folder: Path, out: Path, seconds: float = SECONDS) -> set[str]:
        source = IngestSource(folder=folder, out=out, seconds=seconds, size=SIZE)
        ingest(source)
        return set(MediaDataset(out).manifest["id"].to_pylist())

    first = ids(odd_folder, tmp_path / "first")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(odd_folder / "timed.mp4", elsewhere / "renamed.mp4")
    assert ids(elsewhere, tmp_path / "second") < first
    assert not ids(elsewhere, tmp_path / "third", seconds=0.36) & first


def test_rerun_and_workers_write_the_same_bytes(odd_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ingest(source_of(odd_folder, out))
    files = [p for p in out.rglob("*") if p.is_file() and p.name != ".lock"]
    before = {path: path.read_bytes() for path in files}
    (out / "dataset.json").unlink()
    (out / "shard-00000.tar").unlink()
    ingest(source_of(odd_folder, out))
    assert {path: path.read_bytes() for path in files} == before


def test_dataset_inside_the_folder_is_not_read_again(tmp_path: Path) -> None:
    media.write(tmp_path / "a.mp4", knock_and_flash(0.6, [0.2]))
    for _ in range(2):
        info, records = ingest(source_of(tmp_path, tmp_path / "out"))
        assert (info.num_examples, records) == (1, [])


def test_clip_written_by_avgen_keeps_its_caption(tmp_path: Path) -> None:
    event = Event.at(0.2, 0.3, "a knock")
    caption = TimedCaption(duration_us=600_000, text="A wall.", events=(event,))
    (tmp_path / "in").mkdir()
    media.write(tmp_path / "in" / "a.mp4", replace(knock_and_flash(0.6, [0.2]), caption=caption))
    ingest(source_of(tmp_path / "in", tmp_path / "out"))
    (found,) = MediaDataset(tmp_path / "out").provenance(0)["captions"]
    assert (found.text, found.events) == ("A wall.", (event,))


def test_file_damaged_towards_its_end_gives_its_good_windows(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.mp4"
    path.parent.mkdir()
    media.write(path, knock_and_flash(2.6, [0.2, 1.0, 1.8]))
    data = bytearray(path.read_bytes())
    start, end = int(len(data) * 0.6), int(len(data) * 0.9)
    data[start:end] = np.random.default_rng(0).bytes(end - start)
    path.write_bytes(data)
    info, (record,) = ingest(source_of(path.parent, tmp_path / "out"))
    assert record["outcome"] == "damaged"
    assert "windows lost, the first from" in record["reason"]
    assert info.num_examples + int(record["reason"].split()[0]) == 5
    assert info.num_examples > 0
    assert (info.counts["files_used"], info.counts["files_partly_damaged"]) == (1, 1)


def test_folder_without_media_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DatasetError, match="holds no media files"):
        ingest(source_of(tmp_path, tmp_path / "out"))
    with pytest.raises(ValueError, match="no such folder"):
        source_of(tmp_path / "nowhere", tmp_path / "out")


def test_command_reports_and_goes_on(
    odd_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seconds", str(SECONDS), "--size", str(SIZE), "--no-encode"]
    assert cli.main(["ingest", str(odd_folder), str(tmp_path / "out"), *options]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "5 clips from 4 of 10 media files" in told
    assert "truncated.mp4" in told
    assert "2 other files are neither media nor captions" in told
    assert read_info(tmp_path / "out").num_examples == 5


def test_command_with_nothing_usable_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_text("no")
    assert cli.main(["ingest", str(tmp_path / "in"), str(tmp_path / "out"), "--no-encode"]) == 1


@pytest.mark.parametrize(
    ("world", "track", "recall", "precision"),
    [
        ("bounce", "sfx", 0.95, 0.95),
        ("drums", "sfx", 0.95, 0.95),
        ("bounce", "visual", 0.75, 0.85),
        ("drums", "visual", 0.95, 0.7),
    ],
)
def test_proposals_are_where_the_worlds_have_events(
    world: str, track: str, recall: float, precision: float
) -> None:
    found = expected = right = proposed = 0
    for seed in range(8):
        example = WORLDS[world].render(seed)
        times = [event["time"] for event in example.truth["events"]]
        starts = [e.start for e in propose_events(example.clip) if e.track == track]
        found += sum(any(abs(time - start) < 0.06 for start in starts) for time in times)
        right += sum(any(abs(time - start) < 0.06 for time in times) for start in starts)
        expected += len(times)
        proposed += len(starts)
    assert found / expected > recall
    assert right / proposed > precision


def test_stillness_and_silence_propose_nothing() -> None:
    still = Clip(
        frames=np.full((20, 16, 16, 3), 99, np.uint8),
        fps=Fraction(25),
        waveform=np.zeros((1, 12_800), np.float32),
        sample_rate=16_000,
    )
    assert propose_events(still) == ()
    rng = np.random.default_rng(0)
    hiss = rng.normal(size=(1, 32_000)).astype(np.float32) * 0.1
    grain = rng.normal(99, 3, size=(50, 64, 64, 3)).round().astype(np.uint8)
    assert propose_events(replace(still, waveform=hiss, frames=grain)) == ()


@pytest.mark.parametrize("samples", [1, 100, 700])
def test_tiny_clips_propose_nothing_and_do_not_fail(samples: int) -> None:
    clip = Clip(
        frames=np.zeros((1, 4, 4, 3), np.uint8),
        fps=Fraction(25),
        waveform=np.zeros((1, samples), np.float32),
        sample_rate=16_000,
    )
    assert propose_events(clip) == ()
