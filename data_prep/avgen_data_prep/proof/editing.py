"""Clips edited together into files by PyAV alone, and what is then true of them."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from avgen import media
from avgen_data_prep.worlds import WorldExample

TICK = Fraction(1, 90_000)
CHANNELS = {"mono": 1, "stereo": 2, "5.1": 6}
# What a codec needs to be quick, quiet and good in small pictures; the next where a film does not play.
OPTIONS: dict[str, tuple[dict[str, str], ...]] = {
    "libx264": ({"crf": "12", "preset": "veryfast", "bf": "2", "sc_threshold": "0"},),
    "libx265": ({"crf": "12", "preset": "ultrafast", "x265-params": "log-level=none"},),
    "libvpx-vp9": ({"crf": "16", "b": "0", "cpu-used": "8", "deadline": "realtime"},),
    "libsvtav1": tuple({"crf": "20", "preset": preset} for preset in ("12", "11", "10", "9")),
    "mpeg4": ({"b": "8M", "qmin": "1", "qmax": "3"},),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source video and what is true of it; seconds count from the earliest start of its streams.

    Attributes:
        path: The file.
        shots: Start of each shot, and the end of the last picture.
        events: When each thing is seen to happen, and when it is heard, ``offset_ms`` later; None
            where it is not.
        offset_ms: By how much the sound is late.
        fps: Pictures per second, on average.
        times: When each picture comes on.
    """

    path: Path
    shots: tuple[float, ...]
    events: tuple[tuple[float | None, float | None], ...]
    offset_ms: float
    fps: float
    times: tuple[float, ...]

    @property
    def picture_events(self) -> tuple[float, ...]:
        """When something is seen to happen."""
        return tuple(seen for seen, _ in self.events if seen is not None)

    @property
    def sound_events(self) -> tuple[float, ...]:
        """When something is heard to happen."""
        return tuple(heard for _, heard in self.events if heard is not None)

    def row(self) -> dict[str, Any]:
        """What the scan says of the file."""
        data = self.path.read_bytes()
        return {
            "source": self.path.name,
            "source_sha256": hashlib.sha256(data).hexdigest(),
            "source_bytes": len(data),
        }


def edit(
    path: Path,
    examples: Sequence[WorldExample],
    *,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    layout: str = "mono",
    sample_rate: int = 48_000,
    late_ms: float = 0.0,
    video_at: float = 0.0,
    sound_at: float = 0.0,
    drop: float = 0.0,
    jitter: float = 0.0,
    gop: int = 50,
    seed: int = 0,
) -> Source:
    """Cut clips together, one after the other, into a file.

    Args:
        path: The suffix decides the container.
        examples: Clips of one frame rate and size; an event of their truth that is only heard has
            a false ``seen``.
        video_codec: FFmpeg's name of an encoder.
        audio_codec: FFmpeg's name of an encoder; "" for a silent film.
        layout: ``mono``, ``stereo`` or ``5.1``; all channels sound alike but for their level.
        sample_rate: Of the sound in the file.
        late_ms: By how much the sound is late; what moves out of the file is cut off.
        video_at: Seconds at which the picture stream starts.
        sound_at: Seconds at which the sound stream starts; its contents keep their times.
        drop: Share of pictures left out, at random: the ones before stay on longer.
        jitter: Largest deviation of a picture's time, in frames, below 0.5.
        gop: Pictures between key frames.
        seed: Of ``drop`` and ``jitter``.
    """
    fps = examples[0].clip.fps
    rng = np.random.default_rng(seed)
    lengths = [example.clip.num_frames for example in examples]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    frames = np.concatenate([np.asarray(example.clip.frames) for example in examples])
    kept = rng.uniform(size=len(frames)) >= drop
    kept[[0, -1]] = True
    moved_by = rng.uniform(-jitter, jitter, len(frames))
    moved_by[[0, -1]] = 0
    grid = np.arange(len(frames)) + moved_by
    indices = np.flatnonzero(kept)
    times = grid[indices] / float(fps)
    zero = min(video_at, sound_at) if audio_codec else video_at
    waveform = _sound(examples, sample_rate, late_ms, sound_at - video_at)
    for options in OPTIONS.get(video_codec, ({},)):
        _write(
            path,
            frames[indices],
            times + video_at,
            fps,
            waveform if audio_codec else None,
            video_codec=video_codec,
            options=options,
            audio_codec=audio_codec,
            layout=layout,
            sample_rate=sample_rate,
            sound_at=sound_at,
            gop=gop,
        )
        _leave_real_time()
        if _plays(path, len(indices)):
            break
    else:
        raise ValueError(f"{path}: {video_codec} wrote a film that does not play")
    moved = video_at - zero
    first = [times[np.searchsorted(indices, start)] for start in starts[:-1]]
    end = len(frames) / float(fps)
    last = waveform.shape[1] / sample_rate + sound_at - zero if audio_codec else 0.0
    events = []
    for start, example in zip(starts[:-1], examples, strict=True):
        for event in example.truth["events"]:
            seen = event["time"] + start / float(fps) + moved
            heard = seen + late_ms / 1000
            audible = bool(audio_codec) and sound_at - zero <= heard < last
            visible = event.get("seen", True)
            events.append((seen if visible else None, heard if audible else None))
    return Source(
        path=path,
        shots=tuple(float(t) + moved for t in [*first, end]),
        events=tuple(events),
        offset_ms=late_ms,
        fps=len(times) / end,
        times=tuple((times + moved).tolist()),
    )


