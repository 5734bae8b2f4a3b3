"""Events proposed for clips that nobody described."""

from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from avgen_data_prep.proposals import propose_events
from avgen_data_prep.worlds import WORLDS

from avgen.clip import Clip

SEEDS = 16


@cache
def proposed(world: str) -> list[tuple[list[float], dict[str, list[float]]]]:
    """True times and proposed starts by track of some renders."""
    found = []
    for seed in range(SEEDS):
        example = WORLDS[world].render(seed)
        events = propose_events(example.clip)
        starts = {t: [e.start for e in events if e.track == t] for t in ("sfx", "visual")}
        found.append(([event["time"] for event in example.truth["events"]], starts))
    return found


@pytest.mark.parametrize(
    ("world", "track", "recall", "precision"),
    [
        ("bounce", "sfx", 0.95, 0.95),
        ("drums", "sfx", 0.95, 0.95),
        ("bounce", "visual", 0.9, 0.95),
        ("drums", "visual", 0.95, 0.7),
    ],
)
def test_proposals_are_where_the_worlds_have_events(
    world: str, track: str, recall: float, precision: float
) -> None:
    cases = [(times, starts[track]) for times, starts in proposed(world)]
    hit = sum(any(abs(t - s) < 0.06 for s in starts) for times, starts in cases for t in times)
    right = sum(any(abs(t - s) < 0.06 for t in times) for times, starts in cases for s in starts)
    assert hit / sum(len(times) for times, _ in cases) > recall
    assert right / sum(len(starts) for _, starts in cases) > precision


def test_stillness_and_silence_propose_nothing() -> None:
    still = Clip(
        frames=np.full((20, 16, 16, 3), 99, np.uint8),
        fps=Fraction(25),
        waveform=np.zeros((1, 12_800), np.float32),
        sample_rate=16_000,
    )
    assert propose_events(still) == ()
    rng = np.random.default_rng(0)
    hiss = rng.normal(size=(1, 32_000)).astype(np.float32) * 0.1
    grain = rng.normal(99, 3, size=(50, 64, 64, 3)).round().astype(np.uint8)
    assert propose_events(replace(still, waveform=hiss, frames=grain)) == ()


@pytest.mark.parametrize("samples", [1, 100, 700])
def test_tiny_clips_propose_nothing_and_do_not_fail(samples: int) -> None:
    clip = Clip(
        frames=np.zeros((1, 4, 4, 3), np.uint8),
        fps=Fraction(25),
        waveform=np.zeros((1, samples), np.float32),
        sample_rate=16_000,
    )
    assert propose_events(clip) == ()
