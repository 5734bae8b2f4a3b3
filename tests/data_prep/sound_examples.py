"""Synthetic speech, music and noise: nothing recorded, each a function of its seed."""

import numpy as np
from scipy.signal import lfilter

RATE = 16_000
SCALE = (0, 2, 4, 5, 7, 9, 11)
FORMANTS = (
    (730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410),
)  # fmt: skip


def pieces(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE))


def speech(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Syllables of a pulse train through moving formants, with hissed consonants and pauses."""
    rng = np.random.default_rng(seed)
    out, at, base = pieces(seconds), 0.1, rng.uniform(95, 220)
    while at < seconds - 0.3:
        hiss, vowel = rng.uniform(0.03, 0.09), rng.uniform(0.09, 0.2)
        count = round((hiss + vowel) * RATE)
        time = np.arange(count) / RATE
        pitch = base * (1 + 0.15 * np.sin(2 * np.pi * 0.4 * (at + time)) - 0.5 * (time - vowel / 2))
        pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0.0)
        edge = np.clip(np.minimum(time - hiss, hiss + vowel - time) / 0.03, 0, 1)
        wave = pulses * edge
        first, second = rng.choice(len(FORMANTS), 2)
        for low, high, width in zip(FORMANTS[first], FORMANTS[second], (80, 100, 140), strict=True):
            wave = _resonated(wave, (low + high) / 2 + rng.normal(0, 30), width)
        noise = rng.normal(size=count) * (time < hiss) * 0.15
        sound = wave / (np.abs(wave).max() + 1e-9) + np.diff(noise, prepend=0.0)
        start = round(at * RATE)
        out[start : start + count] += sound[: len(out) - start]
        at += hiss + vowel + (rng.uniform(0.2, 0.4) if rng.uniform() < 0.2 else 0.01)
    return (0.3 * out).astype(np.float32)


def _resonated(wave: np.ndarray, hertz: float, width: float) -> np.ndarray:
    radius = np.exp(-np.pi * width / RATE)
    turn = 2 * radius * np.cos(2 * np.pi * hertz / RATE)
    return np.asarray(lfilter([1 - radius], [1, -turn, radius**2], wave))


def music(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Chords and a melody in a scale, on a beat, plucked or held."""
    rng = np.random.default_rng(seed)
    out, beat = pieces(seconds), rng.uniform(0.25, 0.45)
    root, held = rng.uniform(110, 200), rng.uniform() < 0.5
    for number in range(int(seconds / beat)):
        degrees = [int(rng.integers(7, 14))]
        if number % 4 == 0:
            low = int(rng.integers(0, 5))
            degrees += [low, low + 2, low + 4]
        for degree in degrees:
            hertz = root * 2 ** (degree // 7 + SCALE[degree % 7] / 12)
            length = beat if degree >= 7 else 4 * beat
            _add_note(out, number * beat, length, hertz, held=held)
    return (0.5 * out / np.abs(out).max()).astype(np.float32)


def _add_note(out: np.ndarray, start: float, length: float, hertz: float, *, held: bool) -> None:
    time = np.arange(round(length * RATE)) / RATE
    shape = np.minimum(time / 0.02, 1) * np.minimum((length - time) / 0.03, 1)
    shape *= 1 if held else np.exp(-time / 0.25)
    tone = sum(np.sin(2 * np.pi * k * hertz * time) / k**1.5 for k in range(1, 7))
    first = round(start * RATE)
    end = min(len(out), first + len(time))
    out[first:end] += (shape * tone)[: end - first]


def wind(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Filtered noise whose level wanders."""
    rng = np.random.default_rng(seed)
    noise = np.asarray(
        lfilter([1], [1, -rng.uniform(0.3, 0.97)], rng.normal(size=round(seconds * RATE)))
    )
    slow = np.interp(
        np.arange(len(noise)) / RATE,
        np.arange(0, seconds + 1, 0.7),
        rng.uniform(0.4, 1, len(np.arange(0, seconds + 1, 0.7))),
    )
    return (0.2 * slow * noise / noise.std()).astype(np.float32)


def knocks(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Struck bodies at random times: damped inharmonic tones and a click."""
    rng = np.random.default_rng(seed)
    out = pieces(seconds)
    for start in rng.uniform(0, seconds - 0.3, int(rng.integers(2, 9))):
        time = np.arange(round(0.3 * RATE)) / RATE
        tones = [np.sin(2 * np.pi * hertz * time) for hertz in rng.uniform(150, 3000, 3)]
        strike = np.exp(-time / rng.uniform(0.02, 0.1)) * np.mean(tones, axis=0)
        strike += 0.5 * rng.normal(size=len(time)) * np.exp(-time / 0.004)
        first = round(start * RATE)
        out[first : first + len(time)] += strike[: len(out) - first]
    return (0.4 * out).astype(np.float32)
