"""Bodies that fall, bounce and come to rest, in closed form between exact hits.

Lengths are in picture heights, x to the right and y down; times in seconds.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

GRAVITY = 3.0
FLOOR = 0.86
LEFT_WALL, RIGHT_WALL = 0.05, 0.95
REST_SPEED = 0.42
WALL_RESTITUTION = 0.8
FLOOR_GRIP = 0.9
MIN_HIT_SPEED = 0.2

Surface = Literal["floor", "left wall", "right wall"]


@dataclass(frozen=True)
class Flight:
    """Motion between two hits, starting at ``time``."""

    time: float
    x: float
    y: float
    vx: float
    vy: float
    resting: bool


@dataclass(frozen=True)
class Hit:
    """A contact with the floor or a wall; ``speed`` is that into the surface."""

    time: float
    surface: Surface
    speed: float


@dataclass
class Path:
    """All flights and hits of one body."""

    flights: list[Flight] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)

    def positions(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centre ``x, y`` at each time ``(N,)``."""
        starts = np.array([flight.time for flight in self.flights])
        index = np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)
        table = np.array([(f.time, f.x, f.y, f.vx, f.vy, f.resting) for f in self.flights])[index]
        elapsed = times - table[:, 0]
        x = table[:, 1] + table[:, 3] * elapsed
        fall = 0.5 * GRAVITY * elapsed**2 * (1.0 - table[:, 5])
        return x, table[:, 2] + table[:, 4] * elapsed + fall


def floor_delay(flight: Flight, half_height: float) -> float:
    """Seconds until a flight reaches the floor."""
    depth = FLOOR - half_height - flight.y
    root = np.sqrt(max(0.0, flight.vy**2 + 2.0 * GRAVITY * depth))
    return (root - flight.vy) / GRAVITY


def wall_delay(flight: Flight, half_width: float) -> float:
    """Seconds until a flight reaches the wall it moves towards."""
    if flight.vx == 0.0:
        return np.inf
    edge = RIGHT_WALL - half_width if flight.vx > 0 else LEFT_WALL + half_width
    return max(0.0, (edge - flight.x) / flight.vx)


def trace(
    start: Flight, half_width: float, half_height: float, restitution: float, duration: float
) -> Path:
    """Follow a body from ``start`` for ``duration`` seconds, or until it rests on the floor."""
    path = Path(flights=[start])
    flight = start
    while not flight.resting:
        to_floor, to_wall = floor_delay(flight, half_height), wall_delay(flight, half_width)
        delay = min(to_floor, to_wall)
        time = flight.time + delay
        if time >= duration:
            break
        x, y = flight.x + flight.vx * delay, flight.y + flight.vy * delay + GRAVITY * delay**2 / 2
        vy = flight.vy + GRAVITY * delay
        if to_floor <= to_wall:
            path.hits.append(Hit(time, "floor", vy))
            flight = leave_floor(time, x, FLOOR - half_height, flight.vx, vy, restitution)
        else:
            surface: Surface = "right wall" if flight.vx > 0 else "left wall"
            path.hits.append(Hit(time, surface, abs(flight.vx)))
            flight = Flight(time, x, y, -WALL_RESTITUTION * flight.vx, vy, False)
        path.flights.append(flight)
    return path


def leave_floor(
    time: float, x: float, y: float, vx: float, vy: float, restitution: float
) -> Flight:
    """The flight after a floor hit at downward speed ``vy``; slow ones stop dead."""
    if restitution * vy < REST_SPEED:
        return Flight(time, x, y, 0.0, 0.0, True)
    return Flight(time, x, y, FLOOR_GRIP * vx, -restitution * vy, False)
