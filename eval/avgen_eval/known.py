"""Known-answer worlds, reached by name so that evaluation does not depend on data preparation."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen_eval.clips import DetectionLike, Detector

WORLDS = "avgen_data_prep.worlds:WORLDS"
HELD_OUT_SEED = 1_000_000


class ExampleLike(Protocol):
    """A rendered clip with its captions and the truth about it."""

    @property
    def clip(self) -> Clip:
        """The render."""
        ...

    @property
    def captions(self) -> Sequence[TimedCaption]:
        """Paraphrases of one caption."""
        ...

    @property
    def truth(self) -> dict[str, Any]:
        """What exactly happens in it."""
        ...


class WorldLike(Protocol):
    """What evaluation needs of a world."""

    def render(
        self,
        seed: int,
        *,
        duration: float = ...,
        fps: int = ...,
        size: int = ...,
        sample_rate: int = ...,
    ) -> ExampleLike:
        """Render one clip."""
        ...

    def detect(self, clip: Clip, truth: dict[str, Any]) -> DetectionLike:
        """Measure a clip against the truth."""
        ...


def get_world(name: str) -> WorldLike:
    """The world of that name.

    Raises:
        ValueError: There is none, or data preparation is not installed.
    """
    module, attribute = WORLDS.split(":")
    try:
        worlds = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"world {name!r} needs the package {module}, which is not installed"
        ) from error
    if name not in worlds:
        raise ValueError(f"world {name!r} does not exist; choose from {', '.join(sorted(worlds))}")
    return worlds[name]


def known_detector(name: str, truth: dict[str, Any]) -> Detector:
    """The detector of a world, told what the clip should show."""
    world = get_world(name)
    return lambda clip: world.detect(clip, truth)
