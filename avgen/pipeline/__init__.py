"""From a timed caption to a clip."""

from avgen.pipeline.pipeline import AVPipeline
from avgen.pipeline.request import Request

__all__ = ["AVPipeline", "Request"]
