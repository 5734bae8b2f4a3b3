"""What a bounce clip shows: bodies and their paths, independent of frame rate and size."""

from dataclasses import dataclass

import numpy as np

from avgen_data_prep.worlds.base import spread_out
from avgen_data_prep.worlds.motion import (
    FLOOR,
    LEFT_WALL,
    MIN_HIT_SPEED,
    RIGHT_WALL,
    Flight,
    Hit,
    Path,
    trace,
)
from avgen_data_prep.worlds.palette import BACKGROUNDS, FLOORS, PALETTE

SIZES = {"small": 5.5 / 64, "medium": 7.0 / 64, "big": 8.5 / 64}
SHAPES = {"ball": (1.0, 1.0, np.pi), "box": (0.9, 0.9, 3.24), "triangle": (1.1, 0.95, 2.09)}
RESTITUTION = {"rubber": 0.8, "wood": 0.5, "metal": 0.6, "glass": 0.68}
CLEARANCE = 1.5 / 64
ATTEMPTS = 600


@dataclass(frozen=True)
class Body:
    """A moving object; lengths in picture heights."""

    colour: str
    shape: str
    material: str
    size: str
    path: Path

    @property
    def radius(self) -> float:
        """Nominal radius."""
        return SIZES[self.size]

    @property
    def half_extent(self) -> tuple[float, float]:
        """Half width and half height."""
        wide, high, _ = SHAPES[self.shape]
        return wide * self.radius, high * self.radius

    @property
    def start(self) -> Flight:
        """Where and how it is at time zero."""
        return self.path.flights[0]


@dataclass(frozen=True)
class Scene:
    """Everything a clip shows, independent of frame rate and size."""

    bodies: tuple[Body, ...]
    background: str
    floor: str

    def hits(self) -> list[tuple[Body, Hit]]:
        """All hits in order of time."""
        pairs = [(body, hit) for body in self.bodies for hit in body.path.hits]
        return sorted(pairs, key=lambda pair: pair[1].time)


def draw_scene(rng: np.random.Generator, duration: float) -> Scene:
    """A random scene whose hits are apart and whose bodies never overlap in the picture."""
    num_bodies = int(rng.choice([1, 2, 3], p=[0.4, 0.47, 0.13]))
    looks = draw_looks(rng, num_bodies)
    background = str(rng.choice(list(BACKGROUNDS)))
    floor = str(rng.choice(list(FLOORS)))
    bodies: list[Body] = []
    best: list[Body] = []
    for _ in range(ATTEMPTS):
        look = looks[len(bodies)]
        body = Body(*look, draw_path(rng, look, duration))
        if fits(body, bodies, duration):
            bodies.append(body)
            best = max(best, list(bodies), key=len)
        elif rng.random() < 0.05:
            bodies.clear()
        if len(bodies) == num_bodies:
            break
    if not best:
        best = [Body(*looks[0], rest_path(looks[0]))]
    return Scene(tuple(best), background, floor)


def draw_looks(rng: np.random.Generator, num_bodies: int) -> list[tuple[str, str, str, str]]:
    """Colour, shape, material and size of each body; no colour twice."""
    colours = rng.choice(list(PALETTE), num_bodies, replace=False)
    shapes = rng.choice(list(SHAPES), num_bodies, p=[0.5, 0.3, 0.2])
    lively = list(RESTITUTION) if num_bodies < 3 else ["wood", "metal"]
    materials = rng.choice(lively, num_bodies)
    sizes = rng.choice(list(SIZES), num_bodies)
    table = zip(colours, shapes, materials, sizes, strict=True)
    return [(str(c), str(s), str(m), str(z)) for c, s, m, z in table]


def draw_path(rng: np.random.Generator, look: tuple[str, str, str, str], duration: float) -> Path:
    """A random throw of a body of that look."""
    _, shape, material, size = look
    half_width, half_height = SHAPES[shape][0] * SIZES[size], SHAPES[shape][1] * SIZES[size]
    x = rng.uniform(LEFT_WALL + half_width + 0.02, RIGHT_WALL - half_width - 0.02)
    y = rng.uniform(half_height + 0.02, 0.55)
    drift = 0.0 if rng.random() < 0.4 else rng.uniform(0.25, 0.6) * rng.choice([-1.0, 1.0])
    highest = -np.sqrt(max(0.0, 6.0 * (y - half_height - 0.01)))
    lift = 0.0 if rng.random() < 0.5 else max(rng.uniform(-1.3, 0.4), highest)
    start = Flight(0.0, float(x), float(y), float(drift), float(lift), False)
    return trace(start, half_width, half_height, RESTITUTION[material], duration)


def rest_path(look: tuple[str, str, str, str]) -> Path:
    """Lying still on the floor: what is left where a clip is too short for any hit."""
    _, shape, _, size = look
    return Path([Flight(0.0, 0.5, FLOOR - SHAPES[shape][1] * SIZES[size], 0.0, 0.0, True)])


def fits(body: Body, others: list[Body], duration: float) -> bool:
    """Whether a body can join others: hits far enough apart, nothing touching or hidden."""
    hits = [hit for other in others for hit in other.path.hits] + body.path.hits
    if any(hit.speed < MIN_HIT_SPEED for hit in body.path.hits) or not body.path.hits:
        return False
    if not spread_out([hit.time for hit in hits], duration):
        return False
    times = np.arange(0.0, duration, 0.02)
    x, y = body.path.positions(times)
    for other in others:
        other_x, other_y = other.path.positions(times)
        wide = body.half_extent[0] + other.half_extent[0] + CLEARANCE
        high = body.half_extent[1] + other.half_extent[1] + CLEARANCE
        if ((np.abs(x - other_x) < wide) & (np.abs(y - other_y) < high)).any():
            return False
    return True
