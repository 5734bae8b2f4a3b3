"""Candidate events of a clip that nobody described: sudden sounds and sudden movements.

Shapes: F frames, H W pixels, C channels, S samples, N steps of an envelope.
Method: peaks over a local median, for sound of half-wave rectified spectral flux (Dixon 2006), for
pictures of the acceleration of optical flow: a ball that bounces moves on at the same speed.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, UInt8
from numpy import ndarray
from scipy.ndimage import gaussian_filter, maximum_filter1d, median_filter, uniform_filter1d

from avgen.caption import Event
from avgen.clip import Clip

PROVENANCE = "proposal"
_HOP_SECONDS = 0.01
_WINDOW_SECONDS = 0.032
_COMPRESSION = 100.0
_FLOW_PIXELS = 64
_FLOW_WINDOW = 9
_BLUR = 1.5
_DAMPING = 2.0
_BACKGROUND_SECONDS = 1.0
_GAP_SECONDS = 0.06
_SHORTEST = 0.04
_LONGEST = 1.0


@dataclass(frozen=True)
class Kind:
    """What a peak is called, and what it takes.

    Attributes:
        track: Of the events.
        text: Of the events.
        ratio: Times the local median that a peak must exceed.
        floor: Smallest peak that counts.
    """

    track: Literal["sfx", "visual"]
    text: str
    ratio: float
    floor: float


SOUND = Kind("sfx", "a sound", ratio=3.0, floor=0.03)
MOTION = Kind("visual", "a movement", ratio=2.0, floor=0.15)


def propose_events(clip: Clip) -> tuple[Event, ...]:
    """Events at audio onsets (track ``sfx``) and motion peaks (track ``visual``), by start.

    Texts are neutral; ``confidence`` in (0, 1) grows with how far a peak stands above its
    surroundings.
    """
    events: list[Event] = []
    if clip.waveform is not None:
        flux, energy = sound_envelopes(clip.waveform, clip.sample_rate)
        events += _events(flux, energy, _HOP_SECONDS, SOUND)
    if clip.frames is not None:
        acceleration, motion = motion_envelopes(clip.frames)
        events += _events(acceleration, motion, float(1 / clip.fps), MOTION)
    return tuple(sorted(events, key=lambda event: (event.start_us, event.track)))


def sound_envelopes(
    waveform: Float32[ndarray, "c s"], sample_rate: int
) -> tuple[Float[ndarray, "n"], Float[ndarray, "n"]]:
    """Spectral flux and loudness every 10 ms; step ``n`` is centred on ``n * 0.01`` seconds."""
    hop, size = round(sample_rate * _HOP_SECONDS), round(sample_rate * _WINDOW_SECONDS)
    mono = waveform.mean(axis=0, dtype=np.float64)
    steps = max(1, len(mono) // hop)
    padded = np.pad(mono, (size // 2, size))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[: steps * hop : hop]
    magnitude = np.abs(np.fft.rfft(windows * np.hanning(size), axis=1)) / (size / 4)
    compressed = np.log1p(_COMPRESSION * magnitude)
    flux = np.maximum(np.diff(compressed, axis=0, prepend=compressed[:1]), 0).mean(axis=1)
    return flux, compressed.mean(axis=1)


def motion_envelopes(
    frames: UInt8[ndarray, "f h w 3"],
) -> tuple[Float[ndarray, "f"], Float[ndarray, "f"]]:
    """Sudden change of the picture, and motion: mean absolute grey difference.

    The change is the acceleration of the optical flow, weighted by contrast, and that of brightness,
    which has no flow.
    """
    stride = max(1, min(frames.shape[1:3]) // _FLOW_PIXELS)
    grey = frames[:, ::stride, ::stride].mean(axis=-1, dtype=np.float32)
    if len(grey) < 3 or min(grey.shape[1:]) < 2:
        return np.zeros(len(grey)), np.zeros(len(grey))
    motion = np.abs(np.diff(grey, axis=0)).mean(axis=(1, 2))
    flow, contrast = _flow(gaussian_filter(grey, (0, _BLUR, _BLUR)))
    change = np.hypot(*np.diff(flow, axis=1)) * np.minimum(contrast[1:], contrast[:-1])
    flash = np.abs(np.diff(grey.mean(axis=(1, 2))))[:-1]
    sudden = np.pad(change.mean(axis=(1, 2)) + flash, 1)  # the first and last frame have none
    return sudden, np.concatenate([motion[:1], motion])


def _flow(
    grey: Float32[ndarray, "f h w"],
) -> tuple[Float[ndarray, "2 g h w"], Float[ndarray, "g h w"]]:
    """Flow between neighbouring frames in pixels, and the contrast it rests on (Lucas-Kanade 1981)."""
    middle, rise = (grey[1:] + grey[:-1]) / 2, grey[1:] - grey[:-1]
    down, right = np.gradient(middle, axis=1), np.gradient(middle, axis=2)

    def around(product: ndarray) -> ndarray:
        for axis in (1, 2):
            product = uniform_filter1d(product, _FLOW_WINDOW, axis=axis)
        return product

    yy, xx = around(down * down) + _DAMPING, around(right * right) + _DAMPING
    xy = around(down * right)
    yt, xt = around(down * rise), around(right * rise)
    flow = np.stack([yt * xx - xt * xy, xt * yy - yt * xy]) / -(xx * yy - xy * xy)
    return flow, xx + yy - 2 * _DAMPING


def peaks(novelty: Float[ndarray, "n"], step: float, kind: Kind) -> list[tuple[int, float]]:
    """Steps that stand out of their surroundings, with a confidence in (0, 1).

    Args:
        novelty: Non-negative.
        step: Seconds per step.
        kind: Thresholds.
    """
    if len(novelty) < 3:
        return []
    background = median_filter(
        novelty, size=max(3, round(_BACKGROUND_SECONDS / step)), mode="nearest"
    )
    threshold = np.maximum(kind.ratio * background, kind.floor)
    highest = maximum_filter1d(novelty, size=2 * max(1, round(_GAP_SECONDS / step)) + 1)
    found = np.flatnonzero((novelty >= highest) & (novelty > threshold))
    return [(int(i), float(novelty[i] / (novelty[i] + threshold[i]))) for i in found]


def _events(
    novelty: Float[ndarray, "n"],
    level: Float[ndarray, "n"],
    step: float,
    kind: Kind,
) -> list[Event]:
    found = peaks(novelty, step, kind)
    starts = [index for index, _ in found]
    events = []
    nexts = [*starts[1:], len(novelty)][: len(found)]
    for (index, confidence), following in zip(found, nexts, strict=True):
        last = min(following, index + round(_LONGEST / step), len(novelty))
        end = max(_fallen(level, index, last) * step, index * step + _SHORTEST)
        end = min(end, len(novelty) * step)
        fields = {"confidence": round(confidence, 3), "provenance": PROVENANCE}
        events.append(Event.at(index * step, end, kind.text, kind.track, **fields))
    return events


def _fallen(level: Float[ndarray, "n"], start: int, last: int) -> int:
    """First step after ``start`` where the level has lost half of its gain, at most ``last``."""
    before = level[max(0, start - 2)]
    peak = start + int(np.argmax(level[start : start + 3]))
    below = np.flatnonzero(level[peak:last] < (before + level[peak]) / 2)
    return peak + int(below[0]) if below.size else last
