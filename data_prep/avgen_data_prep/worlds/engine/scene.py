"""What an engine clip shows: a wheel whose speed changes smoothly and drives a tone."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from avgen_data_prep.worlds.palette import BACKGROUNDS

COLOURS = ("red", "green", "blue", "orange", "purple", "pink")
TONES = {"humming": 4, "buzzing": 14}
SLOWEST, FASTEST = 0.7, 3.6
HERTZ_PER_SPEED = 110.0
SHORTEST = 0.4
LEAST_CHANGE = 0.9

Change = Literal["speeds up", "slows down", "keeps steady"]


@dataclass(frozen=True)
class Span:
    """Seconds in which the speed goes smoothly from ``first`` to ``last`` turns per second."""

    start: float
    end: float
    first: float
    last: float

    @property
    def change(self) -> Change:
        """What happens to the speed."""
        if self.first == self.last:
            return "keeps steady"
        return "speeds up" if self.last > self.first else "slows down"


@dataclass(frozen=True)
class Run:
    """Everything a clip shows, independent of frame rate and size; ``turn`` is 1 for clockwise."""

    colour: str
    background: str
    tone: str
    turn: int
    angle: float
    spans: tuple[Span, ...]


def draw_run(rng: np.random.Generator, duration: float) -> Run:
    """A random wheel; steady and changing spans take turns, at least one changes."""
    colour, background = str(rng.choice(COLOURS)), str(rng.choice(list(BACKGROUNDS)))
    num_spans = max(1, min(int(rng.integers(2, 5)), int(duration / SHORTEST)))
    weights = rng.uniform(1.0, 1.6, num_spans)
    edges = np.concatenate([[0.0], np.cumsum(weights)]) / weights.sum() * duration
    steady = bool(rng.random() < 0.5) and num_spans > 1
    speed = float(rng.uniform(SLOWEST, FASTEST))
    spans = []
    for start, end in pairwise(edges):
        goal = speed if steady else draw_goal(rng, speed)
        spans.append(Span(float(start), float(end), speed, goal))
        speed, steady = goal, not steady
    turn, angle = int(rng.choice([-1, 1])), float(rng.uniform(0.0, 2 * np.pi))
    return Run(colour, background, str(rng.choice(list(TONES))), turn, angle, tuple(spans))


def draw_goal(rng: np.random.Generator, speed: float) -> float:
    """A speed at least `LEAST_CHANGE` away."""
    while True:
        goal = float(rng.uniform(SLOWEST, FASTEST))
        if abs(goal - speed) >= LEAST_CHANGE:
            return goal


def speed_at(run: Run, times: np.ndarray) -> np.ndarray:
    """Turns per second at each time."""
    speed = np.full(len(times), run.spans[-1].last)
    for span in reversed(run.spans):
        share = np.clip((times - span.start) / (span.end - span.start), 0.0, 1.0)
        ease = share * share * (3.0 - 2.0 * share)
        value = span.first + (span.last - span.first) * ease
        speed = np.where(times < span.end, value, speed)
    return speed


def turns_at(run: Run, times: np.ndarray) -> np.ndarray:
    """Turns made since the start at each time: the exact integral of the speed."""
    turns = np.zeros(len(times))
    for span in run.spans:
        length = span.end - span.start
        share = np.clip((times - span.start) / length, 0.0, 1.0)
        eased = share * share * share * (1.0 - 0.5 * share)
        turns += length * (span.first * share + (span.last - span.first) * eased)
    return turns + run.spans[-1].last * np.maximum(0.0, times - run.spans[-1].end)
