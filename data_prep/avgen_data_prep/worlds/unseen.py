"""Worlds that no model is trained on: what the others never show, for evaluation.

`avgen_data_prep.worlds.WORLDS` does not have them, so no data is made of them by accident.
"""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from avgen.clip import Clip
from avgen_data_prep.worlds import listen
from avgen_data_prep.worlds.base import Detection, World
from avgen_data_prep.worlds.drums import Drums
from avgen_data_prep.worlds.drums.kit import INSTRUMENTS, Kit, draw_kit

CLOSE = (0.06, 0.09)
APART = 0.35
EDGE = 0.06
RESOLUTION = 0.045


class CloseDrums(Drums):
    """Strikes in pairs on different pads, 60 to 90 ms apart; `Drums` has at least 130 ms."""

    name: ClassVar[str] = "close-drums"

    def draw(self, rng: np.random.Generator, duration: float) -> Kit:
        """A kit of `Drums` with other strikes."""
        kit = draw_kit(rng, duration)
        number = max(1, int((duration - 0.4) / (2 * APART)))
        starts = 0.15 + np.arange(number) * (duration - 0.4) / number + rng.uniform(0, 0.1)
        strikes = []
        for start in starts.tolist():
            first, second = rng.choice(len(kit.pads), 2, replace=False).tolist()
            gap = float(rng.uniform(*CLOSE))
            strikes += [(start, first, 0.4), (start + gap, second, 0.4)]
        return replace(kit, strikes=tuple(strikes))

    def detect(self, clip: Clip, truth: dict[str, Any]) -> Detection:
        """See `World.detect`; onsets may be 45 ms apart."""
        found = super().detect(clip, truth)
        assert clip.waveform is not None
        heard = listen.onsets(clip.waveform.mean(axis=0), clip.sample_rate, RESOLUTION)
        return replace(found, sound_times=heard)


class EdgeDrums(Drums):
    """Strikes within 60 ms of the start and between 100 and 40 ms before the end; `Drums` keeps 100 ms free of them."""

    name: ClassVar[str] = "edge-drums"

    def draw(self, rng: np.random.Generator, duration: float) -> Kit:
        """A kit of `Drums` with other strikes."""
        kit = draw_kit(rng, duration)
        first, last = rng.uniform(0.005, EDGE), duration - rng.uniform(0.04, 0.1)
        middle = rng.uniform(0.35, 0.65) * duration
        times = [float(time) for time in (first, middle, last)]
        pads = rng.integers(len(kit.pads), size=3).tolist()
        return replace(kit, strikes=tuple(zip(times, pads, (0.4,) * 3, strict=True)))


class RecolouredDrums(Drums):
    """Every instrument in the colour of another one; in `Drums` each has its own."""

    name: ClassVar[str] = "recoloured-drums"

    def draw(self, rng: np.random.Generator, duration: float) -> Kit:
        """A kit of `Drums` with other colours."""
        kit = draw_kit(rng, duration)
        names = list(INSTRUMENTS)
        shift = int(rng.integers(1, len(names)))
        looks = {
            name: replace(INSTRUMENTS[name], colour=INSTRUMENTS[other].colour)
            for name, other in zip(names, names[shift:] + names[:shift], strict=True)
        }
        return replace(kit, instruments=looks)


UNSEEN: dict[str, World] = {
    world.name: world for world in (CloseDrums(), EdgeDrums(), RecolouredDrums())
}
