"""Procedural worlds: clips rendered from a seed, with captions, exact events and a detector each."""

from avgen_data_prep.worlds.base import Detection, World, WorldExample
from avgen_data_prep.worlds.bounce import Bounce
from avgen_data_prep.worlds.drums import Drums

WORLDS: dict[str, World] = {world.name: world for world in (Bounce(), Drums())}

__all__ = ["WORLDS", "Detection", "World", "WorldExample"]
