"""CLIP score: does the picture fit the text? (Radford et al. 2021; Hessel et al. 2021).

Shapes: F frames, D features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avgen_eval.metrics.base import Field, Values
from avgen_eval.weighted.base import Item, WeightedClipMetric, require_frames
from avgen_eval.weighted.pretrained import load_model, load_part

MAX_FRAMES = 48
BATCH = 16


@dataclass(frozen=True, kw_only=True)
class ClipModel:
    """Both towers of a CLIP model with their preprocessing; embeddings are unit vectors."""

    model: Any
    processor: Any
    tokenizer: Any

    @classmethod
    def from_folder(cls, folder: Path, device: str = "cpu") -> Self:
        """From a folder that transformers reads.

        Raises:
            WeightsError: It is not a whole CLIP model.
        """
        return cls(
            model=load_model("CLIPModel", folder, device),
            # Pillow's resizing: with an antialiasing filter, and the same with and without torchvision.
            processor=load_part(["CLIPImageProcessorPil", "CLIPImageProcessor"], folder),
            tokenizer=load_part(["AutoTokenizer"], folder),
        )

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
            parts.append(F.normalize(found.pooler_output.float(), dim=-1).cpu())
        return torch.cat(parts)

    @torch.inference_mode()
    def embed_text(self, text: str) -> tuple[Tensor, bool]:
        """Unit vector ``(D,)`` of a text, and whether the end of the text was cut off."""
        length = len(self.tokenizer(text, verbose=False)["input_ids"])
        tokens = self.tokenizer(
            text, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        found = self.model.get_text_features(
            input_ids=tokens["input_ids"].to(self.model.device),
            attention_mask=tokens["attention_mask"].to(self.model.device),
        )
        embedding = F.normalize(found.pooler_output[0].float(), dim=-1)
        return embedding.cpu(), length > self.max_tokens


def evenly(count: int, most: int) -> np.ndarray:
    """Indices of all of ``count`` frames, or of ``most`` of them: the middles of equal parts."""
    if count <= most:
        return np.arange(count)
    return (2 * np.arange(most) + 1) * count // (2 * most)


class ClipScore(WeightedClipMetric):
    """Mean over frames of the cosine of the embeddings of text and frame; at most 48 frames, evenly spaced.

    Fails on: motion and order in time, of which it sees nothing; counts and relations of objects; texts longer than 77
    tokens, of which it reads the beginning (``truncated`` is 1 for them); good models, between which it hardly tells.
    """

    fields: ClassVar = {"clip": Field(better="higher"), "truncated": Field(unit="share")}
    protocol = "48 frames, evenly spaced|the model's own preprocessing in Pillow|mean of cosines"

    def __init__(self, model: ClipModel, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model

    @classmethod
    def from_files(cls, paths: Mapping[str, Path], device: str = "cpu") -> Self:
        """With the folder at ``paths["clip"]``."""
        return cls(ClipModel.from_folder(paths["clip"], device))

    def score(self, item: Item) -> Values:
        """``clip`` and ``truncated``."""
        text, frames = item.require_text(), require_frames(item.clip)
        wanted, truncated = self.model.embed_text(text)
        found = self.model.embed_frames(frames[evenly(len(frames), MAX_FRAMES)])
        return {"clip": float((found @ wanted).mean()), "truncated": float(truncated)}
