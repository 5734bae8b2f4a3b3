"""Sound synthesis: struck bodies, drums, and a mixer that places sounds between audio samples.

A voice is a function from seconds since its start ``(S,)`` to a waveform; being continuous in time
it starts exactly at the time of its event, not at the nearest audio sample.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Voice = Callable[[np.ndarray], np.ndarray]
ATTACK = 0.001


@dataclass(frozen=True)
class Modes:
    """The ringing of a struck body.

    Attributes:
        frequencies: Hz of each mode.
        decays: Seconds in which each mode falls to 1/e.
        gains: Relative strength of each mode.
        click: Strength of the contact noise in the first milliseconds.
    """

    frequencies: tuple[float, ...]
    decays: tuple[float, ...]
    gains: tuple[float, ...]
    click: float

    def pitched(self, factor: float) -> "Modes":
        """The same body with all frequencies multiplied: larger bodies are lower."""
        return Modes(
            tuple(f * factor for f in self.frequencies), self.decays, self.gains, self.click
        )

    @property
    def length(self) -> float:
        """Seconds until the sound has fallen by about 40 dB."""
        return 4.6 * max(self.decays)


def mix_into(
    waveform: np.ndarray, sample_rate: int, start: float, length: float, voice: Voice
) -> None:
    """Add a voice of ``length`` seconds from ``start`` seconds on to ``(S,)`` in place."""
    first = int(np.ceil(start * sample_rate))
    last = min(len(waveform), int((start + length) * sample_rate))
    if first < last:
        times = np.arange(first, last) / sample_rate - start
        waveform[first:last] += voice(times.astype(np.float32))


def attack(times: np.ndarray, seconds: float = ATTACK) -> np.ndarray:
    """A linear rise from 0 to 1."""
    return np.minimum(times / np.float32(seconds), 1.0)


def ring(times: np.ndarray, modes: Modes, nyquist: float) -> np.ndarray:
    """Damped sines of the modes below ``nyquist`` Hz."""
    sound = np.zeros_like(times)
    for frequency, decay, gain in zip(modes.frequencies, modes.decays, modes.gains, strict=True):
        if frequency < 0.95 * nyquist:
            tone = np.sin(np.float32(2 * np.pi * frequency) * times)
            sound += np.float32(gain) * np.exp(times * np.float32(-1 / decay)) * tone
    return sound


def burst(times: np.ndarray, noise: np.random.Generator, decay: float) -> np.ndarray:
    """White noise that falls to 1/e in ``decay`` seconds; exactly silent after ten of them."""
    used = min(len(times), int(np.searchsorted(times, 10 * decay)) + 1)
    sound = np.zeros_like(times)
    sound[:used] = noise.standard_normal(used, dtype=np.float32)
    sound[:used] *= np.exp(times[:used] * np.float32(-1 / decay))
    return sound


def impact(modes: Modes, level: float, noise: np.random.Generator, sample_rate: int) -> Voice:
    """A body struck once: its modes and a click, ``level`` being about the peak."""
    scale = level / (0.75 * sum(modes.gains))

    def voice(times: np.ndarray) -> np.ndarray:
        rings = ring(times, modes, sample_rate / 2)
        click = modes.click * burst(times, noise, 0.0025)
        return np.float32(scale) * attack(times) * (rings + click)

    return voice


def sweep(times: np.ndarray, high: float, low: float, glide: float, decay: float) -> np.ndarray:
    """A sine that falls from ``high`` to ``low`` Hz with time constant ``glide``: a drum head."""
    cycles = low * times + (high - low) * glide * (1.0 - np.exp(-times / np.float32(glide)))
    return np.sin(np.float32(2 * np.pi) * cycles) * np.exp(times * np.float32(-1 / decay))
