"""Spans that a stream does not fill: what is returned, and what is decoded for it."""

from pathlib import Path

import av
import numpy as np
import pytest
from media_files import RATE, delay, write_media

from avgen import media
from avgen.clip import Clip
from avgen.media import MediaLimits
from avgen.media.picture import FrameGrid

GOP, FPS, SECONDS = 5, 5, 12
# Beside the span: back to the key picture before the seek, and what the decoder holds back.
BESIDE = FPS // 2 + GOP + 2
PICTURES = [i / FPS for i in range(FPS * SECONDS)]
CASES = {
    "both complete": {},
    "sound ends early": {"sound": 6.0},
    "picture ends early": {"times": PICTURES[: 6 * FPS]},
    "pause in the sound": {"pause": (4.3, 7.6)},
    "sound starts late": {"sound": 6.0, "sound_at": 6.0},
    "picture starts late": {"times": PICTURES[6 * FPS :]},
}
SPANS = [(3.0, 4.0), (4.2, 5.0), (5.6, 6.4), (7.0, 8.0), (10.0, 11.0), (10.4, None)]


def chirp(seconds: float) -> np.ndarray:
    """A rising tone that fades in and out."""
    at = np.arange(round(seconds * RATE)) / RATE
    fade = np.clip(10 * np.minimum(at, seconds - at), 0, 1)
    return (0.3 * fade * np.sin(2 * np.pi * (200 + 100 * at) * at))[None].astype(np.float32)


def film(
    path: Path,
    *,
    times: list[float] = PICTURES,
    sound: float = SECONDS,
    sound_at: float = 0.0,
    pause: tuple[float, float] | None = None,
) -> Path:
    return write_media(
        path,
        times=times,
        waveform=chirp(sound),
        sound_at=sound_at,
        sound_pause=pause,
        gop=GOP,
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Times of the pictures that are decoded."""
    seen: list[float] = []
    add = FrameGrid.add

    def counted(self, time, frame, duration):
        seen.append(float(time))
        add(self, time, frame, duration)

    monkeypatch.setattr(FrameGrid, "add", counted)
    return seen


def check_equal(part: Clip, whole: Clip, start: float, end: float, name: str) -> None:
    a, b = round(start * FPS), round(end * FPS)
    np.testing.assert_array_equal(part.frames, whole.frames[a:b])
    expected = whole.waveform[:, round(start * 16_000) : round(end * 16_000)]
    assert part.waveform.shape == expected.shape
    if name.endswith(".mkv") and np.abs(expected).max() > 0.2:  # its times are in milliseconds
        assert abs(delay(expected[0], part.waveform[0], 16_000)) < 1.1e-3
        assert np.abs(part.waveform).mean() == pytest.approx(np.abs(expected).mean(), rel=0.05)
    else:
        assert np.abs(part.waveform - expected).max() < 2e-4


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize("case", CASES)
def test_spans_are_those_of_the_whole_and_cost_no_more_pictures(
    tmp_path: Path, decoded: list[float], case: str, name: str
) -> None:
    path = film(tmp_path / name, **CASES[case])
    whole = media.read(path, fps=FPS, sample_rate=16_000)
    for start, end in SPANS:
        decoded.clear()
        part = media.read(path, start=start, end=end, fps=FPS, sample_rate=16_000)
        check_equal(part, whole, start, end or float(whole.duration), name)
        if not name.endswith(".ts"):  # it has no index: FFmpeg often lands too late for the picture
            assert len(decoded) <= FPS * part.duration + BESIDE
        elif start > 7 and case != "picture starts late":
            assert len(decoded) <= FPS * (part.duration + 5) + BESIDE


def test_pictures_before_the_span_are_not_counted_against_the_limit(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", sound=6.0)
    picture = 3 * 32 * 32
    limits = MediaLimits(max_decoded_bytes=(FPS + 2) * picture)
    assert media.read(path, start=10, end=11, limits=limits).num_frames == FPS
    assert media.read(path, start=1, end=2, limits=limits).num_frames == FPS
    with pytest.raises(media.MediaError, match="max_decoded_bytes = 21504"):
        media.read(path, start=9, end=11, limits=limits)


def test_sound_that_is_stored_before_all_pictures_is_found(
    tmp_path: Path, decoded: list[float]
) -> None:
    path = tmp_path / "sound_first.mkv"
    with av.open(str(film(tmp_path / "a.mkv"))) as source, av.open(str(path), "w") as out:
        streams = {stream: out.add_stream_from_template(stream) for stream in source.streams}
        packets = [packet for packet in source.demux() if packet.dts is not None]
        for packet in sorted(packets, key=lambda packet: packet.stream.type):
            packet.stream = streams[packet.stream]
            out.mux(packet)
    whole = media.read(path, fps=FPS, sample_rate=16_000)
    decoded.clear()
    part = media.read(path, start=9, end=10, fps=FPS, sample_rate=16_000)
    check_equal(part, whole, 9, 10, path.name)
    assert np.abs(part.waveform).max() > 0.2
    assert len(decoded) <= 2 * FPS + BESIDE


@pytest.mark.parametrize("offset", [-1.5, 1.5])
def test_sound_offset_reaches_into_and_out_of_a_pause(
    tmp_path: Path, decoded: list[float], offset: float
) -> None:
    path = film(tmp_path / "a.mp4", pause=(4.3, 7.6))
    whole = media.read(path, fps=FPS, sample_rate=16_000)
    for start in (4.0, 5.4, 7.0, 8.4):
        decoded.clear()
        part = media.read(
            path, start=start, end=start + 1, sample_rate=16_000, fps=FPS, sound_offset=offset
        )
        first = round((start + offset) * 16_000)
        assert np.abs(part.waveform - whole.waveform[:, first : first + 16_000]).max() < 2e-4
        assert len(decoded) <= FPS * (1 + 1.5) + BESIDE


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("case", ["sound ends early", "pause in the sound"])
def test_a_film_that_goes_on_long_after_the_span(
    tmp_path: Path, decoded: list[float], case: str, name: str
) -> None:
    path = film(tmp_path / name, **CASES[case] | {"times": [float(i) for i in range(60)]})
    whole = media.read(path, fps=FPS, sample_rate=16_000)
    for start, end in SPANS[2:-1]:
        decoded.clear()
        part = media.read(path, start=start, end=end, fps=FPS, sample_rate=16_000)
        check_equal(part, whole, start, end, name)
        assert len(decoded) <= 2 * GOP + 4
