"""Clip: frames and sound of one piece of media, on one clock that starts at zero.

Shapes: F frames, H height, W width, C channels, S samples.
"""

import base64
import dataclasses
import html
import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

from avgen import clock
from avgen.caption import TimedCaption


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """Frames and sound of one piece of media.

    Attributes:
        frames: ``(F, H, W, 3)`` uint8 RGB, or None where there is no picture.
        fps: Frames per second, exact.
        waveform: ``(C, S)`` float32 in [-1, 1], or None where there is no sound.
        sample_rate: Samples per second.
        caption: What is (to be) seen and heard.
        request: The call that made the clip, where it was generated.

    Raises:
        ValueError: An array has the wrong shape or type, or there is neither picture nor sound.
    """

    frames: UInt8[ndarray, "f h w 3"] | None
    fps: Fraction = Fraction(25)
    waveform: Float32[ndarray, "c s"] | None = None
    sample_rate: int = 16_000
    caption: TimedCaption | None = None
    request: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", clock.as_rate(self.fps))
        if self.frames is None and self.waveform is None:
            raise ValueError("a clip needs frames or a waveform; both are None")
        if self.sample_rate <= 0 or self.sample_rate != int(self.sample_rate):
            raise ValueError(f"sample_rate is {self.sample_rate}; give a positive whole number")
        object.__setattr__(self, "sample_rate", int(self.sample_rate))
        if self.frames is not None:
            check_frames(self.frames)
        if self.waveform is not None:
            check_waveform(self.waveform)
        if self.caption is not None and not isinstance(self.caption, TimedCaption):
            kind = type(self.caption).__name__
            raise ValueError(f"caption is a {kind}; give a TimedCaption")

    @property
    def num_frames(self) -> int:
        """Number of frames; 0 where there is no picture."""
        return 0 if self.frames is None else len(self.frames)

    @property
    def duration(self) -> float:
        """Seconds that the picture lasts, or the sound if that is over a frame longer."""
        picture = Fraction(self.num_frames) / self.fps
        samples = 0 if self.waveform is None else self.waveform.shape[1]
        sound = Fraction(samples, self.sample_rate)
        outlasts = sound >= picture + 1 / self.fps or self.frames is None
        return float(sound if outlasts else picture)

    @classmethod
    def open(cls, path: str | Path, **options: Any) -> "Clip":
        """Read a media file, or a span of it; see `avgen.media.read` for the options.

        Raises:
            MediaError: The file cannot be used; the message says why and what to do.
        """
        from avgen import media

        return media.read(path, **options)

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write an MP4 file with caption and request inside; see `avgen.media.write`.

        This is the one door through which clips leave.

        Raises:
            MediaError: The file cannot be written.
        """
        from avgen import media

        return media.write(path, self, **options)

    def replace(self, **changes: Any) -> "Clip":
        """A copy with some fields changed, checked again."""
        return dataclasses.replace(self, **changes)

    def slice(self, start: float, end: float | None = None) -> "Clip":
        """The span ``[start, end)`` in seconds, snapped to whole frames, with its caption.

        Raises:
            ValueError: The span is empty or reaches outside the clip.
        """
        last = self.duration if end is None else end
        if not 0 <= start < last or last > self.duration + float(1 / self.fps):
            raise ValueError(
                f"span {start} to {end} s: give 0 <= start < end <= {self.duration:g}, the duration"
            )
        grid = self.fps if self.frames is not None else Fraction(self.sample_rate)
        first_step = round(Fraction(start) * grid)
        last_step = max(first_step + 1, round(Fraction(last) * grid))
        begin, stop = Fraction(first_step) / grid, Fraction(last_step) / grid
        frames = None if self.frames is None else self.frames[first_step:last_step]
        a, b = round(begin * self.sample_rate), round(stop * self.sample_rate)
        waveform = None if self.waveform is None else self.waveform[:, a:b]
        caption = self.caption and self.caption.cropped(float(begin), float(stop))
        return self.replace(frames=frames, waveform=waveform, caption=caption)

    def to_mp4(self, **options: Any) -> bytes:
        """The bytes of the file that `save` writes."""
        with tempfile.TemporaryDirectory() as folder:
            return self.save(Path(folder) / "clip.mp4", **options).read_bytes()

    def _repr_html_(self) -> str:
        """A player for notebooks."""
        data = base64.b64encode(self.to_mp4()).decode("ascii")
        title = html.escape(self.caption.text if self.caption else "", quote=True)
        tag = "audio" if self.frames is None else "video"
        return f'<{tag} controls loop title="{title}" src="data:video/mp4;base64,{data}"></{tag}>'

    def __repr__(self) -> str:
        parts = [f"{self.duration:g} s"]
        if self.frames is not None:
            count, height, width = self.frames.shape[:3]
            parts.append(f"{count} frames {height}x{width} at {float(self.fps):g} fps")
        if self.waveform is not None:
            parts.append(f"{self.waveform.shape[0]} channel(s) at {self.sample_rate} Hz")
        return f"Clip({', '.join(parts)})"


def check_frames(frames: ndarray) -> None:
    """Raise ValueError unless ``frames`` is ``(F, H, W, 3)`` uint8 with no empty axis."""
    if not isinstance(frames, ndarray) or frames.dtype != np.uint8:
        kind = getattr(frames, "dtype", type(frames).__name__)
        raise ValueError(f"frames are {kind}; give a numpy array of uint8 in 0..255")
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames have shape {frames.shape}; give (frames, height, width, 3)")


def check_waveform(waveform: ndarray) -> None:
    """Raise ValueError unless ``waveform`` is ``(C, S)`` float32, finite, with no empty axis."""
    if not isinstance(waveform, ndarray) or waveform.dtype != np.float32:
        kind = getattr(waveform, "dtype", type(waveform).__name__)
        raise ValueError(f"waveform is {kind}; give a numpy array of float32 in -1..1")
    if waveform.ndim != 2 or 0 in waveform.shape:
        raise ValueError(f"waveform has shape {waveform.shape}; give (channels, samples)")
    if waveform.shape[0] > waveform.shape[1] and waveform.shape[0] > 64:
        raise ValueError(
            f"waveform has shape {waveform.shape}; transpose it to (channels, samples)"
        )
    if not np.isfinite(waveform).all():
        raise ValueError("waveform has samples that are not finite; replace them (np.nan_to_num)")
