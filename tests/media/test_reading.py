import itertools
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import RATE, click_track, delay, gray, indices, write_media

from avgen import media
from avgen.clip import Clip

CFR = [i / 25 for i in range(50)]
# Where a container cannot hide the encoder's delay, it counts as content: zero is a block earlier.
BLOCK = 1024 / RATE
CONTAINERS = [
    ("a.mp4", "libx264", "aac", 0.0),
    ("a.mov", "mpeg4", "pcm_s16le", 0.0),
    ("a.mkv", "libx264", "flac", 0.0),
    ("a.mkv", "libx264", "aac", 0.0),
    ("a.webm", "libvpx", "libopus", 0.0),
    ("a.avi", "mjpeg", "pcm_s16le", 0.0),
    ("a.ts", "libx264", "aac", BLOCK),
    ("a.flv", "libx264", "aac", BLOCK),
]


def test_varying_frame_rate_follows_the_times(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.1, 0.5, 0.52, 0.9, 1.7]
    path = write_media(tmp_path / "vfr.mp4", times=times)
    clip = media.read(path, end=1.7, fps=50)
    at = [i / 50 for i in range(85)]
    assert indices(clip.frames) == [sum(t <= a + 1e-4 for t in times) - 1 for a in at]


@pytest.mark.parametrize(("name", "video", "audio", "lead"), CONTAINERS)
def test_containers_give_pictures_and_sound_at_their_times(
    tmp_path: Path, name: str, video: str, audio: str, lead: float
) -> None:
    wave = click_track(2.0, [0.3, 1.5])
    pixels = {"mjpeg": "yuvj420p"}.get(video, "yuv420p")
    path = write_media(
        tmp_path / name,
        times=CFR,
        waveform=wave,
        video_codec=video,
        audio_codec=audio,
        pixels=pixels,
    )
    clip = media.read(path, fps=25, end=1.96)
    assert indices(clip.frames) == [max(0, int(i - lead * 25)) for i in range(49)]
    assert clip.sample_rate == RATE
    assert abs(delay(wave[0, :94_080], clip.waveform[0], RATE) - lead) < 1e-3


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize(("video_at", "sound_at"), [(0.0, 0.48), (0.48, 0.0), (1.0, 1.24)])
def test_stream_offsets_are_kept(
    tmp_path: Path, name: str, video_at: float, sound_at: float
) -> None:
    wave = click_track(1.0, [0.5])
    times = [video_at + i / 25 for i in range(25)]
    path = write_media(tmp_path / name, times=times, waveform=wave, sound_at=sound_at)
    clip = media.read(path, fps=200)
    seen = indices(clip.frames).index(1) / 200
    heard = np.abs(clip.waveform[0]).argmax() / RATE
    assert heard - seen == pytest.approx(sound_at + 0.5 - video_at - 0.04, abs=0.0051)
    assert video_at + 0.04 - seen == pytest.approx(min(video_at, sound_at), abs=BLOCK + 0.005)
    assert np.abs(clip.waveform[0, : max(0, round((heard - 0.55) * RATE))]).sum() == 0


