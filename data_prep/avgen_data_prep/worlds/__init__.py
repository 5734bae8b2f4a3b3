"""Procedural worlds: clips from a seed, with captions, exact events and a detector each."""

from avgen_data_prep.worlds.base import Detection, World, WorldExample
from avgen_data_prep.worlds.bounce import Bounce
from avgen_data_prep.worlds.drums import Drums
from avgen_data_prep.worlds.engine import Engine
from avgen_data_prep.worlds.talker import Talker

WORLDS: dict[str, World] = {world.name: world for world in (Bounce(), Drums(), Talker(), Engine())}

__all__ = ["WORLDS", "Detection", "World", "WorldExample"]
