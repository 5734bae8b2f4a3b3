"""Known-answer worlds, reached by name so that evaluation does not depend on data preparation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen_eval.clips import DetectionLike

SUFFIX = ".truth.json"
WORLDS = ("avgen_data_prep.worlds:WORLDS", "avgen_data_prep.worlds.unseen:UNSEEN")
"""Where worlds are: those that models are trained on, and those that none is."""
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
    """The world of that name, of those that models are trained on or of those that none is.

    Raises:
        ValueError: There is none, or data preparation is not installed.
    """
    worlds: dict[str, WorldLike] = {}
    for place in WORLDS:
        module, attribute = place.split(":")
        try:
            worlds |= getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise ValueError(
                f"world {name!r} needs the package {module}, which is not installed"
            ) from error
    if name not in worlds:
        raise ValueError(f"world {name!r} does not exist; choose from {', '.join(sorted(worlds))}")
    return worlds[name]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a clip should show, in the words of a world.

    Attributes:
        world: Name.
        content: What the world's `detect` takes.
    """

    world: str
    content: dict[str, Any]

    def detect(self, clip: Clip) -> DetectionLike:
        """Measure a clip with the world's detector.

        Raises:
            ValueError: There is no such world, the clip lacks a stream, or the truth is not the world's.
        """
        try:
            return get_world(self.world).detect(clip, self.content)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(
                f"detector of world {self.world!r} cannot use this clip or its truth: {error}"
            ) from error

    def save(self, clip: Path) -> Path:
        """Write the truth beside a clip, as ``<stem>.truth.json``, where evaluation finds it."""
        path = clip.with_suffix(SUFFIX)
        content = {"world": self.world, "truth": self.content}
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")
        return path


def read_truth(path: Path) -> Truth:
    """Read what `Truth.save` wrote.

    Raises:
        ValueError: Not such a file, or there is no such world.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"not JSON: {error}; write an object with `world` and `truth`") from error
    if not isinstance(content, dict) or not isinstance(content.get("truth"), dict):
        raise ValueError("needs an object with `world`, a name, and `truth`, an object")
    get_world(str(content.get("world")))
    return Truth(world=content["world"], content=content["truth"])
