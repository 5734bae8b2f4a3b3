"""CLIP score: does the picture fit the text? (Radford et al. 2021; Hessel et al. 2021).

Shapes: F frames, D features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from avgen_eval.metrics.base import Field, Values
from avgen_eval.weighted.base import Item, WeightedClipMetric, require_frames
from avgen_eval.weighted.towers import Towers, unit_vectors

MAX_FRAMES = 48
BATCH = 16


@dataclass(frozen=True, kw_only=True)
class ClipModel(Towers):
    """Both towers of a CLIP model with their preprocessing; embeddings are unit vectors.

    Attributes:
        processor: Preprocessing of pictures.
    """

    network = "CLIPModel"
    parts: ClassVar = {
        # Pillow's resizing: with an antialiasing filter, and the same with and without torchvision.
        "processor": ["CLIPImageProcessorPil", "CLIPImageProcessor"],
        "tokenizer": ["AutoTokenizer"],
    }
    processor: Any

    @property
    def max_tokens(self) -> int:
        """Longest text, in tokens."""
        return self.model.config.text_config.max_position_embeddings

    @torch.inference_mode()
    def embed_frames(self, frames: np.ndarray) -> Tensor:
        """Unit vectors ``(F, D)`` of frames ``(F, H, W, 3)`` uint8."""
        parts = []
        for start in range(0, len(frames), BATCH):
            chunk = list(frames[start : start + BATCH])
            pixels = self.processor(images=chunk, return_tensors="pt")["pixel_values"]
            found = self.model.get_image_features(pixel_values=pixels.to(self.model.device))
            parts.append(unit_vectors(found))
        return torch.cat(parts)


def evenly(count: int, most: int) -> np.ndarray:
    """Indices of all of ``count`` frames, or of ``most`` of them: the middles of equal parts."""
    if count <= most:
        return np.arange(count)
    return (2 * np.arange(most) + 1) * count // (2 * most)


class ClipScore(WeightedClipMetric[ClipModel]):
    """Mean over frames of the cosine of the embeddings of text and frame; at most 48 frames, evenly spaced.

    Fails on: motion and order in time, of which it sees nothing; counts and relations of objects; texts longer than 77
    tokens, of which it reads the beginning (``truncated`` is 1 for them); good models, between which it hardly tells.
    """

    fields: ClassVar = {"clip": Field(better="higher"), "truncated": Field(unit="share")}
    protocol = "48 frames, evenly spaced|the model's own preprocessing in Pillow|mean of cosines"

    @classmethod
    def load(cls, paths: Mapping[str, Path], device: str = "cpu") -> ClipModel:
        """The folder at ``paths["clip"]``."""
        return ClipModel.from_folder(paths["clip"], device)

    def score(self, item: Item) -> Values:
        """``clip`` and ``truncated``."""
        text, frames = item.require_text(), require_frames(item.clip)
        wanted, truncated = self.model.embed_text(text)
        found = self.model.embed_frames(frames[evenly(len(frames), MAX_FRAMES)])
        return {"clip": float((found @ wanted).mean()), "truncated": float(truncated)}
