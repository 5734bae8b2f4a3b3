"""Procedural worlds: clips from a seed, with captions, exact events and a detector each."""

from collections.abc import Sequence

from avgen_data_prep.worlds.base import Detection, World, WorldExample
from avgen_data_prep.worlds.bounce import Bounce
from avgen_data_prep.worlds.drums import Drums
from avgen_data_prep.worlds.engine import Engine
from avgen_data_prep.worlds.talker import Talker

WORLDS: dict[str, World] = {world.name: world for world in (Bounce(), Drums(), Talker(), Engine())}

HELD_OUT_SEED = 1_000_000
"""Clips with seeds below are for training; this one and those above are for evaluation."""


def check_worlds(names: Sequence[str]) -> None:
    """Refuse names of no world, and no names.

    Raises:
        ValueError: There is no such world; names those that there are.
    """
    unknown = [name for name in names if name not in WORLDS]
    if unknown or not names:
        raise ValueError(f"worlds {unknown or list(names)}: choose from {', '.join(WORLDS)}")


def clip_id(world: str, seed: int) -> str:
    """Name of a rendered clip."""
    return f"{world}-{seed:07d}"


__all__ = [
    "HELD_OUT_SEED",
    "WORLDS",
    "Detection",
    "World",
    "WorldExample",
    "check_worlds",
    "clip_id",
]
