"""What a drums clip shows: pads, their instruments and the strikes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from avgen_data_prep.worlds.base import MIN_GAP, QUIET_EDGE

DARK = ("black", "dark grey", "navy")
ROW = 0.5


@dataclass(frozen=True)
class Instrument:
    """A pad: how it looks, sounds and is called."""

    colour: str
    shape: str
    length: float
    sounds: tuple[str, str, str, str]

    @property
    def form(self) -> str:
        """The shape as an adjective."""
        return {"ball": "round", "box": "square", "triangle": "triangle"}[self.shape]


INSTRUMENTS = {
    "kick": Instrument("red", "ball", 0.45, ("deep kick thump", "low boom", "kick thud", "kick")),
    "snare": Instrument(
        "yellow", "box", 0.35, ("crisp snare hit", "snappy crack", "snare rattle", "snare")
    ),
    "tom": Instrument("green", "ball", 0.45, ("round tom hit", "hollow tom", "tom thump", "tom")),
    "hat": Instrument(
        "cyan", "triangle", 0.2, ("hi-hat tick", "thin hiss tick", "hat tick", "closed hat")
    ),
    "cowbell": Instrument(
        "orange", "box", 0.4, ("cowbell clonk", "metallic clonk", "cowbell hit", "cowbell")
    ),
    "woodblock": Instrument(
        "purple", "triangle", 0.2, ("woodblock tock", "dry wooden tock", "block knock", "woodblock")
    ),
}


@dataclass(frozen=True)
class Kit:
    """Pads from left to right, their background and the strikes: seconds, pad, level.

    ``instruments`` says how each pad looks, sounds and is called; training data has `INSTRUMENTS` only.
    """

    pads: tuple[str, ...]
    background: str
    strikes: tuple[tuple[float, int, float], ...]
    instruments: Mapping[str, Instrument] = field(default_factory=lambda: INSTRUMENTS)

    @property
    def radius(self) -> float:
        """Radius of an idle pad in picture heights."""
        return 0.4 / len(self.pads)

    def centre(self, pad: int) -> float:
        """Horizontal centre of a pad in picture heights."""
        return (pad + 0.5) / len(self.pads)


def draw_kit(rng: np.random.Generator, duration: float) -> Kit:
    """A random kit and rhythm: strikes lie on a steady grid with some slots left out."""
    num_pads = int(rng.choice([3, 4]))
    pads = tuple(str(name) for name in rng.choice(list(INSTRUMENTS), num_pads, replace=False))
    background = str(rng.choice(DARK))
    step = rng.uniform(MIN_GAP + 0.01, 0.3)
    first = QUIET_EDGE + rng.uniform(0.0, min(step, duration - 2.0 * QUIET_EDGE))
    slots = np.arange(first, duration - QUIET_EDGE, step)
    wanted = max(1, round(rng.integers(3, 9) * duration / 1.96))
    chosen = np.sort(rng.choice(len(slots), min(wanted, len(slots)), replace=False))
    strikes = [
        (float(slots[i]), int(rng.integers(num_pads)), float(rng.uniform(0.3, 0.48)))
        for i in chosen
    ]
    return Kit(pads, background, tuple(strikes))
