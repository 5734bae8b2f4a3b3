"""Sources and clips that tests of stages share; see `avgen_data_prep.proof.editing` for the edits."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from avgen_data_prep.pipeline.stage import Measure
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.proof.editing import Source, edit
from avgen_data_prep.worlds import WORLDS, WorldExample

from avgen.clip import Clip

__all__ = ["Source", "beeps", "edit", "flash_and_beep", "flashes", "measured", "world_clips"]


def measured(row: dict[str, Any], work: Work, *stages: Measure) -> dict[str, Any]:
    """The row with the columns of stages, as a run would fill it."""
    for stage in stages:
        found = stage.measure(row, work)
        assert set(found) <= set(stage.writes.names)
        row = row | dict.fromkeys(stage.writes.names) | found
    return row


def flash_and_beep(
    duration: float, times: Sequence[float], *, fps: int = 25, size: int = 64, rate: int = 48_000
) -> WorldExample:
    """A dark patterned picture that lights up, and a click, at each time; exact to a sample.

    A flash lasts 80 ms and starts with the frame nearest to its time. Below 64 pixels, x265
    corrupts memory.
    """
    count = round(duration * fps)
    dark = 60 + 20 * np.indices((size, size)).sum(axis=0)[..., None].repeat(3, axis=2) // size
    frames = np.broadcast_to(dark.astype(np.uint8), (count, size, size, 3)).copy()
    at = np.arange(round(count / fps * rate)) / rate
    wave = np.zeros_like(at)
    for time in times:
        frames[round(time * fps) : round((time + 0.08) * fps)] = 230
        since = at - time
        wave += np.where(since >= 0, 0.7 * np.exp(-since / 0.02) * np.sin(9000 * since), 0)
    clip = Clip(
        frames=frames, fps=Fraction(fps), waveform=wave[None].astype(np.float32), sample_rate=rate
    )
    truth = {"world": "flash", "events": [{"time": time} for time in times]}
    return WorldExample(clip=clip, captions=(), truth=truth)


def world_clips(
    seeds: Sequence[int],
    *,
    worlds: Sequence[str] = tuple(WORLDS),
    seconds: tuple[float, float] = (1.5, 4.0),
    fps: int = 25,
    size: int = 64,
    sample_rate: int = 48_000,
) -> list[WorldExample]:
    """Clips of worlds, of random lengths, a function of the seeds."""
    examples = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        world = WORLDS[worlds[int(rng.integers(len(worlds)))]]
        duration = float(rng.uniform(*seconds))
        examples.append(
            world.render(seed, duration=duration, fps=fps, size=size, sample_rate=sample_rate)
        )
    return examples


def flashes(clip: Clip) -> list[float]:
    """Seconds at which a clip of `flash_and_beep` lights up."""
    assert clip.frames is not None
    bright = clip.frames.mean(axis=(1, 2, 3)) > 150
    return [i / float(clip.fps) for i in np.flatnonzero(bright[1:] & ~bright[:-1]) + 1]


def beeps(clip: Clip) -> list[float]:
    """Seconds at which the clicks of `flash_and_beep` begin, to a fraction of a millisecond."""
    assert clip.waveform is not None
    rate = clip.sample_rate
    since = np.arange(round(0.05 * rate)) / rate
    click = np.exp(-since / 0.02) * np.sin(9000 * since)
    match = np.correlate(clip.waveform[0], click, "valid") / (click @ click)
    found: list[float] = []
    for place in np.argsort(-match):
        if match[place] < 0.35:
            break
        if all(abs(place / rate - other) > 0.1 for other in found):
            found.append(float(place) / rate)
    return sorted(found)
