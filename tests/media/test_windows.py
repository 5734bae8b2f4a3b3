import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import RATE, click_track, gray, indices, write_media

from avgen import media
from avgen.clip import Clip

CFR = [i / 25 for i in range(60)]
SLOW = [i / 10 for i in range(60)]
VFR = [0.0, 0.04, 0.1, 0.5, 0.52, 0.9, 1.7, 4.1, 4.14, 4.2]


def chirp(duration: float) -> np.ndarray:
    at = np.arange(round(duration * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * (200 + 300 * at) * at))[None].astype(np.float32)


def joined(windows: list[Clip]) -> tuple[np.ndarray | None, np.ndarray | None]:
    frames = [w.frames for w in windows if w.frames is not None]
    sounds = [w.waveform for w in windows if w.waveform is not None]
    return (
        np.concatenate(frames) if frames else None,
        np.concatenate(sounds, axis=1) if sounds else None,
    )


def same(path: Path, seconds: float, **options) -> list[Clip]:
    """The windows of a file, found equal to the whole."""
    whole = media.read(path, **options)
    windows = list(media.read_windows(path, seconds=seconds, **options))
    frames, waveform = joined(windows)
    if whole.frames is None:
        assert frames is None
    else:
        np.testing.assert_array_equal(frames, whole.frames)
    if whole.waveform is None:
        assert waveform is None
    else:
        assert waveform is not None
        assert waveform.shape == whole.waveform.shape
        np.testing.assert_allclose(waveform, whole.waveform, atol=1e-5)
    assert {(w.fps, w.sample_rate) for w in windows} == {(whole.fps, whole.sample_rate)}
    return windows


@pytest.mark.parametrize("seconds", [0.04, 0.52, 1.0, 2.4, 30.0])
def test_windows_put_together_are_the_whole(tmp_path: Path, seconds: float) -> None:
    path = write_media(tmp_path / "a.mp4", times=CFR, waveform=chirp(2.4))
    windows = same(path, seconds)
    assert [w.num_frames for w in windows[:-1]] == [round(seconds * 25)] * (len(windows) - 1)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize("rates", [(None, None), (25, 16_000), (50, 44_100), (30, 8_000)])
def test_rates_and_start_offsets(tmp_path: Path, name: str, rates: tuple) -> None:
    path = write_media(
        tmp_path / name, times=[0.3 + t for t in CFR[:60]], waveform=chirp(3.3), sound_at=0.1
    )
    same(path, 0.7, fps=rates[0], sample_rate=rates[1], size=(16, 24), channels=2)


def test_varying_rates_and_sound_that_outlasts_the_picture(tmp_path: Path) -> None:
    path = write_media(tmp_path / "vfr.mp4", times=VFR, waveform=chirp(5.5))
    windows = same(path, 1.0, fps=25)
    assert sum(w.num_frames for w in windows) == round(5.5 * 25)
    same(path, 0.3, fps=120)


def test_sound_alone_and_picture_alone(tmp_path: Path) -> None:
    sound = write_media(tmp_path / "a.flac", waveform=chirp(2.3), audio_codec="flac")
    assert [w.duration for w in same(sound, 1.0, sample_rate=16_000)][:2] == [1.0, 1.0]
    same(write_media(tmp_path / "silent.mp4", times=CFR[:30]), 0.5)


def test_captions_come_with_their_window(tmp_path: Path) -> None:
    from avgen.caption import Event, TimedCaption

    events = (Event.at(0.2, 0.4, "a"), Event.at(1.5, 1.7, "b"))
    caption = TimedCaption(duration_us=2_000_000, text="two", events=events)
    clip = Clip(frames=np.stack([gray(0)] * 50), caption=caption)
    windows = list(media.read_windows(clip.save(tmp_path / "a.mp4"), seconds=1.0))
    assert [[e.text for e in w.caption.events] for w in windows] == [["a"], ["b"]]
    assert windows[1].caption.events[0].start == pytest.approx(0.5)


