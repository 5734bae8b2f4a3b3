"""Clips with known events, drawn and sounded in NumPy."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from avgen.caption import Event, TimedCaption
from avgen.clip import Clip

FPS, FRAMES, SIZE, RATE = 25, 49, 64, 16_000
DURATION = FRAMES / FPS
Times = Sequence[float] | np.ndarray


def flashes(frames: Sequence[int]) -> np.ndarray:
    """A dark picture with a square that lights up for two frames."""
    picture = np.full((FRAMES, SIZE, SIZE, 3), 30, np.uint8)
    for frame in frames:
        picture[frame : frame + 2, 16:48, 16:48] = 230
    return picture


def bouncing(hits: Times, seed: int = 0) -> np.ndarray:
    """A red ball whose parabolas meet the floor at the given seconds, with sensor noise."""
    edges = np.array([-0.35, *hits, hits[-1] + 0.8])
    times = np.arange(FRAMES) / FPS
    piece = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, len(edges) - 2)
    span = edges[piece + 1] - edges[piece]
    share = (times - edges[piece]) / span
    height = 1.5 * span**2 * share * (1 - share)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    rng = np.random.default_rng(seed)
    picture = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    for i in range(FRAMES):
        y, x = SIZE - 11 - height[i] * SIZE, SIZE * (0.3 + 0.4 * i / FRAMES)
        ball = np.clip(7.5 - np.hypot(rows - y, columns - x), 0, 1)[..., None]
        image = (1 - ball) * np.array([60.0, 70, 90]) + ball * np.array([220.0, 60, 50])
        picture[i] = np.clip(image + rng.normal(0, 2, (SIZE, SIZE, 1)), 0, 255)
    return picture


def knocks(times: Times, seed: int = 0, noise: float = 1e-3) -> np.ndarray:
    """Decaying tones with a click at their start, ``(1, S)``."""
    rng = np.random.default_rng(seed)
    clock = np.arange(round(DURATION * RATE)) / RATE
    sound = rng.normal(0, noise, clock.size)
    for k, start in enumerate(times):
        since = clock[clock >= start] - start
        tone = 0.5 * np.exp(-since / 0.05) * np.sin(2 * np.pi * (500 + 170 * k) * since)
        click = 0.15 * np.exp(-since / 0.004) * rng.normal(0, 1, since.size)
        sound[clock >= start] += tone + click
    return sound[None].astype(np.float32)


def caption(times: Sequence[float]) -> TimedCaption:
    """Each moment as a flash that is seen and the beep that it causes."""
    events: list[Event] = []
    for k, time in enumerate(times):
        seen = Event.at(max(0, time - 0.04), time + 0.04, f"flash {k}", "visual", id=f"v{k}")
        heard = Event.at(time, time + 0.1, f"beep <{k}>", "sfx", id=f"s{k}", cause=f"v{k}")
        events += [seen, heard]
    text = "a square lights up & beeps"
    return TimedCaption(duration_us=1_960_000, text=text, events=tuple(events))


def flash_and_beep(frames: Sequence[int] = (6, 20, 37), late: float = 0.0) -> Clip:
    """Lights that come on half-way before the given frames, and beeps ``late`` seconds after."""
    times = [(frame - 0.5) / FPS for frame in frames]
    return Clip(
        frames=flashes(frames),
        fps=Fraction(FPS),
        waveform=knocks([time + late for time in times]),
        sample_rate=RATE,
        caption=caption(times),
    )


def fading(seconds: float = 12.0, drift: float = 0.01) -> Clip:
    """Grey that falls by 8 levels a second, lit twice a second with a knock 10 ms later each second, 1 dB quieter."""
    times = np.arange(round(seconds * FPS)) / FPS
    frames = np.repeat((200 - 8 * times)[:, None, None, None], SIZE, 1).repeat(32, 2).repeat(3, 3)
    clock = np.arange(round(seconds * RATE)) / RATE
    rng = np.random.default_rng(0)
    sound = 1e-4 * rng.normal(0, 1, clock.size)
    # Unevenly spaced, so that one lag fits better than the next beat.
    for beat in np.cumsum(rng.uniform(0.35, 0.65, int(2 * seconds) - 2)):
        frame = round(beat * FPS)
        frames[frame : frame + 2, 8:24, 8:24] += 50
        since = clock - (frame / FPS + drift * beat)
        level = 0.8 * 10 ** (-beat / 20)
        ring = np.exp(-np.maximum(since, 0) / 0.06) * np.sin(2 * np.pi * 700 * since)
        sound += np.where(since >= 0, level * ring, 0)
    return Clip(
        frames=frames.round().astype(np.uint8),
        waveform=sound[None].astype(np.float32),
        sample_rate=RATE,
    )
