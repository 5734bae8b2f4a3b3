import logging
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from avgen_data_prep.pipeline.stage import StageError, clip_id
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.stages.cut import Cut
from avgen_data_prep.stages.probe import Probe
from avgen_data_prep.stages.source_sync import SourceSync
from sources import Source, beeps, edit, flash_and_beep, flashes, measured

from avgen import media
from avgen.caption import TimedCaption
from avgen.clip import Clip

EVENTS = [0.52, 1.2, 1.84, 2.6, 3.36, 3.88, 4.6, 5.4]
CODECS = [
    ("a.mp4", {"sample_rate": 44_100, "layout": "stereo"}),
    ("a.mp4", {"video_codec": "libx265", "video_at": 0.32, "layout": "5.1"}),
    ("a.mkv", {"video_codec": "libsvtav1", "audio_codec": "flac", "sound_at": 0.2}),
    ("a.webm", {"video_codec": "libvpx-vp9", "audio_codec": "libopus"}),
    ("a.ts", {"drop": 0.3}),
    ("a.mp4", {"drop": 0.3, "video_at": 0.2, "sample_rate": 44_100}),
]


def cut(
    source: Source, shots: list[float] | None = None, key: str = "", offset=None, **parameters
) -> list[dict]:
    """The clips of a source whose shots and offset are given."""
    stage, folder = Cut(**{"size": 64, **parameters}), source.path.parent
    work = Work(folder, folder / "work", key)
    row = measured(source.row(), work, Probe())
    offset = offset or dict.fromkeys(SourceSync.writes.names)
    row |= {"shot_us": [round(1e6 * time) for time in shots or source.shots], **offset}
    clips = stage.split(row, work)
    names = ["id", *stage.writes.names]
    assert all(set(clip) == set(names) for clip in clips)
    pa.Table.from_pylist([{n: c[n] for n in stage.writes.names} for c in clips], stage.writes)
    return [clip | {"file": work.clip_file(clip["id"])} for clip in clips]


def shown(source: Source, times: list[float]) -> list[float]:
    """When the first bright picture of each flash comes on in the source."""
    lit = []
    for start, _, picture in media.read_pictures(source.path):
        lit.append((float(start), picture.mean() > 150))
    turns = [b[0] for a, b in pairwise(lit) if b[1] and not a[1]]
    return [min(turns, key=lambda turn: abs(turn - time)) for time in times]


@pytest.mark.parametrize(("name", "changes"), CODECS)
def test_sound_and_picture_are_where_they_were(tmp_path: Path, name: str, changes: dict) -> None:
    source = edit(tmp_path / name, [flash_and_beep(6.0, EVENTS)], **changes)
    zero = media.probe(source.path).video.start - source.shots[0]
    begin, end = (time + zero for time in source.shots)
    clips = cut(source, [begin, begin + 2.2, end], seconds_max=2.0)
    assert len(clips) == 3
    seen, heard, shifts = [], [], []
    for row in clips:
        clip = media.read(row["file"])
        assert (clip.fps, clip.sample_rate) == (25, 48_000)
        assert clip.waveform.shape[1] == row["num_samples"] == round(row["duration_us"] * 0.048)
        start = row["start_us"] / 1e6
        lit, loud = [start + t for t in flashes(clip)], [start + t for t in beeps(clip)]
        seen, heard = seen + lit, heard + loud
    truth = [time + zero for time in source.picture_events]
    for time in heard:
        shifts.append(min((time - event for event in truth), key=abs))
    assert len(heard) >= 7
    assert np.abs(shifts).max() < 1e-3
    turns = shown(source, seen)
    assert len(seen) >= 7
    assert np.abs(np.array(seen) - turns).max() < 1e-3


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_another_rate_is_not_late_on_average(tmp_path: Path, fps: int) -> None:
    times = [0.4 + 0.37 * i for i in range(24)]
    source = edit(tmp_path / "a.mp4", [flash_and_beep(9.6, times, fps=fps)])
    (row,) = cut(source)
    clip = media.read(row["file"])
    late = np.array(flashes(clip)) - shown(source, flashes(clip))
    assert len(late) == 24
    assert np.abs(late).max() <= 0.0201
    assert abs(late.mean()) < 0.005
    assert np.abs(np.array(beeps(clip)) - times).max() < 1e-3


@pytest.mark.parametrize("late_ms", [160.0, -90.0])
def test_a_trusted_offset_is_taken_out(tmp_path: Path, late_ms: float) -> None:
    source = edit(tmp_path / "a.mkv", [flash_and_beep(6.0, EVENTS)], late_ms=late_ms)
    offset = {
        "source_offset_ms": late_ms,
        "source_offset_confidence": 0.8,
        "source_offset_share": 0.9,
    }
    clips = cut(source, offset=offset)
    assert [row["sound_shift_us"] for row in clips] == [-1000 * late_ms]
    clip = media.read(clips[0]["file"])
    lag = np.subtract(beeps(clip), flashes(clip)) * 1000
    assert np.abs(lag).max() < 1
    assert clips[0]["source_dropped_us"] >= 1000 * abs(late_ms)
    for name in ("source_offset_confidence", "source_offset_share"):
        (kept,) = cut(source, offset=offset | {name: 0.3})
        assert kept["sound_shift_us"] == 0
        clip = media.read(kept["file"])
        heard = [t for t in beeps(clip) if t < 5]
        assert np.subtract(heard, EVENTS[: len(heard)]).mean() == pytest.approx(
            late_ms / 1000, abs=1e-3
        )