def long_file(path: Path, seconds: int) -> Path:
    """All sound before all pictures: the worst that a file can be interleaved."""
    times = [i / 10 for i in range(10 * seconds)]
    path = write_media(path, times=[], waveform=chirp(seconds), audio_codec="aac")
    joint = path.with_name(f"joint_{path.name}")
    frames = np.zeros((96, 96, 3), np.uint8)
    with av.open(str(path)) as source, av.open(str(joint), "w", format="matroska") as out:
        sound = out.add_stream_from_template(source.streams.audio[0])
        video = out.add_stream("mpeg4", rate=10)
        video.height, video.width, video.pix_fmt = 96, 96, "yuv420p"
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = sound
                out.mux(packet)
        for index in range(len(times)):
            frame = av.VideoFrame.from_ndarray(frames, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return joint


def peak(path: Path) -> tuple[int, int]:
    """Bytes that Python held at most while going through a file, and windows seen."""
    tracemalloc.start()
    count = sum(1 for _ in media.read_windows(path, seconds=2.0))
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return held, count


def test_memory_is_that_of_a_window(tmp_path: Path) -> None:
    short, few = peak(long_file(tmp_path / "short.mka", 6))
    long, many = peak(long_file(tmp_path / "long.mka", 30))
    assert (few, many) == (3, 15)
    assert long < 1.1 * short


def test_a_damaged_tail_ends_in_an_error_after_the_good_windows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = (0.3 * rng.standard_normal((1, 6 * RATE))).astype(np.float32)
    path = write_media(tmp_path / "a.mkv", times=SLOW, waveform=noise, audio_codec="flac")
    whole = media.read(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    seen: list[Clip] = []
    with pytest.raises(media.MediaError, match=r"a\.mkv: .*(cut off|damaged)"):
        seen.extend(media.read_windows(path, seconds=1.0))  # keeps what came before the error
    assert len(seen) in (3, 4)
    frames, _ = joined(seen)
    np.testing.assert_array_equal(frames, whole.frames[: len(frames)])


def test_arguments_are_refused_at_once(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", times=CFR[:5])
    with pytest.raises(media.MediaError, match="the span 0 to 0 s is empty"):
        media.read_windows(path, seconds=0)
    with pytest.raises(media.MediaError, match="max_duration"):
        media.read_windows(path, seconds=1e4)
    with pytest.raises(media.MediaError, match="has no sound"):
        next(media.read_windows(path, seconds=1, require=("audio",)))
    with pytest.raises(media.MediaError, match="No such file"):
        next(media.read_windows(tmp_path / "b.mp4", seconds=1))


def test_a_time_far_away_is_refused_and_not_filled(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", times=[0.0, 0.04, 90_000.0])
    with pytest.raises(media.MediaError, match="max_file_duration = 86400"):
        list(media.read_windows(path, seconds=1.0))
    with pytest.raises(media.MediaError, match="max_file_duration = 86400"):
        list(media.read_pictures(path))


def test_pictures_come_with_their_own_times(tmp_path: Path) -> None:
    path = write_media(tmp_path / "vfr.mp4", times=VFR, waveform=chirp(5.0), sound_at=0.0)
    found = list(media.read_pictures(path, size=(16, 16)))
    assert [float(start) for start, _, _ in found] == pytest.approx(VFR, abs=1e-4)
    assert indices(np.stack([p for _, _, p in found])) == list(range(len(VFR)))
    assert all(p.shape == (16, 16, 3) for _, _, p in found)
    assert all(end > start for start, end, _ in found)
    late = write_media(tmp_path / "late.mkv", times=[0.5, 0.6], waveform=chirp(1.0))
    assert [float(start) for start, _, _ in media.read_pictures(late)] == pytest.approx([0.5, 0.6])


def test_pictures_of_a_damaged_file(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", times=CFR)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(media.MediaError, match=r"cut off|damaged"):
        list(media.read_pictures(path))
    sound = write_media(tmp_path / "a.flac", waveform=chirp(0.5), audio_codec="flac")
    with pytest.raises(media.MediaError, match="has no picture"):
        list(media.read_pictures(sound))


@pytest.mark.parametrize("start", [0.0, 0.04, 0.6, 3.0])
@pytest.mark.parametrize("offset", [-0.3, 0.25])
def test_sound_offset_reads_the_sound_of_another_time(
    tmp_path: Path, start: float, offset: float
) -> None:
    clicks = [0.35 + 0.5 * i for i in range(10)]
    path = write_media(tmp_path / "a.mp4", times=SLOW, waveform=click_track(6.0, clicks), gop=10)
    moved = media.read(path, start=start, end=start + 2, sound_offset=offset)
    plain = media.read(path, start=start, end=start + 2)
    np.testing.assert_array_equal(moved.frames, plain.frames)
    expected = click_track(2.0, [c - start - offset for c in clicks])
    assert moved.waveform.shape == expected.shape
    lag = np.argmax(np.correlate(moved.waveform[0], expected[0, 200:-200], "valid")) - 200
    assert abs(lag) <= 24


def test_sound_offset_of_a_whole_file_moves_its_end(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", times=CFR[:50], waveform=chirp(2.0))
    assert media.read(path, sound_offset=0.2).duration == 2.0
    assert media.read(path, sound_offset=-0.2).duration == pytest.approx(2.2)
    with pytest.raises(media.MediaError, match="sound_offset is nan"):
        media.read(path, sound_offset=float("nan"))
