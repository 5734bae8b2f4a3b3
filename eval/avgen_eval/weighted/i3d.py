"""FVD: Frechet distance of videos in the logits of I3D (Unterthiner et al. 2018), as StyleGAN-V computes it.

Shapes: B clips, F frames.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from avgen.clip import Clip
from avgen_eval.metrics.base import Field
from avgen_eval.weighted.base import NotMeasurableError, require_frames
from avgen_eval.weighted.exported import ExportedModel, Signature, TensorSpec
from avgen_eval.weighted.frechet import FrechetMetric
from avgen_eval.weighted.pictures import stretched

FRAMES, SIZE, CLASSES = 16, 224, 400
SIGNATURE = Signature(
    inputs=(TensorSpec("video", ("B", 3, FRAMES, SIZE, SIZE)),),
    outputs=(TensorSpec("logits", ("B", CLASSES)),),
    # The TorchScript file of StyleGAN-V resizes and rescales on request; here that is done before it.
    options={"rescale": False, "resize": False, "return_features": True},
)


def i3d_input(clip: Clip) -> Tensor:
    """The first 16 frames at the clip's own rate, stretched to 224, ``(1, 3, 16, 224, 224)`` in [-1, 1].

    Bilinear without an antialiasing filter, which is what published values were made with.

    Raises:
        NotMeasurableError: There are fewer frames.
    """
    frames = require_frames(clip)
    if len(frames) < FRAMES:
        raise NotMeasurableError(f"{len(frames)} frames; FVD needs {FRAMES}")
    pixels = stretched(frames[:FRAMES], SIZE, antialias=False)
    return (pixels / 127.5 - 1).transpose(0, 1)[None].contiguous()


class FrechetVideoDistance(FrechetMetric):
    """Frechet distance between the I3D logits of generated and of reference clips, one vector per clip.

    Fails on: small sets (published values use 2,048 clips; below 800 it is not computed unless ``force``); defects in
    time, to which it is less sensitive than to those of single frames; comparison of values made with other resizing,
    frame rates, clip lengths or splits of the reference.
    """

    fields: ClassVar = {"fvd": Field(better="lower")}
    protocol = "first 16 frames, own rate|stretched to 224, bilinear, no antialias|logits|ddof 1"

    @classmethod
    def load(cls, paths: Mapping[str, Path], device: str = "cpu") -> ExportedModel:
        """The exported I3D."""
        return ExportedModel(paths["i3d"], SIGNATURE, device)

    def describe(self, clip: Clip) -> Tensor:
        """Logits ``(1, 400)``."""
        return self.model(video=i3d_input(clip))["logits"]
