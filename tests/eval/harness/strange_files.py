"""Damaged and strange media files, deterministic: what an evaluation folder holds in practice."""

import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from avgen import media
from avgen.clip import Clip


def write_strange_files(folder: Path, count: int) -> list[Path]:
    """``count`` files, of every kind in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = _clip(20, 48).save(folder / "base.mp4").read_bytes()
    makers = [
        _truncated, _flipped, _wrong_suffix, _empty, _silent, _sound_only, _variable_rate,
        _slow_mono, _surround, _one_frame, _odd_size, _text, _noise, _long_sound,
    ]  # fmt: skip
    (folder / "base.mp4").unlink()
    paths = []
    for index in range(count):
        maker = makers[index % len(makers)]
        rng = np.random.default_rng(index)
        path = folder / f"{index:03d}{maker.__name__}.mp4"
        maker(path, whole, rng)
        paths.append(path)
    return paths


def write_at_another_rate(source: Path, path: Path, fps: float) -> None:
    """The pictures of ``source`` at another rate beside its old record, as tools that encode again leave it."""
    plain = path.with_name(f"{path.stem}.plain.mp4")
    media.read(source, fps=fps).save(plain)
    with av.open(str(source)) as recorded, av.open(str(plain)) as found, av.open(path, "w") as out:
        out.metadata["comment"] = recorded.metadata["comment"]
        streams = {s.index: out.add_stream_from_template(s) for s in found.streams}
        for packet in found.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    plain.unlink()


def _clip(frames: int, size: int | tuple[int, int], rate: int = 16_000, channels: int = 1) -> Clip:
    height, width = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(frames)
    picture = np.full((frames, height, width, 3), 40, np.uint8)
    picture[frames // 2 : frames // 2 + 2] = 220
    sound = 0.1 * rng.normal(size=(channels, frames * rate // 25))
    return Clip(
        frames=picture, fps=Fraction(25), waveform=sound.astype(np.float32), sample_rate=rate
    )


def _truncated(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    path.write_bytes(whole[: int(rng.integers(1, len(whole)))])


def _flipped(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    data = np.frombuffer(whole, np.uint8).copy()
    places = rng.integers(0, len(data), int(rng.integers(1, 200)))
    data[places] = rng.integers(0, 256, len(places))
    path.write_bytes(data.tobytes())


def _wrong_suffix(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(rng.integers(-3000, 3000, 16_000).astype("<i2").tobytes())


def _empty(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    path.write_bytes(b"")


def _silent(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    _clip(int(rng.integers(2, 30)), 32).replace(waveform=None).save(path)


def _sound_only(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    _clip(25, 32).replace(frames=None).save(path)


def _variable_rate(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        time = 0
        for _ in range(12):
            frame = av.VideoFrame.from_ndarray(
                rng.integers(0, 255, (32, 32, 3), dtype=np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            time += int(rng.integers(20, 120))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _slow_mono(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    _clip(25, 32, rate=8_000).save(path)


def _surround(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=96_000, layout="5.1")
        samples = rng.integers(-3000, 3000, (1, 6 * 9_600), dtype=np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="5.1")
        frame.sample_rate = 96_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _one_frame(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    _clip(1, 32).save(path)


def _odd_size(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    height, width = (int(x) for x in rng.integers(17, 70, 2))
    _clip(10, (height | 1, width | 1)).save(path)


def _text(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    path.write_text("ffconcat version 1.0\nfile /etc/hostname\n")


def _noise(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    path.write_bytes(rng.bytes(int(rng.integers(10, 20_000))))


def _long_sound(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    clip = _clip(10, 32)
    sound = np.tile(np.asarray(clip.waveform), 3)
    with av.open(str(path), "w", format="mov") as container:
        picture = container.add_stream("libx264", rate=25)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for image in np.asarray(clip.frames):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray((sound * 30_000).astype(np.int16), "s16", "mono")
        frame.sample_rate = 16_000
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def kinds(paths: list[Path]) -> Iterator[str]:
    """The kind of each file."""
    return (path.stem[4:] for path in paths)
