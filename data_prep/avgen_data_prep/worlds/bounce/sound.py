"""Sound of the bounce world: what a body is made of decides how it rings."""

import numpy as np

from avgen_data_prep.worlds.base import Stage
from avgen_data_prep.worlds.bounce.scene import Scene
from avgen_data_prep.worlds.motion import Hit
from avgen_data_prep.worlds.synthesis import Modes, impact, mix_into

PITCH = {"small": 1.4, "medium": 1.0, "big": 0.72}
TIMBRES = {
    "rubber": Modes((150.0, 285.0), (0.07, 0.035), (1.0, 0.5), 0.15),
    "wood": Modes((460.0, 1180.0, 1930.0), (0.05, 0.03, 0.02), (1.0, 0.6, 0.4), 0.3),
    "metal": Modes(
        (900.0, 1390.0, 2510.0, 3600.0), (0.26, 0.2, 0.16, 0.1), (1, 0.7, 0.6, 0.4), 0.3
    ),
    "glass": Modes((2050.0, 3480.0, 4700.0), (0.12, 0.08, 0.05), (1.0, 0.5, 0.3), 0.2),
}
FULL_SPEED = 2.0


def loudness(hit: Hit) -> float:
    """Peak level of a hit, by its speed."""
    return 0.18 + 0.4 * min(1.0, hit.speed / FULL_SPEED)


def play_scene(scene: Scene, stage: Stage, noise: np.random.Generator) -> np.ndarray:
    """Waveform ``(S,)`` of all hits."""
    waveform = np.zeros(stage.num_samples, dtype=np.float32)
    for body, hit in scene.hits():
        modes = TIMBRES[body.material].pitched(PITCH[body.size])
        voice = impact(modes, loudness(hit), noise, stage.sample_rate)
        mix_into(waveform, stage.sample_rate, hit.time, modes.length, voice)
    return waveform
