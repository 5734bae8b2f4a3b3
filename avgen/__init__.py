"""avgen: train, run and evaluate models that generate video and sound together.

Importing this package loads no heavy library; the public names below load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avgen.caption import Event, TimedCaption
    from avgen.clip import Clip
    from avgen.pipeline import AVPipeline

__version__ = "0.1.0"

_PUBLIC = {
    "AVPipeline": "avgen.pipeline",
    "Clip": "avgen.clip",
    "Event": "avgen.caption",
    "TimedCaption": "avgen.caption",
}
__all__ = ["AVPipeline", "Clip", "Event", "TimedCaption", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'avgen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
