"""Known damage to clips, to test metrics with: each function returns a damaged copy of a clip."""

from collections.abc import Sequence

import numpy as np
import soxr
from scipy.ndimage import gaussian_filter
from scipy.signal import butter, sosfiltfilt

from avgen.clip import Clip

FADE = 0.01
RING = 0.25
CLEAR = 0.15


def shift_sound(clip: Clip, offset_ms: float) -> Clip:
    """The sound later by ``offset_ms`` (earlier if negative); silence fills the gap, the length stays."""
    waveform = _sound(clip)
    steps = round(offset_ms / 1000 * clip.sample_rate)
    moved = np.zeros_like(waveform)
    if steps >= 0:
        moved[:, steps:] = waveform[:, : waveform.shape[1] - steps]
    else:
        moved[:, :steps] = waveform[:, -steps:]
    return clip.replace(waveform=moved)


def stretch_sound(clip: Clip, ratio: float) -> Clip:
    """The sound slower by ``ratio`` (1.02 is 2%), by resampling; the length of the clip stays."""
    waveform = _sound(clip)
    rates = (clip.sample_rate, clip.sample_rate * ratio)
    slow = soxr.resample(np.ascontiguousarray(waveform.T), *rates).T.astype(np.float32)
    return clip.replace(waveform=_fit(slow, waveform.shape[1]))


def exchange_sound(clip: Clip, other: Clip) -> Clip:
    """The sound of another clip."""
    if other.sample_rate != clip.sample_rate:
        raise ValueError(
            f"sounds at {clip.sample_rate} and {other.sample_rate} Hz; exchange those of one rate"
        )
    return clip.replace(waveform=_fit(_sound(other), _sound(clip).shape[1]))


def mute(clip: Clip) -> Clip:
    """Silence."""
    return clip.replace(waveform=np.zeros_like(_sound(clip)))


def drop_events(
    clip: Clip, times: Sequence[float], share: float, generator: np.random.Generator
) -> tuple[Clip, list[float]]:
    """Silence a share of the sounds that begin at ``times`` (at least one).

    Returns:
        The clip and the times that are left.
    """
    ordered = sorted(times)
    count = min(len(ordered), max(1, round(share * len(ordered))))
    gone = set(generator.choice(len(ordered), count, replace=False).tolist()) if ordered else set()
    waveform = _sound(clip).copy()
    for index in gone:
        following = ordered[index + 1] if index + 1 < len(ordered) else clip.duration
        span = (ordered[index] - FADE, min(following - FADE, ordered[index] + 4 * RING))
        waveform *= _notch(span, waveform.shape[1], clip.sample_rate)
    return clip.replace(waveform=waveform), [t for i, t in enumerate(ordered) if i not in gone]


def add_events(
    clip: Clip, times: Sequence[float], count: int, generator: np.random.Generator
) -> tuple[Clip, list[float]]:
    """Repeat sounds of the clip at ``count`` other times, away from those that are there.

    Returns:
        The clip and all times; fewer are added where there is no room.
    """
    waveform, present = _sound(clip).copy(), sorted(times)
    if not present:
        return clip, []
    ring = round(RING * clip.sample_rate)
    for _ in range(count):
        places = np.arange(0.1, clip.duration - RING, 0.01)
        free = [p for p in places if min(abs(p - t) for t in present) >= CLEAR]
        if not free:
            break
        target, source = float(generator.choice(free)), float(generator.choice(sorted(times)))
        snippet = _sound(clip)[:, round(source * clip.sample_rate) :][:, :ring]
        fade = np.minimum(1.0, np.linspace(4, 0, snippet.shape[1])).astype(np.float32)
        start = round(target * clip.sample_rate)
        room = waveform[:, start : start + snippet.shape[1]]
        room += (snippet * fade)[:, : room.shape[1]]
        present = sorted([*present, target])
    return clip.replace(waveform=np.clip(waveform, -1, 1)), present


def add_noise_to_sound(clip: Clip, snr_db: float, generator: np.random.Generator) -> Clip:
    """White noise at a signal-to-noise ratio in decibels."""
    waveform = _sound(clip)
    power = float(np.mean(waveform**2)) * 10 ** (-snr_db / 10)
    noise = generator.normal(scale=np.sqrt(power), size=waveform.shape)
    return clip.replace(waveform=np.clip(waveform + noise, -1, 1).astype(np.float32))


def low_pass_sound(clip: Clip, cutoff_hz: float) -> Clip:
    """Nothing above ``cutoff_hz``: Butterworth of order 8, forwards and backwards, so that nothing moves in time."""
    sections = butter(8, cutoff_hz, fs=clip.sample_rate, output="sos")
    filtered = sosfiltfilt(sections, _sound(clip), axis=1)
    return clip.replace(waveform=np.clip(filtered, -1, 1).astype(np.float32))


def freeze_picture(clip: Clip, start: float = 0.0) -> Clip:
    """The picture stands still from ``start`` seconds on."""
    frames = _picture(clip).copy()
    first = min(len(frames) - 1, round(start * float(clip.fps)))
    frames[first:] = frames[first]
    return clip.replace(frames=frames)


def add_noise_to_picture(clip: Clip, deviation: float, generator: np.random.Generator) -> Clip:
    """Gaussian noise on every value; ``deviation`` in grey levels of 255."""
    frames = _picture(clip)
    noisy = frames + generator.normal(scale=deviation, size=frames.shape)
    return clip.replace(frames=np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def blur_picture(clip: Clip, deviation: float) -> Clip:
    """Gaussian blur; ``deviation`` in pixels."""
    blurred = gaussian_filter(_picture(clip).astype(np.float32), (0, deviation, deviation, 0))
    return clip.replace(frames=np.clip(np.rint(blurred), 0, 255).astype(np.uint8))


def _sound(clip: Clip) -> np.ndarray:
    if clip.waveform is None:
        raise ValueError("the clip has no sound to damage")
    return clip.waveform


def _picture(clip: Clip) -> np.ndarray:
    if clip.frames is None:
        raise ValueError("the clip has no picture to damage")
    return clip.frames


def _fit(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Cut, or filled with silence."""
    kept = waveform[:, :samples]
    return np.pad(kept, ((0, 0), (0, samples - kept.shape[1])))


def _notch(span: tuple[float, float], samples: int, sample_rate: int) -> np.ndarray:
    """1 outside a span of seconds and 0 inside, with short fades."""
    time = np.arange(samples) / sample_rate
    inside = np.minimum(time - span[0], span[1] - time) / FADE
    return (1 - np.clip(inside, 0, 1)).astype(np.float32)
