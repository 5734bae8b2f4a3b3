"""Files of strangers: each ends in a MediaError that names it, cheaply."""

import os
import random
import re
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import click_track, write_media

from avgen import media
from avgen.clip import Clip
from avgen.media import MediaError, MediaLimits

CFR = [i / 25 for i in range(50)]
MAGICS = [
    b"\x1a\x45\xdf\xa3",
    b"fLaC",
    b"OggS",
    b"ID3\x03",
    b"FLV\x01",
    b"\0\0\x01\xba",
    b"RIFF\0\0\0\0AVI ",
    b"RIFF\0\0\0\0WAVE",
    b"\xff\xfb",
    b"\xff\xf1",
    b"\0\0\0\x20ftypisom",
    b"G" + b"\0" * 187 + b"G" + b"\0" * 187 + b"G",
    b"nothing known",
]


def refused(path: Path, **options: object) -> str:
    with pytest.raises(MediaError) as caught:
        media.read(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "; " in message
    return message


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "good.mp4"
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (25, 32, 32, 3)).astype(np.uint8)
    clip = Clip(frames=frames, waveform=click_track(1.0, [0.5]), sample_rate=48_000)
    return clip.save(path).read_bytes()


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    assert "directory" in refused(tmp_path)
    assert "No such file" in refused(tmp_path / "missing.mp4")
    assert "null byte" in refused(tmp_path / "nul\0byte")
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    assert "not a regular file" in refused(pipe)
    assert "not a regular file" in refused(Path("/dev/zero"))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert "empty" in refused(empty)


@pytest.mark.parametrize("magic", MAGICS)
def test_garbage_behind_every_magic(tmp_path: Path, magic: bytes) -> None:
    path = tmp_path / "garbage.mp4"
    path.write_bytes(magic + random.Random(0).randbytes(5000))
    refused(path)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.6, 0.9, 0.99, 0.9999])
def test_truncated_mp4(tmp_path: Path, good: bytes, share: float) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(good[: int(len(good) * share)])
    assert "cut off" in refused(path)


@pytest.mark.parametrize(
    ("name", "audio"), [("a.mkv", "flac"), ("a.wav", "pcm_s16le"), ("a.flac", "flac")]
)
def test_truncated_others(tmp_path: Path, name: str, audio: str) -> None:
    rng = np.random.default_rng(0)
    wave = (0.3 * rng.standard_normal((1, 96_000))).astype(np.float32)
    times = CFR if name.endswith("mkv") else []
    path = write_media(tmp_path / name, times=times, waveform=wave, audio_codec=audio)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path)


