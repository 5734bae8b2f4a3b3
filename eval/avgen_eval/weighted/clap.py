"""CLAP score: does the sound fit the text? (Wu et al. 2023).

Shapes: N windows, S samples, D features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from avgen_eval.metrics.base import Field, Values
from avgen_eval.weighted.base import Item, WeightedClipMetric
from avgen_eval.weighted.sounds import mono
from avgen_eval.weighted.towers import Towers, unit_vectors

SHORTEST = 0.1


@dataclass(frozen=True, kw_only=True)
class Clap(Towers):
    """Both towers of a CLAP model with their preprocessing; embeddings are unit vectors.

    Attributes:
        extractor: Preprocessing of sounds.
    """

    network = "ClapModel"
    parts: ClassVar = {"extractor": ["ClapFeatureExtractor"], "tokenizer": ["AutoTokenizer"]}
    extractor: Any

    @property
    def sample_rate(self) -> int:
        """Of the sounds it takes."""
        return self.extractor.sampling_rate

    @property
    def max_tokens(self) -> int:
        """Longest text, in tokens; the first positions of its text tower are not used."""
        config = self.model.config.text_config
        usable = config.max_position_embeddings - config.pad_token_id - 1
        return min(usable, self.tokenizer.model_max_length)

    @torch.inference_mode()
    def embed_sound(self, samples: Tensor) -> Tensor:
        """Mean ``(D,)`` of the unit vectors of consecutive windows of ``(S,)``, as long as the model takes (10 s).

        The last window, and a short sound, is repeated to that length by the model's own preprocessing. Longer sounds
        are not given to it whole, as it would cut them at random.
        """
        return F.normalize(
            torch.stack(
                [self._embed(part) for part in samples.split(int(self.extractor.nb_max_samples))]
            ).mean(dim=0),
            dim=-1,
        )

    def _embed(self, samples: Tensor) -> Tensor:
        # One at a time: in a batch without long sounds, a model with fusion marks one at random as long.
        inputs = self.extractor(
            samples.numpy(), sampling_rate=self.sample_rate, return_tensors="pt"
        )
        inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
        return unit_vectors(self.model.get_audio_features(**inputs))[0]


class ClapScore(WeightedClipMetric[Clap]):
    """Cosine of the embeddings of text and sound, from -1 to 1; mean over clips.

    Fails on: comparison of values from different checkpoints (five are in use), which the hash of the weights shows;
    order and timing of events; texts longer than the model reads (``truncated`` is 1 for them); speech content.
    """

    fields: ClassVar = {"clap": Field(better="higher"), "truncated": Field(unit="share")}
    protocol = (
        "mono at the model's rate|consecutive windows as long as the model takes, mean|cosine"
    )

    @classmethod
    def load(cls, paths: Mapping[str, Path], device: str = "cpu") -> Clap:
        """The folder at ``paths["clap"]``."""
        return Clap.from_folder(paths["clap"], device)

    def score(self, item: Item) -> Values:
        """``clap`` and ``truncated``."""
        text = item.require_text()
        samples = mono(item.clip, self.model.sample_rate, SHORTEST)
        wanted, truncated = self.model.embed_text(text)
        found = self.model.embed_sound(samples)
        return {"clap": float(wanted @ found), "truncated": float(truncated)}
