"""Writing MP4 files whose picture and sound keep their times: H.264 and AAC, one muxer per file.

Sound is brought to 48 kHz without delay, every packet has an explicit time, the AAC encoder's delay
is recorded in the file (an edit list) so that players remove it, and both streams end together.
Shapes: F frames, H height, W width, C channels, S samples.
"""

import contextlib
import json
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Any

import av
from jaxtyping import Float32, UInt8
from numpy import ndarray

from avgen.clip import Clip, check_frames, check_waveform
from avgen.clock import Rate, as_rate
from avgen.media.container import CLIP_SCHEMA
from avgen.media.encoders import LAYOUTS, SAMPLE_RATE, PictureEncoder, SoundEncoder
from avgen.media.limits import MediaError, guarded

SUFFIXES = (".mp4", ".m4v", ".m4a", ".mov")
# The edit lists that say how long each stream plays count in the movie's ticks, by default 1 ms.
_MUXER = {"movflags": "+faststart", "movie_timescale": str(SAMPLE_RATE)}
_FIX = "check the folder's permissions, the free space and the arguments"


class MediaWriter:
    """Writes one MP4 file, piece by piece, through one muxer and one encoder per stream.

    The file appears under its name when `close` succeeds, complete; until then it is a hidden file
    beside it. As a context manager: closes on success, removes the partial file on an exception.

    Sizes with an odd side are padded by one row or column (H.264 players need even sizes); the true
    size is recorded, and `avgen.media.read` cuts the padding off again.

    Args:
        path: Where to write; the suffix is one of `SUFFIXES`.
        fps: Frames per second.
        size: Height and width of the frames, or None for a file without a picture.
        sample_rate: Samples per second of the waveform, or None for a file without sound.
        channels: Channels of the waveform, 1 or 2.
        crf: Picture quality of x264: 0 is lossless, 23 is typical, smaller is better.
        preset: Speed of x264.
        metadata: JSON-able record to embed (see `write`).

    Raises:
        MediaError: The path, its folder or an argument cannot be used.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: Rate = 25,
        size: tuple[int, int] | None,
        sample_rate: int | None,
        channels: int = 1,
        crf: float = 16,
        preset: str = "fast",
        metadata: dict[str, Any] | None = None,
    ):
        self.path = Path(path)
        self.fps = as_rate(fps)
        self._check(size, sample_rate, channels)
        name = f".{self.path.name}.{secrets.token_hex(4)}.partial"
        self._partial = self.path.absolute().with_name(name)
        record = {"schema": CLIP_SCHEMA, "fps": str(self.fps)}
        record |= {"size": list(size) if size else None, "sample_rate": sample_rate}
        self._video: PictureEncoder | None = None
        self._audio: SoundEncoder | None = None
        with guarded(self.path, "write it", _FIX):
            self._container = av.open(str(self._partial), "w", format="mp4", options=_MUXER)
            try:
                self._container.metadata["comment"] = to_text(record | (metadata or {}))
                if size is not None:
                    self._video = PictureEncoder(self._container, self.fps, size, crf, preset)
                if sample_rate is not None:
                    self._audio = SoundEncoder(self._container, sample_rate, channels)
            except BaseException:
                self.abort()
                raise

    def _check(self, size: tuple[int, int] | None, rate: int | None, channels: int) -> None:
        if self.path.suffix.lower() not in SUFFIXES:
            fix = f"use one of {', '.join(SUFFIXES)}"
            raise MediaError(self.path, f"cannot be written as {self.path.suffix!r}", fix)
        if not self.path.absolute().parent.is_dir():
            raise MediaError(self.path, "its folder does not exist", "create the folder first")
        if size is None and rate is None:
            raise MediaError(self.path, "would have no stream", "give size or sample_rate")
        if size is not None and min(size) < 1:
            raise MediaError(self.path, f"size is {size}", "give positive (height, width)")
        if rate is not None and channels not in LAYOUTS:
            raise MediaError(self.path, f"has {channels} sound channels", "give 1 or 2")

    def write(
        self,
        frames: UInt8[ndarray, "f h w 3"] | None = None,
        waveform: Float32[ndarray, "c s"] | None = None,
    ) -> None:
        """Append frames, sound, or both; the two need not advance together.

        Raises:
            ValueError: An array has the wrong shape or type, or its stream was not declared.
        """
        if frames is not None:
            check_frames(frames)
            if self._video is None or frames.shape[1:3] != self._video.size:
                declared = self._video and self._video.size
                shape = frames.shape[1:3]
                raise ValueError(f"frames are {shape}; the file was opened with {declared}")
            for frame in frames:
                self._video.write(frame)
        if waveform is not None:
            check_waveform(waveform)
            if self._audio is None or len(waveform) != self._audio.channels:
                declared = self._audio and self._audio.channels
                raise ValueError(f"{len(waveform)} channels; the file was opened with {declared}")
            self._audio.write(waveform)

    def close(self) -> Path:
        """Finish the file and give it its name.

        The shorter stream is drawn out to the longer: sound with silence, picture by its last
        frame.

        Raises:
            MediaError: Nothing was written, or the disk refused.
        """
        try:
            with guarded(self.path, "write it", _FIX):
                self._finish()
            self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)
        return self.path

    def _finish(self) -> None:
        ends = [stream.end for stream in (self._video, self._audio) if stream is not None]
        if min(ends) == 0:
            self._container.close()
            fix = "write to every declared stream before close"
            raise MediaError(self.path, "a stream got no data", fix)
        for stream in (self._video, self._audio):
            if stream is not None:
                stream.finish(max(ends))
        self._container.close()
        with self._partial.open("rb") as file:
            os.fsync(file.fileno())

    def abort(self) -> None:
        """Throw the partial file away."""
        with contextlib.suppress(Exception):
            self._container.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> "MediaWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def write(path: str | Path, clip: Clip, *, crf: float = 16, preset: str = "fast") -> Path:
    """Write a clip as MP4, with its caption and request embedded for `avgen.media.read`.

    Args:
        path: Where to write; the file appears complete or not at all.
        clip: The clip; picture or sound may be missing.
        crf: Picture quality of x264: 0 is lossless, 23 is typical, smaller is better.
        preset: Speed of x264.

    Raises:
        MediaError: The path cannot be written, or the clip has more than two sound channels.
    """
    metadata: dict[str, Any] = {}
    if clip.caption is not None:
        metadata["caption"] = clip.caption.to_dict()
    if clip.request:
        metadata["request"] = clip.request
    size = None if clip.frames is None else (clip.frames.shape[1], clip.frames.shape[2])
    with MediaWriter(
        path,
        fps=clip.fps,
        size=size,
        sample_rate=None if clip.waveform is None else clip.sample_rate,
        channels=1 if clip.waveform is None else len(clip.waveform),
        crf=crf,
        preset=preset,
        metadata=metadata,
    ) as writer:
        writer.write(clip.frames, clip.waveform)
    return writer.path


def to_text(record: dict[str, Any]) -> str:
    """One line of JSON; values that JSON does not know become their text."""
    return json.dumps(record, ensure_ascii=False, default=str)
