"""KL and IS: what classifiers of AudioSet hear, in pairs and over a set.

The classifiers are PaSST (Koutini et al. 2022) and PANNs (Kong et al. 2020), exported with their spectrograms.
Shapes: B clips, S samples, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from avgen.clip import Clip
from avgen_eval.metrics.base import Field, Values
from avgen_eval.weighted.base import (
    Item,
    NotMeasurableError,
    WeightedClipMetric,
    WeightedMetric,
    WeightedSetMetric,
)
from avgen_eval.weighted.exported import ExportedModel, Signature, TensorSpec
from avgen_eval.weighted.sounds import fitted, mono

CLASSES, SPLITS = 527, 10
LONGEST, SHORTEST, FLOOR = 10, 0.5, 1e-6
PASST_RATE, PANNS_RATE = 32_000, 16_000
HEARD = "first 10 s|PaSST 32 kHz padded with silence, PANNs 16 kHz as long as it is"
_LOGITS = (TensorSpec("logits", ("B", CLASSES)),)
PASST_SIGNATURE = Signature(
    inputs=(TensorSpec("waveform", ("B", LONGEST * PASST_RATE)),), outputs=_LOGITS
)
PANNS_SIGNATURE = Signature(
    inputs=(TensorSpec("waveform", ("B", "S")),),
    outputs=_LOGITS,
    trials=({"B": 2, "S": LONGEST * PANNS_RATE}, {"B": 1, "S": 4 * PANNS_RATE}),
)


@dataclass(frozen=True, kw_only=True)
class Tagger:
    """A classifier of sounds.

    Attributes:
        model: From waveforms to logits of the 527 classes, before any sigmoid.
        sample_rate: Of its input.
        padded: It takes exactly 10 s: shorter sounds are followed by silence.
    """

    model: ExportedModel
    sample_rate: int
    padded: bool

    @classmethod
    def from_files(cls, paths: Mapping[str, Path], device: str = "cpu") -> Self:
        """PaSST at ``paths["passt"]``, or PANNs (Cnn14 at 16 kHz) at ``paths["panns"]``."""
        if "passt" in paths:
            model = ExportedModel(paths["passt"], PASST_SIGNATURE, device)
            return cls(model=model, sample_rate=PASST_RATE, padded=True)
        model = ExportedModel(paths["panns"], PANNS_SIGNATURE, device)
        return cls(model=model, sample_rate=PANNS_RATE, padded=False)

    def logits(self, clip: Clip) -> Tensor:
        """Of the first 10 s of the sound, ``(1, 527)``.

        Raises:
            NotMeasurableError: There is no sound, or less than 0.5 s of it.
        """
        samples = mono(clip, self.sample_rate, SHORTEST)
        longest = LONGEST * self.sample_rate
        samples = fitted(samples, longest) if self.padded else samples[:longest]
        return self.model(waveform=samples[None])["logits"]


def kl_divergence(generated: Tensor, reference: Tensor) -> float:
    """``sum_k p(k) (log p(k) - log(q(k) + 1e-6))`` of logits ``(K,)``: p of the reference, q of the generated clip.

    The floor is the one of published code; it bounds the value near 14 and changes it little elsewhere (it can even be
    slightly negative). Softmax, although the classes of AudioSet do not exclude each other.
    """
    p = torch.log_softmax(reference.double(), dim=-1)
    q = torch.log(torch.softmax(generated.double(), dim=-1) + FLOOR)
    return float((p.exp() * (p - q)).sum())


class TaggingMetric(WeightedMetric[Tagger]):
    """What both metrics share."""

    @classmethod
    def load(cls, paths: Mapping[str, Path], device: str = "cpu") -> Tagger:
        """Either classifier."""
        return Tagger.from_files(paths, device)


class TaggingKl(TaggingMetric, WeightedClipMetric[Tagger]):
    """Kullback-Leibler divergence of the classes of the reference sound from those of the generated one.

    Softmax over the 527 classes, see `kl_divergence`; the mean over clips is what papers call KL or MKL.

    Fails on: prompts that allow many sounds, of which the reference is one; timing and quality, of which it knows
    nothing; sounds that overlap, between which softmax has to choose.
    """

    fields: ClassVar = {"kl": Field(unit="nat", better="lower")}
    protocol = f"{HEARD}|softmax, floor 1e-6"

    def score(self, item: Item) -> Values:
        """``kl``."""
        reference = self.model.logits(item.require_reference())
        return {"kl": kl_divergence(self.model.logits(item.clip)[0], reference[0])}


class TaggingIs(TaggingMetric, WeightedSetMetric[Tagger]):
    """Inception score of sounds: sure about each clip, varied over all; 10 splits.

    Fails on: sets below some thousands of clips, whose score grows with the size of a split; unreal sounds of which the
    classifier is sure. It needs no reference, and so does not notice that everything is off the prompt.
    """

    fields: ClassVar = {"is_mean": Field(better="higher"), "is_std": Field()}
    protocol = f"{HEARD}|10 splits, shuffled"

    def update(self, item: Item) -> None:
        """Add a clip; its reference plays no part."""
        self.num_measured += self._add(item.clip, self.vectors)

    def describe(self, clip: Clip) -> Tensor:
        """Logits ``(1, 527)``."""
        return self.model.logits(clip)

    def compare(self, vectors: Tensor, references: Tensor) -> Mapping[str, float]:
        """``is_mean`` and ``is_std`` over the splits."""
        from avgen_eval.metrics.inception import inception_score

        if len(vectors) < SPLITS:
            raise NotMeasurableError(f"{len(vectors)} clips do not make {SPLITS} splits")
        mean, deviation = inception_score(vectors, SPLITS)
        return {"is_mean": mean, "is_std": deviation}
