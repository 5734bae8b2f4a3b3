import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_files import click_track, delay, gray, indices

from avgen import media
from avgen.caption import Event, TimedCaption
from avgen.clip import Clip
from avgen.media import MediaError, MediaWriter


def flash_and_beep(
    fps: Fraction, sample_rate: int, flashes: list[int], duration: float, size: int = 32
) -> Clip:
    num_frames = round(duration * fps)
    frames = np.zeros((num_frames, size, size, 3), np.uint8)
    frames[flashes] = 255
    seconds = float(num_frames / fps)
    times = [float(flash / fps) for flash in flashes]
    waveform = click_track(seconds, times, sample_rate)
    return Clip(frames=frames, fps=fps, waveform=waveform, sample_rate=sample_rate)


@pytest.mark.parametrize(
    ("fps", "sample_rate"),
    [
        (Fraction(25), 16_000),
        (Fraction(24), 24_000),
        (Fraction(30_000, 1001), 44_100),
        (Fraction(12), 48_000),
        (Fraction(60), 22_050),
    ],
)
def test_flash_and_beep_keep_their_offset(tmp_path: Path, fps: Fraction, sample_rate: int) -> None:
    flashes = [round(0.4 * fps), round(1.2 * fps)]
    clip = flash_and_beep(fps, sample_rate, flashes, 1.96)
    back = Clip.open(clip.save(tmp_path / "clip.mp4"))
    assert back.fps == fps
    assert back.sample_rate == sample_rate
    assert back.frames is not None
    assert back.waveform is not None
    assert back.waveform.shape == clip.waveform.shape
    assert list(np.flatnonzero(back.frames.mean((1, 2, 3)) > 128)) == flashes
    assert abs(delay(clip.waveform[0], back.waveform[0], sample_rate)) < 1e-4


@pytest.mark.parametrize("num_frames", [1, 2, 49, 61])
@pytest.mark.parametrize("extra", [-0.3, -0.01, 0.0, 0.0007, 0.013, 0.5])
def test_picture_and_sound_end_together(tmp_path: Path, num_frames: int, extra: float) -> None:
    frames = np.stack([gray(i) for i in range(num_frames)])
    samples = max(1, round((num_frames / 25 + extra) * 16_000))
    waveform = np.full((1, samples), 0.1, np.float32)
    path = Clip(frames=frames, waveform=waveform).save(tmp_path / "clip.mp4")
    info = media.probe(path)
    assert info.video is not None
    assert info.audio is not None
    longest = max(num_frames / 25, samples / 16_000)
    assert info.video.start == info.audio.start == 0
    assert abs(info.video.duration - info.audio.duration) < 1e-4
    assert abs(info.video.duration - longest) < 1e-4
    back = media.read(path)
    expected = num_frames if longest < (num_frames + 1) / 25 else round(longest * 25)
    assert back.num_frames == expected
    assert indices(back.frames) == [min(i, num_frames - 1) for i in range(expected)]


def test_pieces_make_the_same_file_as_the_whole(tmp_path: Path) -> None:
    clip = flash_and_beep(Fraction(25), 16_000, [10, 30], 1.96)
    whole = media.read(clip.save(tmp_path / "whole.mp4"))
    with MediaWriter(tmp_path / "pieces.mp4", size=(32, 32), sample_rate=16_000) as writer:
        for at in range(0, 49, 4):
            writer.write(clip.frames[at : at + 4])
        for a, b in itertools.pairwise([0, 1, 700, 701, 15_000, 31_360]):
            writer.write(waveform=clip.waveform[:, a:b])
    pieces = media.read(tmp_path / "pieces.mp4")
    np.testing.assert_array_equal(pieces.frames, whole.frames)
    np.testing.assert_array_equal(pieces.waveform, whole.waveform)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (33, 64), (17, 31), (50, 75)])
def test_odd_sizes_come_back(tmp_path: Path, size: tuple[int, int]) -> None:
    ramp = np.linspace(40, 200, size[0] * size[1]).reshape(1, *size, 1)
    frames = np.repeat(np.repeat(ramp, 3, axis=0), 3, axis=-1).astype(np.uint8)
    path = Clip(frames=frames).save(tmp_path / "odd.mp4")
    info = media.probe(path).video
    assert info is not None
    assert info.height % 2 == info.width % 2 == 0
    back = media.read(path)
    assert back.waveform is None
    assert back.frames.shape == frames.shape
    assert np.abs(back.frames.astype(int) - frames).mean() < 4


def test_colours_survive(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (40, 1, 1, 3)).astype(np.uint8)
    frames = np.broadcast_to(colours, (40, 32, 32, 3)).copy()
    back = media.read(Clip(frames=frames).save(tmp_path / "colours.mp4"))
    assert np.abs(back.frames[:, 16, 16].astype(int) - colours[:, 0, 0]).max() <= 6