def test_edit_list_hides_what_lies_before_zero(tmp_path: Path) -> None:
    source = write_media(tmp_path / "a.mp4", times=CFR, waveform=click_track(2.0, [1.0]), gop=100)
    path = tmp_path / "cut.mp4"
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        streams = {s: writer.add_stream_from_template(s) for s in reader.streams}
        for packet in reader.demux():
            if packet.dts is None:
                continue
            shift = round(0.4 / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = streams[packet.stream]
            writer.mux(packet)
    clip = media.read(path, fps=25)
    assert indices(clip.frames)[:39] == list(range(10, 49))
    assert abs(np.abs(clip.waveform[0]).argmax() / RATE - 0.6) < 1e-3


def test_spans_equal_the_same_span_of_the_whole(tmp_path: Path) -> None:
    at = np.arange(12 * RATE) / RATE
    chirp = np.sin(2 * np.pi * (200 + 100 * at) * at)
    wave = (0.3 * chirp)[None].astype(np.float32)
    times = [i / 5 for i in range(60)]
    path = write_media(tmp_path / "long.mp4", times=times, waveform=wave, gop=10)
    whole = media.read(path, fps=25, sample_rate=16_000)
    for start, end in [(0.0, 1.0), (0.52, 3.0), (3.0, 4.0), (7.4, 9.48), (10.0, 12.0)]:
        part = media.read(path, start=start, end=end, fps=25, sample_rate=16_000)
        a, b = round(start * 25), round(end * 25)
        np.testing.assert_array_equal(part.frames, whole.frames[a:b])
        expected = whole.waveform[:, round(start * 16_000) : round(end * 16_000)]
        assert part.waveform.shape == expected.shape
        assert np.abs(part.waveform - expected).max() < 2e-4


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_resampling_keeps_times(tmp_path: Path, rate: int) -> None:
    wave = click_track(1.0, [0.25, 0.7])
    path = write_media(tmp_path / "a.wav", waveform=wave, audio_codec="pcm_s16le")
    clip = media.read(path, sample_rate=rate)
    assert clip.frames is None
    assert clip.waveform.shape == (1, rate)
    assert abs(delay(click_track(1.0, [0.25, 0.7], rate)[0], clip.waveform[0], rate)) < 2e-5


def test_gaps_are_silence_and_held_pictures(tmp_path: Path) -> None:
    path = write_media(
        tmp_path / "gap.mp4",
        times=[0.0, 0.2, 0.4],
        waveform=np.full((1, RATE * 2), 0.25, np.float32),
    )
    clip = media.read(path, fps=10)
    assert clip.num_frames == 20
    assert indices(clip.frames) == [0, 0, 1, 1] + [2] * 16
    silent = write_media(
        tmp_path / "short.mp4", times=CFR, waveform=np.full((1, RATE // 2), 0.25, np.float32)
    )
    clip = media.read(silent)
    assert clip.waveform.shape == (1, 2 * RATE)
    assert np.abs(clip.waveform[0, RATE // 2 + 1024 :]).max() == 0


def test_scaling_covers_and_crops_the_centre(tmp_path: Path) -> None:
    path = write_media(tmp_path / "wide.mp4", times=CFR[:3], size=(32, 96))
    clip = media.read(path, size=(16, 16))
    assert clip.frames.shape == (3, 16, 16, 3)
    frames = np.zeros((2, 32, 96, 3), np.uint8)
    frames[:, :, 32:64] = 255
    centre = media.read(Clip(frames=frames).save(tmp_path / "centre.mp4"), size=(32, 32))
    assert centre.frames.mean() > 240


def test_phone_videos_are_turned_upright(tmp_path: Path) -> None:
    frames = np.zeros((3, 32, 64, 3), np.uint8)
    frames[:, :16, :16] = 255
    path = Clip(frames=frames).save(tmp_path / "phone.mp4")
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    quarter_turn_clockwise = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", *quarter_turn_clockwise)
    path.write_bytes(data)
    upright = media.read(path).frames
    assert upright.shape == (3, 64, 32, 3)
    assert upright[:, :12, 20:].mean() > 240
    assert upright[:, 20:].mean() < 10
    assert media.read(path, size=(16, 8)).frames[0, :3, 5:].mean() > 200


def test_required_streams_and_missing_ones(tmp_path: Path) -> None:
    silent = write_media(tmp_path / "silent.mp4", times=CFR)
    sound = write_media(
        tmp_path / "sound.flac", waveform=click_track(1.0, [0.5]), audio_codec="flac"
    )
    assert media.read(silent).waveform is None
    assert media.read(sound).frames is None
    with pytest.raises(media.MediaError, match=r"silent\.mp4: has no sound"):
        media.read(silent, require=("video", "audio"))
    with pytest.raises(media.MediaError, match=r"sound\.flac: has no picture"):
        media.read(sound, require=("video",))


def test_images_are_read_as_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = 20, 30, "rgb24"
        frame = av.VideoFrame.from_ndarray(gray(20, 20, 30), format="rgb24")
        for packet in itertools.chain(stream.encode(frame), stream.encode(None)):
            container.mux(packet)
    np.testing.assert_array_equal(media.read_image(path), gray(20, 20, 30))
    with pytest.raises(media.MediaError, match="read_image"):
        media.read(path)
