"""An extractor that takes its process down, as a fault in a decoder would."""

import os
from dataclasses import dataclass
from typing import ClassVar

from avgen_eval.harness.cache import Extract
from avgen_eval.harness.decode import Decoded
from avgen_eval.harness.extractors import Extractor, Need


@dataclass(frozen=True, kw_only=True)
class Deadly(Extractor):
    name: ClassVar[str] = "deadly"
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset()

    def run(self, decoded: Decoded) -> Extract:
        assert decoded.clip is not None
        if decoded.clip.num_frames == 13:
            os._exit(1)
        return Extract(values={"frames": decoded.clip.num_frames})


@dataclass(frozen=True, kw_only=True)
class Failing(Deadly):
    name: ClassVar[str] = "failing"

    def run(self, decoded: Decoded) -> Extract:
        raise ZeroDivisionError("by nothing")
