"""Word error rate: is what should be said there to be heard? Speech is read by Whisper (Radford et al. 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics.functional.text import char_error_rate, word_error_rate

from avgen_eval.metrics.base import Field, Values
from avgen_eval.weighted.base import Item, NotMeasurableError, WeightedClipMetric
from avgen_eval.weighted.pretrained import Pretrained
from avgen_eval.weighted.sounds import mono

SHORTEST = 0.1


@dataclass(frozen=True, kw_only=True)
class Whisper(Pretrained):
    """A Whisper model that transcribes greedily, without sampling, and so the same every time.

    Attributes:
        processor: Its tokenizer and preprocessing.
    """

    network = "WhisperForConditionalGeneration"
    parts: ClassVar = {"processor": ["WhisperProcessor"]}
    processor: Any

    @property
    def sample_rate(self) -> int:
        """Of the sounds it takes."""
        return self.processor.feature_extractor.sampling_rate

    @property
    def longest(self) -> int:
        """Seconds that it takes at once."""
        return self.processor.feature_extractor.chunk_length

    @torch.inference_mode()
    def transcribe(self, samples: Tensor, language: str | None = None) -> str:
        """Text of mono samples ``(S,)``.

        Args:
            samples: At ``sample_rate``, at most ``longest`` seconds.
            language: Such as ``en``; found out by the model if None. A model of one language ignores it.
        """
        inputs = self.processor(
            samples.numpy(),
            sampling_rate=self.sample_rate,
            return_tensors="pt",
            return_attention_mask=True,
        )
        known = getattr(self.model.generation_config, "is_multilingual", False)
        task = {"task": "transcribe", "language": language} if known else {}
        tokens = self.model.generate(
            inputs["input_features"].to(self.model.device, self.model.dtype),
            attention_mask=inputs["attention_mask"].to(self.model.device),
            do_sample=False,
            num_beams=1,
            **task,
        )
        return self.processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()


def plain_words(text: str) -> str:
    """Lower case, without punctuation, symbols and text in brackets, single spaces: Whisper's basic normaliser."""
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    return " ".join(BasicTextNormalizer()(text).split())


class SpeechErrorRate(WeightedClipMetric[Whisper]):
    """Word and character error rate of what Whisper hears against the transcript.

    ``(substitutions + deletions + insertions) / words of the transcript``, after both are put in lower case without
    punctuation; above 1 where more is heard than should be said. ``wer`` and ``cer`` are means over clips;
    ``wer_pooled`` divides the errors of all clips by the words of all, so that long transcripts count more.

    Fails on: languages written without spaces (read ``cer``); spellings of numbers and names; music and noise, in which
    Whisper invents words; speech that it understands better than people do. Sounds longer than 30 s are not measured.
    """

    fields: ClassVar = {
        "wer": Field(unit="share", better="lower"),
        "cer": Field(unit="share", better="lower"),
        "wer_pooled": Field(unit="share", better="lower"),
    }
    protocol = "16 kHz mono|greedy, no timestamps|basic normaliser|not capped"

    def __init__(self, model: Whisper, **kwargs: Any) -> None:
        super().__init__(model, **kwargs)
        self.errors: Tensor
        self.words: Tensor
        for name in ("errors", "words"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @classmethod
    def load(cls, paths: Mapping[str, Path], device: str = "cpu") -> Whisper:
        """The folder at ``paths["whisper"]``."""
        return Whisper.from_folder(paths["whisper"], device)

    def score(self, item: Item) -> Values:
        """``wer`` and ``cer``; ``wer_pooled`` is no value of one clip."""
        wanted = plain_words(item.require_transcript())
        if not wanted:
            raise NotMeasurableError("the transcript has no words")
        samples = mono(item.clip, self.model.sample_rate, SHORTEST)
        seconds = len(samples) / self.model.sample_rate
        if seconds > self.model.longest:
            raise NotMeasurableError(
                f"the sound lasts {seconds:g} s; Whisper takes at most {self.model.longest} s"
            )
        caption = item.clip.caption
        heard = plain_words(self.model.transcribe(samples, caption.language if caption else None))
        rate = float(word_error_rate(heard, wanted))
        words = len(wanted.split())
        self.errors += round(rate * words)
        self.words += words
        return {
            "wer": rate,
            "cer": float(char_error_rate(heard, wanted)),
            "wer_pooled": None,
        }

    def compute(self) -> dict[str, Tensor]:
        """Means by name; ``wer_pooled`` from the sums."""
        return {**super().compute(), "wer_pooled": self.errors / self.words}
