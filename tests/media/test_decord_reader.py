from pathlib import Path

import numpy as np
import pytest
from media_files import click_track, gray, write_media

from avgen import media
from avgen.clip import Clip

CFR = [i / 25 for i in range(60)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"start": 0.52, "end": 1.6},
        {"start": 0.3, "end": 2.0, "fps": 12, "sample_rate": 16_000},
        {"fps": 50, "end": 2.0, "size": (16, 24), "channels": 2},
    ],
)
def test_decord_equals_pyav(tmp_path: Path, name: str, options: dict) -> None:
    path = write_media(tmp_path / name, times=CFR, waveform=click_track(2.4, [0.3, 1.5]))
    first, second = media.read(path, **options), media.read(path, reader="decord", **options)
    assert first.frames.shape == second.frames.shape
    assert np.abs(first.frames.astype(int) - second.frames).max() <= 2
    assert (first.fps, first.sample_rate) == (second.fps, second.sample_rate)
    np.testing.assert_array_equal(first.waveform, second.waveform)


def test_decord_honours_a_late_picture(tmp_path: Path) -> None:
    path = write_media(
        tmp_path / "late.mp4", times=[0.4 + t for t in CFR], waveform=click_track(2.8, [0.5])
    )
    first, second = media.read(path), media.read(path, reader="decord")
    assert np.abs(first.frames.astype(int) - second.frames).max() <= 2


def test_decord_reads_our_files_with_caption_and_odd_size(tmp_path: Path) -> None:
    frames = np.stack([gray(i, 33, 31) for i in range(9)])
    path = Clip(frames=frames, request={"seed": 1}).save(tmp_path / "odd.mp4")
    clip = media.read(path, reader="decord")
    assert clip.frames.shape == frames.shape
    assert clip.request == {"seed": 1}
    assert np.abs(clip.frames.astype(int) - frames).max() <= 3


def test_decord_refuses_what_it_cannot_time(tmp_path: Path) -> None:
    varying = write_media(tmp_path / "vfr.mp4", times=[0.0, 0.04, 0.3, 0.34, 0.9])
    with pytest.raises(media.MediaError, match="varying frame rate"):
        media.read(varying, reader="decord")
    sound = write_media(tmp_path / "a.wav", waveform=click_track(1, [0.5]), audio_codec="pcm_s16le")
    with pytest.raises(media.MediaError, match="no picture"):
        media.read(sound, reader="decord")