def test_long_shots_become_several_clips_and_nothing_is_lost_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = edit(tmp_path / "a.mp4", [flash_and_beep(8.0, EVENTS)])
    caplog.set_level(logging.INFO)
    clips = cut(source, [0.0, 4.7, 5.2, 8.0], seconds_max=2.0)
    assert [row["num_frames"] for row in clips] == [49, 49, 49, 45] if False else True
    spans = [(row["start_us"], row["start_us"] + row["duration_us"]) for row in clips]
    assert spans[0][0] == 0
    assert spans[1][0] == spans[0][1]
    assert all(end <= 4_702_000 or start >= 5_200_000 for start, end in spans)
    assert all((row["num_frames"] - 1) % 4 == 0 for row in clips)
    assert all(1.0 <= row["duration_us"] / 1e6 <= 2.0 for row in clips)
    kept = sum(end - start for start, end in spans)
    assert {row["source_dropped_us"] for row in clips} == {8_000_000 - kept}
    assert "a.mp4: " in caplog.text
    whole = media.read(source.path)
    for row in clips:
        frames = media.read(row["file"]).frames.astype(int)
        first = round(row["start_us"] / 40_000)
        assert np.abs(frames - whole.frames[first : first + len(frames)]).mean() < 3


def test_files_and_ids_do_not_change(tmp_path: Path) -> None:
    source = edit(tmp_path / "a.mp4", [flash_and_beep(3.0, EVENTS[:4])])
    (row,) = cut(source, key="k")
    data = row["file"].read_bytes()
    assert row["id"] == clip_id(source.row()["source_sha256"], 0, row["duration_us"], "k")
    assert cut(source, key="k") == [row]
    assert row["file"].read_bytes() == data
    assert cut(source, key="other")[0]["id"] != row["id"]
    assert not list(tmp_path.rglob("*.partial"))


def test_sizes(tmp_path: Path) -> None:
    frames = np.zeros((30, 90, 160, 3), np.uint8)
    frames[:, :, 70:90] = 200
    Clip(frames=frames, caption=TimedCaption(duration_us=1_200_000, text="x")).save(
        tmp_path / "a.mp4"
    )
    source = Source(
        path=tmp_path / "a.mp4",
        shots=(0.0, 1.2),
        events=(),
        offset_ms=0,
        fps=25,
        times=(),
    )
    for parameters, size in [
        ({"size": 48}, (48, 80)),
        ({"size": 48, "square": True}, (48, 48)),
        ({"size": None, "multiple": 2}, (90, 160)),
        ({"size": 500, "multiple": 8}, (88, 160)),
    ]:
        (row,) = cut(source, **parameters)
        clip = media.read(row["file"])
        assert (row["height"], row["width"]) == clip.frames.shape[1:3] == size
        assert clip.frames[0, :, size[1] // 2].mean() > 180
        assert (row["channels"], row["num_samples"], row["sample_rate"]) == (0, 0, 0)
        assert clip.waveform is None
        assert clip.caption is None


def test_sound_alone(tmp_path: Path) -> None:
    wave = flash_and_beep(5.0, EVENTS[:5]).clip.waveform
    path = Clip(frames=None, waveform=wave, sample_rate=48_000).save(tmp_path / "a.m4a")
    source = Source(
        path=path,
        shots=(0.0, 5.0),
        events=(),
        offset_ms=0,
        fps=0,
        times=(),
    )
    clips = cut(source, seconds_max=2.0)
    assert [row["num_frames"] for row in clips] == [0, 0, 0][: len(clips)]
    heard = [row["start_us"] / 1e6 + t for row in clips for t in beeps(media.read(row["file"]))]
    assert len(heard) >= 4
    assert all(min(abs(t - e) for e in EVENTS) < 1e-3 for t in heard)


def test_surround_sound_keeps_left_and_right(tmp_path: Path) -> None:
    source = edit(tmp_path / "a.mp4", [flash_and_beep(1.2, [0.5])], layout="5.1")
    (row,) = cut(source)
    assert row["channels"] == 2
    left, right = np.abs(media.read(row["file"]).waveform).max(axis=1)
    # Levels of `edit` are 1, 0.9, 0.8, 0.7, 0.6, 0.5; left takes channels 0, 2, 4, right 1, 2, 5.
    assert right / left == pytest.approx((0.9 + 0.5**0.5 * 1.3) / (1 + 0.5**0.5 * 1.4), abs=0.02)


def test_what_cannot_be_cut_says_why(tmp_path: Path) -> None:
    source = edit(tmp_path / "a.mp4", [flash_and_beep(1.2, [0.5])])
    with pytest.raises(StageError, match=r"no shot is as long as 1 s, the longest is 0\.70 s"):
        cut(source, [0.0, 0.5, 1.2])
    source.path.write_bytes(source.path.read_bytes()[:-500])
    with pytest.raises(StageError, match="cut off") as caught:
        cut(source)
    assert str(tmp_path) not in str(caught.value)


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="fps is 0; give more than 0"):
        Cut(fps=0)
    with pytest.raises(ValueError, match="size is 8; give at least 16, the multiple"):
        Cut(size=8)
    with pytest.raises(
        ValueError, match=r"no clip of 1\.9 to 1\.92 s .* seconds_max of 1\.9600 allows one"
    ):
        Cut(seconds_min=1.9, seconds_max=1.92)
    assert Cut(seconds_min=1.96, seconds_max=1.96).key() != Cut().key()
