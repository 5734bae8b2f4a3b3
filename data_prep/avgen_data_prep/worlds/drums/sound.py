"""Sound of the drums world: one timbre for each instrument."""

import numpy as np

from avgen_data_prep.worlds import synthesis
from avgen_data_prep.worlds.base import Stage
from avgen_data_prep.worlds.drums.kit import Kit


def strike_voice(
    name: str, level: float, noise: np.random.Generator, sample_rate: int
) -> synthesis.Voice:
    """The sound of an instrument struck at a level, about its peak."""

    def voice(times: np.ndarray) -> np.ndarray:
        return np.float32(level) * synthesis.attack(times) * timbre(name, times, noise, sample_rate)

    return voice


def timbre(
    name: str, times: np.ndarray, noise: np.random.Generator, sample_rate: int
) -> np.ndarray:
    """The waveform of an instrument at level 1."""
    if name == "kick":
        click = 0.25 * synthesis.burst(times, noise, 0.002)
        return 1.1 * synthesis.sweep(times, 170.0, 52.0, 0.03, 0.11) + click
    if name == "snare":
        rattle = 0.4 * synthesis.burst(times, noise, 0.06)
        return 0.5 * synthesis.sweep(times, 240.0, 185.0, 0.03, 0.06) + rattle
    if name == "tom":
        click = 0.12 * synthesis.burst(times, noise, 0.002)
        return 1.1 * synthesis.sweep(times, 260.0, 150.0, 0.06, 0.12) + click
    if name == "hat":
        hiss = synthesis.burst(times, noise, 0.03)
        return 0.35 * np.diff(hiss, prepend=np.float32(0.0))
    if name == "cowbell":
        bell = synthesis.Modes((565.0, 845.0, 1690.0), (0.12, 0.1, 0.05), (0.7, 0.7, 0.3), 0.0)
        return 0.8 * synthesis.ring(times, bell, sample_rate / 2)
    block = synthesis.Modes((1050.0, 1580.0), (0.035, 0.025), (1.0, 0.5), 0.0)
    return synthesis.ring(times, block, sample_rate / 2)


def play_kit(kit: Kit, stage: Stage, noise: np.random.Generator) -> np.ndarray:
    """Waveform ``(S,)`` of all strikes."""
    waveform = np.zeros(stage.num_samples, dtype=np.float32)
    for time, pad, level in kit.strikes:
        name = kit.pads[pad]
        voice = strike_voice(name, level, noise, stage.sample_rate)
        synthesis.mix_into(waveform, stage.sample_rate, time, kit.instruments[name].length, voice)
    return waveform