def test_stereo_keeps_its_sides_and_sound_can_be_alone(tmp_path: Path) -> None:
    waveform = np.concatenate([click_track(1.3, [0.5]), click_track(1.3, [0.9])])
    path = Clip(frames=None, waveform=waveform, sample_rate=48_000).save(tmp_path / "sound.m4a")
    back = media.read(path)
    assert back.frames is None
    assert back.waveform.shape == waveform.shape
    peaks = np.abs(back.waveform).argmax(axis=1) / 48_000
    np.testing.assert_allclose(peaks, [0.5, 0.9], atol=1e-3)
    assert media.read(path, channels=1).waveform.shape == (1, waveform.shape[1])


def test_caption_and_request_travel_inside(tmp_path: Path) -> None:
    caption = TimedCaption(
        duration_us=1_960_000,
        text="zwei Bälle <&> \N{SPEAKER}",
        events=(Event.at(0.4, 0.5, "clank", id="a"), Event.at(1.0, 1.96, "hum", "ambience")),
    )
    clip = flash_and_beep(Fraction(25), 16_000, [10], 1.96)
    clip = clip.replace(caption=caption, request={"seed": 3, "folder": tmp_path})
    path = clip.save(tmp_path / "clip.mp4")
    back = Clip.open(path)
    assert back.caption == caption
    assert back.request == {"seed": 3, "folder": str(tmp_path)}
    part = Clip.open(path, start=0.44, end=1.04)
    assert [(e.start_us, e.end_us) for e in part.caption.events] == [
        (0, 60_000),
        (560_000, 600_000),
    ]


def test_file_is_complete_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"before")
    clip = flash_and_beep(Fraction(25), 16_000, [10], 1.0)
    with (
        pytest.raises(ValueError, match="opened with"),
        MediaWriter(path, size=(32, 32), sample_rate=None) as writer,
    ):
        writer.write(clip.frames, clip.waveform)
    assert path.read_bytes() == b"before"
    with (
        pytest.raises(MediaError, match="no data"),
        MediaWriter(path, size=(32, 32), sample_rate=16_000) as writer,
    ):
        writer.write(clip.frames)
    assert path.read_bytes() == b"before"
    clip.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_writer_refuses_with_a_sentence(tmp_path: Path) -> None:
    clip = flash_and_beep(Fraction(25), 16_000, [10], 1.0)
    with pytest.raises(MediaError, match=r"clip\.avi.*\.mp4"):
        clip.save(tmp_path / "clip.avi")
    with pytest.raises(MediaError, match="folder"):
        clip.save(tmp_path / "missing" / "clip.mp4")
    wide = clip.replace(waveform=np.zeros((3, 100), np.float32))
    with pytest.raises(MediaError, match="3 sound channels"):
        wide.save(tmp_path / "clip.mp4")
    with MediaWriter(tmp_path / "clip.mp4", size=(32, 32), sample_rate=None) as writer:
        writer.write(clip.frames)
        with pytest.raises(ValueError, match="opened with"):
            writer.write(clip.frames[:, :16])
        with pytest.raises(ValueError, match="opened with None"):
            writer.write(waveform=clip.waveform)


@pytest.mark.slow
def test_no_drift_over_ten_minutes(tmp_path: Path) -> None:
    fps, minutes = Fraction(2), 10
    clicks = [60.0 * i + 1 for i in range(minutes)]
    flashes = {round(click * fps) for click in clicks}
    path = tmp_path / "long.mp4"
    dark, light = np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 16, 16, 3), 255, np.uint8)
    minute = click_track(60.0, [1.0], 16_000)
    with MediaWriter(
        path, fps=fps, size=(16, 16), sample_rate=16_000, preset="ultrafast"
    ) as writer:
        for i in range(minutes):
            for j in range(120):
                writer.write(light if 120 * i + j in flashes else dark)
            writer.write(waveform=minute)
    info = media.probe(path)
    assert abs(info.video.duration - 600) < 1e-3
    assert abs(info.audio.duration - 600) < 1e-3
    clip = media.read(path)
    assert set(np.flatnonzero(clip.frames.mean((1, 2, 3)) > 128)) == flashes
    lags = [
        delay(minute[0, :32_000], clip.waveform[0, at : at + 32_000], 16_000)
        for at in range(0, 600 * 16_000, 60 * 16_000)
    ]
    assert max(map(abs, lags)) < 1e-4


@pytest.mark.parametrize("size", [16, 24, 48])
def test_same_clip_gives_the_same_bytes(tmp_path: Path, size: int) -> None:
    clip = flash_and_beep(Fraction(25), 16_000, [5], 0.8, size)
    written = set()
    for i in range(40):  # what lies in memory varies
        scraps = [np.full(997 * (i + k), k, np.uint8) for k in range(20)]
        written.add(clip.save(tmp_path / "clip.mp4").read_bytes())
        del scraps
    assert len(written) == 1
