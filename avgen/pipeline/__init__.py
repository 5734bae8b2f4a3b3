"""From a timed caption to a clip."""

from avgen.pipeline.pipeline import DEFAULT_GUIDANCE, AVPipeline
from avgen.pipeline.request import Request

__all__ = ["DEFAULT_GUIDANCE", "AVPipeline", "Request"]
