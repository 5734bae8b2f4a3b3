"""CLAP score: does the sound fit the text? (Wu et al. 2023).

Shapes: N windows, S samples, D features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from avgen_eval.metrics.base import Field, Values
from avgen_eval.weighted.base import Item, NotMeasurableError, WeightedClipMetric
from avgen_eval.weighted.pretrained import load_model, load_part
from avgen_eval.weighted.sounds import mono

SHORTEST = 0.1


@dataclass(frozen=True, kw_only=True)
class Clap:
    """Both towers of a CLAP model with their preprocessing; embeddings are unit vectors."""

    model: Any
    extractor: Any
    tokenizer: Any

    @classmethod
    def from_folder(cls, folder: Path, device: str = "cpu") -> Self:
        """From a folder that transformers reads.

        Raises:
            WeightsError: It is not a whole CLAP model.
        """
        return cls(
            model=load_model("ClapModel", folder, device),
            extractor=load_part(["ClapFeatureExtractor"], folder),
            tokenizer=load_part(["AutoTokenizer"], folder),
        )

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
        found = self.model.get_audio_features(**inputs).pooler_output[0].float()
        return F.normalize(found, dim=-1).cpu()

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


class ClapScore(WeightedClipMetric):
    """Cosine of the embeddings of text and sound, from -1 to 1; mean over clips.

    Fails on: comparison of values from different checkpoints (five are in use), which the hash of the weights shows;
    order and timing of events; texts longer than the model reads (``truncated`` is 1 for them); speech content.
    """

    fields: ClassVar = {"clap": Field(better="higher"), "truncated": Field(unit="share")}
    protocol = (
        "mono at the model's rate|consecutive windows as long as the model takes, mean|cosine"
    )

    def __init__(self, model: Clap, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model

    @classmethod
    def from_files(cls, paths: Mapping[str, Path], device: str = "cpu") -> Self:
        """With the folder at ``paths["clap"]``."""
        return cls(Clap.from_folder(paths["clap"], device))

    def score(self, item: Item) -> Values:
        """``clap`` and ``truncated``."""
        text = item.require_text()
        samples = mono(item.clip, self.model.sample_rate)
        if len(samples) < SHORTEST * self.model.sample_rate:
            raise NotMeasurableError(f"the sound is shorter than {SHORTEST} s")
        wanted, truncated = self.model.embed_text(text)
        found = self.model.embed_sound(samples)
        return {"clap": float(wanted @ found), "truncated": float(truncated)}
