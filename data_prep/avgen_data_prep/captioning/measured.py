"""What can be said of a stretch of a clip by measuring it: level, pitch, colours, brightness, movement.

Shapes: F frames, H W pixels, C channels, S samples.
"""

import numpy as np
from jaxtyping import Float, Float32, UInt8
from numpy import ndarray

from avgen.clip import Clip
from avgen.clock import MICROSECONDS

SILENCE_DB = -60.0
_FLOOR_DB = -120.0
_STEP_SECONDS = 0.02
_PIXELS = 48
_COLOURS = {
    "black": (15, 15, 15),
    "grey": (128, 128, 128),
    "white": (240, 240, 240),
    "red": (200, 30, 30),
    "orange": (240, 140, 30),
    "yellow": (235, 220, 40),
    "green": (40, 150, 50),
    "cyan": (50, 200, 210),
    "blue": (40, 70, 200),
    "purple": (130, 50, 160),
    "pink": (240, 130, 180),
    "brown": (110, 70, 35),
}
_ANCHORS = np.array(list(_COLOURS.values()), dtype=np.float32)


def span(clip: Clip, start_us: int, end_us: int) -> Float32[ndarray, "c s"] | None:
    """The sound of a stretch of a clip; None where there is none."""
    if clip.waveform is None:
        return None
    first, last = (us * clip.sample_rate // MICROSECONDS for us in (start_us, end_us))
    cut = clip.waveform[:, first : max(last, first + 1)]
    return cut if cut.shape[1] else None


def pictures(clip: Clip, start_us: int, end_us: int) -> UInt8[ndarray, "f h w 3"] | None:
    """The frames on screen in a stretch of a clip, at least one; None where there is no picture."""
    if clip.frames is None:
        return None
    first, last = (int(us * clip.fps / MICROSECONDS) for us in (start_us, end_us))
    first = min(first, len(clip.frames) - 1)
    return clip.frames[first : max(last, first + 1)]


def level_db(clip: Clip, start_us: int, end_us: int) -> float:
    """Loudest 20 ms of a stretch in dB of full scale (root mean square), at least -120."""
    return float(_levels_db(clip, start_us, end_us).max())


def _levels_db(clip: Clip, start_us: int, end_us: int) -> Float[ndarray, "n"]:
    waveform = span(clip, start_us, end_us)
    if waveform is None:
        return np.array([_FLOOR_DB])
    power = np.square(waveform, dtype=np.float64).mean(axis=0)
    size = max(1, min(len(power), round(clip.sample_rate * _STEP_SECONDS)))
    steps = np.add.reduceat(power, np.arange(0, len(power) - size + 1, size)) / size
    return np.maximum(_FLOOR_DB, 10 * np.log10(steps + 1e-12))


def change(clip: Clip, start_us: int, end_us: int) -> float:
    """Largest mean absolute difference of neighbouring frames around a stretch, in levels of 0..255."""
    frame = int(MICROSECONDS / clip.fps)
    frames = pictures(clip, max(0, start_us - 2 * frame), end_us + 2 * frame)
    if frames is None or len(frames) < 2:
        return 0.0
    return float(_differences(frames).mean(axis=(1, 2)).max())


def sound_words(clip: Clip, start_us: int, end_us: int, *, lasting: bool = False) -> str:
    """Adjectives of a sound, such as ``short, loud, high``; empty for a middling one.

    A sudden sound is as loud as its loudest 20 ms, a ``lasting`` one as most of it.
    """
    waveform = span(clip, start_us, end_us)
    if waveform is None:
        return ""
    levels = _levels_db(clip, start_us, end_us)
    level = np.median(levels) if lasting else levels.max()
    centroid = _centroid(waveform.mean(axis=0), clip.sample_rate)
    words = [
        "short" if end_us - start_us < 250_000 else "",
        "quiet" if level < -35 else "loud" if level > -15 else "",
        "low" if centroid < 500 else "high" if centroid > 3000 else "",
    ]
    return ", ".join(word for word in words if word)


def picture_words(clip: Clip, start_us: int, end_us: int) -> str:
    """Brightness, main colours and movement, such as ``a dark picture, mostly black and red, with little movement``."""
    frames = pictures(clip, start_us, end_us)
    if frames is None:
        return "no picture"
    small = _small(frames)
    luma = float(small.mean())
    light = "dark" if luma < 60 else "bright" if luma > 170 else "fairly lit"
    moved = float(_differences(frames).mean()) if len(frames) > 1 else 0.0
    amount = "no" if moved == 0 else "little" if moved < 1 else "some" if moved < 6 else "much"
    return f"a {light} picture, mostly {_colours(small)}, with {amount} movement"


def place(clip: Clip, start_us: int, end_us: int) -> str:
    """Where the picture changes most in a stretch, such as ``on the left``; empty where all of it does."""
    frame = int(MICROSECONDS / clip.fps)
    frames = pictures(clip, max(0, start_us - frame), end_us + frame)
    if frames is None or len(frames) < 2:
        return ""
    where = _differences(frames).mean(axis=0)
    if where.sum() == 0 or (where > where.max() / 4).mean() > 0.5:
        return ""
    rows, columns = where.sum(axis=1), where.sum(axis=0)
    y = float(rows @ np.linspace(0, 1, len(rows)) / rows.sum())
    x = float(columns @ np.linspace(0, 1, len(columns)) / columns.sum())
    column = "left" if x < 0.38 else "right" if x > 0.62 else ""
    row = "top" if y < 0.38 else "bottom" if y > 0.62 else ""
    if row and column:
        return f"at the {row} {column}"
    return f"at the {row}" if row else f"on the {column}" if column else "in the middle"


def _centroid(mono: ndarray, sample_rate: int) -> float:
    """Centre of the power spectrum in Hz."""
    power = np.square(np.abs(np.fft.rfft(mono * np.hanning(len(mono)))))
    frequencies = np.fft.rfftfreq(len(mono), 1 / sample_rate)
    return float(frequencies @ power / power.sum()) if power.sum() else 0.0


def _small(frames: UInt8[ndarray, "f h w 3"]) -> ndarray:
    stride = max(1, min(frames.shape[1:3]) // _PIXELS)
    return frames[:: max(1, len(frames) // 8), ::stride, ::stride]


def _differences(frames: UInt8[ndarray, "f h w 3"]) -> ndarray:
    stride = max(1, min(frames.shape[1:3]) // _PIXELS)
    grey = frames[:, ::stride, ::stride].mean(axis=-1, dtype=np.float32)
    return np.abs(np.diff(grey, axis=0))


def _colours(small: ndarray) -> str:
    """The colour of most pixels, and the next if it has a quarter of them."""
    pixels = small.reshape(-1, 1, 3).astype(np.float32)
    nearest = np.square(pixels - _ANCHORS).sum(axis=-1).argmin(axis=1)
    shares = np.bincount(nearest, minlength=len(_COLOURS)) / len(nearest)
    first, second = np.argsort(-shares, kind="stable")[:2]
    names = list(_COLOURS)
    return f"{names[first]} and {names[second]}" if shares[second] >= 0.25 else names[first]
