import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from avgen_data_prep.pipeline.stage import StageError
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.stages.probe import Probe
from sources import edit, flash_and_beep, measured

from avgen.clip import Clip

PROBE = Probe()


def probed(path: Path) -> dict:
    row = measured({"source": path.name}, Work(path.parent, path.parent / "work"), PROBE)
    pa.Table.from_pylist([{n: row[n] for n in PROBE.writes.names}], schema=PROBE.writes)
    return row


def test_facts_of_a_source(tmp_path: Path) -> None:
    clip = flash_and_beep(1.2, [0.4], fps=30)
    kinds = {"sample_rate": 44_100, "layout": "5.1", "video_codec": "libx265"}
    row = probed(edit(tmp_path / "a.mp4", [clip], sound_at=0.25, **kinds).path)
    assert row["source_duration_us"] == pytest.approx(1_200_000, abs=25_000)
    del row["source_duration_us"]
    assert row == {
        "source": "a.mp4",
        "container": "mov",
        "video_codec": "hevc",
        "source_fps": 30.0,
        "variable_rate": False,
        "source_height": 64,
        "source_width": 64,
        "audio_codec": "aac",
        "source_sample_rate": 44_100,
        "source_channels": 6,
        "video_start_us": 0,
        "audio_start_us": pytest.approx(250_000, abs=25_000),
    }


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.webm"])
@pytest.mark.parametrize("fps", [24, 25, 30, 60])
def test_constant_rates_are_constant_in_every_container(
    tmp_path: Path, name: str, fps: int
) -> None:
    codecs = {"video_codec": "libvpx-vp9", "audio_codec": "libopus"} if "web" in name else {}
    row = probed(edit(tmp_path / name, [flash_and_beep(1.0, [0.5], fps=fps)], **codecs).path)
    assert not row["variable_rate"]
    assert row["source_fps"] == pytest.approx(fps, rel=1e-3)


@pytest.mark.parametrize("changes", [{"drop": 0.3}, {"jitter": 0.3}, {"drop": 0.3, "jitter": 0.2}])
def test_varying_rates_are_found_and_their_mean_told(tmp_path: Path, changes: dict) -> None:
    source = edit(tmp_path / "a.mkv", [flash_and_beep(4.0, [0.5])], **changes)
    row = probed(source.path)
    assert row["variable_rate"]
    assert row["source_fps"] == pytest.approx(source.fps, rel=0.03)


def test_only_a_bounded_number_of_packets_is_looked_at(tmp_path: Path) -> None:
    source = edit(tmp_path / "a.mp4", [flash_and_beep(8.0, [0.5])])
    slow = edit(tmp_path / "b.mp4", [flash_and_beep(4.0, [0.5])], drop=0.5)
    assert len(source.times) == 200
    work = Work(tmp_path, tmp_path / "work")
    for most in (40, 100, 1000):
        assert not Probe(packets=most).measure(source.row(), work)["variable_rate"]
        assert Probe(packets=most).measure(slow.row(), work)["variable_rate"]
    with pytest.raises(ValueError, match="packets is 5; give at least 32"):
        Probe(packets=5)


def test_a_transport_stream_of_varying_rate_has_one(tmp_path: Path) -> None:
    clip = flash_and_beep(3.0, [0.5], fps=30)
    source = edit(tmp_path / "a.ts", [clip], jitter=0.2, video_at=0.7)
    row = probed(source.path)
    assert row["source_fps"] == pytest.approx(30, rel=0.02)


def test_a_file_with_a_hole_is_refused(tmp_path: Path) -> None:
    clip = flash_and_beep(6.0, [0.5, 3.0])
    path = edit(tmp_path / "a.mkv", [clip], audio_codec="flac").path
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(data)
    with pytest.raises(StageError, match=r"has a hole: neither picture nor sound from \d\.\d\d to"):
        probed(path)
    late = edit(tmp_path / "b.mkv", [clip], sound_at=2.0)
    still = edit(tmp_path / "c.mkv", [clip], drop=0.97, audio_codec="")
    for whole in (late, still):
        assert probed(whole.path)["video_codec"] == "h264"


def test_streams_that_are_lacking_are_null(tmp_path: Path) -> None:
    silent = probed(edit(tmp_path / "silent.mp4", [flash_and_beep(1.0, [])], audio_codec="").path)
    assert silent["video_codec"] == "h264"
    assert silent["source_channels"] is silent["audio_start_us"] is silent["audio_codec"] is None
    sound = Clip(frames=None, waveform=np.zeros((1, 16_000), np.float32))
    row = probed(sound.save(tmp_path / "sound.m4a"))
    assert row["source_channels"] == 1
    assert row["source_height"] is row["source_fps"] is row["variable_rate"] is None


def test_phone_videos_have_their_upright_size(tmp_path: Path) -> None:
    path = Clip(frames=np.zeros((5, 32, 64, 3), np.uint8)).save(tmp_path / "phone.mp4")
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    row = probed(path)
    assert (row["source_height"], row["source_width"]) == (64, 32)


def test_a_damaged_source_is_refused_without_its_folder(tmp_path: Path) -> None:
    path = edit(tmp_path / "a.mp4", [flash_and_beep(1.0, [0.5])]).path
    path.write_bytes(path.read_bytes()[:3000])
    (tmp_path / "b.mp4").write_text("a letter")
    for name, reason in [("a.mp4", "cut off"), ("b.mp4", "not a known media file")]:
        with pytest.raises(StageError, match=reason) as caught:
            probed(tmp_path / name)
        assert str(tmp_path) not in str(caught.value)