@pytest.mark.parametrize("name", ["list.mp4", "list.ffconcat", "list.m3u8"])
def test_scripts_never_reach_another_file(tmp_path: Path, good: bytes, name: str) -> None:
    (tmp_path / "secret.mp4").write_bytes(good)
    path = tmp_path / name
    for script in (
        "ffconcat version 1.0\nfile secret.mp4\n",
        f"ffconcat version 1.0\nfile '{tmp_path / 'secret.mp4'}'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    ):
        path.write_text(script)
        assert "not a known media file" in refused(path)


def test_names_are_not_protocols(tmp_path: Path, good: bytes, monkeypatch) -> None:
    (tmp_path / "a.mp4").write_bytes(good)
    monkeypatch.chdir(tmp_path)
    for name in ("file:a.mp4", "concat:a.mp4|a.mp4", "http://localhost/a.mp4", "cache:a.mp4"):
        refused(Path(name))
    Path("subfile,,start,0,end,9,,:a.mp4").write_bytes(good)
    assert media.read("subfile,,start,0,end,9,,:a.mp4").num_frames == 25


def black(path: Path, num_frames: int, size: int, fps: int = 25) -> Path:
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "g": "100000"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height = stream.width = size
        frame = av.VideoFrame.from_ndarray(np.zeros((size, size, 3), np.uint8), format="rgb24")
        frame = frame.reformat(format="yuv420p")
        for index in range(num_frames):
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_bombs_are_refused_before_they_cost(tmp_path: Path) -> None:
    hours = black(tmp_path / "hours.mp4", 20_000, 16)
    large = black(tmp_path / "large.mkv", 100, 1024)
    begun = time.monotonic()
    assert "max_duration" in refused(hours)
    assert "max_output_bytes" in refused(large, limits=MediaLimits(max_output_bytes=100 << 20))
    assert "max_pixels" in refused(large, limits=MediaLimits(max_pixels=512 * 512))
    assert "max_file_bytes" in refused(large, limits=MediaLimits(max_file_bytes=100))
    assert "max_streams" in refused(large, limits=MediaLimits(max_streams=0))
    assert "max_fps" in refused(large, limits=MediaLimits(max_fps=20))
    assert time.monotonic() - begun < 2
    assert "max_decoded_bytes" in refused(large, limits=MediaLimits(max_decoded_bytes=30 << 20))
    assert media.read(hours, start=700, end=701).num_frames == 25
    fast = black(tmp_path / "fast.mkv", 30, 16, fps=30_000)
    assert "max_fps" in refused(fast)


def test_claims_are_not_trusted_while_decoding(tmp_path: Path) -> None:
    path = black(tmp_path / "liar.mkv", 100, 512)
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88") + 3
    path.write_bytes(data[:at] + struct.pack(">d", 40.0) + data[at + 8 :])
    assert "max_output_bytes" in refused(path, limits=MediaLimits(max_output_bytes=30 << 20))


def test_long_sound_without_a_length_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "hours.aac"
    write_media(path, waveform=np.zeros((1, 48_000 * 4), np.float32))
    path.write_bytes(path.read_bytes() * 20)
    assert "max_duration" in refused(path, limits=MediaLimits(max_duration=10))


def test_index_bomb(tmp_path: Path, good: bytes) -> None:
    data = bytearray(good)
    sizes, chunks = data.index(b"stsz"), data.index(b"stsc")
    data[sizes + 8 : sizes + 16] = struct.pack(">II", 10, 60_000_000)
    data[chunks + 16 : chunks + 20] = struct.pack(">I", 60_000_000)
    path = tmp_path / "index.mp4"
    path.write_bytes(data)
    assert "lists 60000" in refused(path)


@pytest.mark.parametrize(
    "options",
    [
        {"start": -1.0},
        {"start": 1.0},
        {"end": 2.0},
        {"start": 0.5, "end": 0.5},
        {"end": float("nan")},
        {"start": float("inf")},
        {"fps": 10_000},
        {"fps": 0},
        {"sample_rate": 0},
        {"sample_rate": 10**9},
        {"size": (0, 4)},
        {"size": (10**5, 10**5)},
    ],
)
def test_impossible_requests(tmp_path: Path, good: bytes, options: dict) -> None:
    path = tmp_path / "good.mp4"
    path.write_bytes(good)
    refused(path, **options)


FUZZ = """
import random, resource, sys, struct
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from avgen import media
good, outcome = Path(sys.argv[1]).read_bytes(), {"read": 0, "refused": 0}
for seed in range(int(sys.argv[2])):
    rng, data = random.Random(seed), bytearray(good)
    kind, at = seed % 6, rng.randrange(len(good) - 8)
    if kind == 0:
        del data[at:]
    elif kind == 1:
        for _ in range(30):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        for _ in range(5):
            data[rng.randrange(min(600, len(data)))] = rng.randrange(256)
    elif kind == 3:
        data[at : at + 500] = bytes(len(data[at : at + 500]))
    elif kind == 4:
        del data[at : at + rng.randrange(3000)]
    else:
        at = rng.randrange(min(1500, len(data) - 4))
        data[at : at + 4] = struct.pack(">I", rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 24]))
    target = Path(sys.argv[1]).with_name("mutated.bin")
    target.write_bytes(data)
    try:
        media.read(target)
        outcome["read"] += 1
    except media.MediaError as error:
        assert str(target) in str(error)
        outcome["refused"] += 1
status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
print(outcome["read"], outcome["refused"], int(status.split()[0]) // 1024)
"""


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_damaged_files_never_crash_or_hang(tmp_path: Path, good: bytes, name: str) -> None:
    source = tmp_path / name
    if name == "a.mp4":
        source.write_bytes(good)
    else:
        write_media(source, times=CFR[:25], waveform=click_track(1.0, [0.5]))
    run = subprocess.run(
        [sys.executable, "-c", FUZZ, str(source), "60"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    read, refusals, peak = map(int, re.findall(r"\d+", run.stdout))
    assert read + refusals == 60
    assert refusals > 10
    assert peak < 400
