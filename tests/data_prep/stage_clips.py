"""Clips for tests of stages: worlds at the size and rates of cut clips, and a stage run on one."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from avgen_data_prep.pipeline.stage import Measure, Row
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.worlds import WORLDS

from avgen import media
from avgen.clip import Clip

RATE = 48_000


def world(name: str, seed: int, *, duration: float = 2.0, size: int = 96) -> Clip:
    """A clip of a procedural world, without its caption."""
    made = WORLDS[name].render(seed, duration=duration, fps=25, size=size, sample_rate=RATE)
    return made.clip.replace(caption=None)


def sounding(waveform: np.ndarray, rate: int = RATE) -> Clip:
    """A clip without picture; ``(S,)`` becomes one channel."""
    wave = np.atleast_2d(waveform).astype(np.float32)
    return Clip(frames=None, waveform=wave, sample_rate=rate)


def silent(frames: np.ndarray, fps: int = 25) -> Clip:
    """A clip without sound."""
    return Clip(frames=frames, fps=Fraction(fps))


def measured(stage: Measure, clip: Clip, folder: Path, **columns: object) -> Row:
    """What a stage says of a clip that is written to a file and read again."""
    work, row = Work(folder, folder), {"id": "0123456789abcdef01234567", **columns}
    path = work.clip_file(row["id"])
    path.parent.mkdir(parents=True, exist_ok=True)
    media.write(path, clip)
    found = stage.measure(row, work)
    assert set(found) <= set(stage.writes.names)
    return found