def _sound(
    examples: Sequence[WorldExample], rate: int, late_ms: float, skipped: float
) -> np.ndarray:
    """Sound of the edit from ``skipped`` seconds on (before its start: silence), moved."""
    pieces = []
    for example in examples:
        clip = example.clip
        assert clip.waveform is not None
        wanted = round(clip.num_frames / clip.fps * rate)
        piece = media.resample(clip.waveform, clip.sample_rate, rate)[:, :wanted]
        pieces.append(np.pad(piece, ((0, 0), (0, wanted - piece.shape[1]))))
    whole = np.concatenate(pieces, axis=1)
    shift = round((late_ms / 1000 - skipped) * rate)
    if shift >= 0:
        return np.pad(whole, ((0, 0), (shift, 0)))[:, : whole.shape[1] - round(skipped * rate)]
    return whole[:, -shift:]


def _write(
    path: Path,
    frames: np.ndarray,
    times: np.ndarray,
    fps: Fraction,
    waveform: np.ndarray | None,
    *,
    video_codec: str,
    options: dict[str, str],
    audio_codec: str,
    layout: str,
    sample_rate: int,
    sound_at: float,
    gop: int,
) -> None:
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(video_codec, rate=fps, options=options)
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], "yuv420p"
        video.gop_size = gop
        ticks = TICK if video_codec != "mpeg4" else 1 / fps
        video.codec_context.time_base = ticks
        audio = None
        if waveform is not None:
            audio = container.add_stream(audio_codec, rate=sample_rate, layout=layout)
        packets = []
        for picture, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(Fraction(float(time)) / ticks), ticks
            packets += video.encode(frame)
        packets += video.encode(None)
        if audio is not None and waveform is not None:
            channels = CHANNELS[layout]
            levels = 1 - 0.1 * np.arange(channels, dtype=np.float32)
            packets += _sound_packets(audio, waveform * levels[:, None], layout, sound_at)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)


def _leave_real_time() -> None:
    """SVT-AV1, where it may, makes its caller a real-time thread, which starves all other processes."""
    if hasattr(os, "SCHED_FIFO") and os.sched_getscheduler(0) == os.SCHED_FIFO:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _plays(path: Path, pictures: int) -> bool:
    """Whether all pictures can be decoded: SVT-AV1 writes one in 20 such small films broken."""
    with av.open(str(path)) as container:
        try:
            return sum(1 for _ in container.decode(video=0)) == pictures
        except FFmpegError:
            return False


def _sound_packets(stream: Any, waveform: np.ndarray, layout: str, start: float) -> list[av.Packet]:
    context = stream.codec_context
    context.open(strict=False)
    rate, kind = context.sample_rate, context.format.name
    block = context.frame_size or 1024
    packets = []
    for at in range(0, waveform.shape[1], block):
        data = np.ascontiguousarray(waveform[:, at : at + block])
        if kind.startswith("s16"):
            data = (np.clip(data, -1, 1) * 32767).astype(np.int16)
        if kind.startswith("s32"):
            data = (np.clip(data, -1, 1).astype(np.float64) * (2**31 - 1)).astype(np.int32)
        if not kind.endswith("p"):
            data = np.ascontiguousarray(data.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(data, format=kind, layout=layout)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = at + round(start * rate)
        packets += stream.encode(frame)
    return packets + stream.encode(None)
