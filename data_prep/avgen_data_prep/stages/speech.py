"""Spoken words with their times, by a Whisper model from a local folder (Radford et al. 2022)."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from jaxtyping import Float32
from numpy import ndarray

from avgen.clock import MICROSECONDS
from avgen.media import resample
from avgen_data_prep import pretrained
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.pipeline.stage import Measure, Row
from avgen_data_prep.pipeline.work import Work

_STEP_US = 20_000
_WORD = pa.struct([("start_us", pa.int64()), ("end_us", pa.int64()), ("text", pa.string())])


@dataclass(frozen=True, kw_only=True)
class Speech(Measure):
    """Words that Whisper hears, greedily decoded, with times from its cross-attention.

    Times are good to about a tenth of a second. Fails on: music and noise, in which it invents words
    (hence `min_speech`), names, several voices at once. One language is assumed for a clip.

    Columns:
        words: List of structs ``start_us``, ``end_us`` (microseconds of the clip, at least 20 ms
            apart, within it) and ``text`` (as written by the model, with punctuation), in order; empty
            where it hears none. Null where nobody listened: no model, no sound, or a
            ``speech_score`` of `min_speech` or less.
        language: Code such as ``en``, found by the model or given; null with ``words``, and for
            models of one language where none is given.

    Attributes:
        model: Folder of a Whisper model that transformers reads, with its processor; None for none.
        language: Of all clips; None lets a multilingual model find it for each.
        min_speech: Clips are listened to above this score.
        device: Where the model runs.
    """

    name: ClassVar[str] = "speech"
    reads: ClassVar[tuple[str, ...]] = ("speech_score",)
    writes: ClassVar[pa.Schema] = pa.schema([("words", pa.list_(_WORD)), ("language", pa.string())])
    model: str | None = None
    language: str | None = None
    min_speech: float = 0.2
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 <= self.min_speech <= 1:
            raise ValueError(f"min_speech is {self.min_speech}; give 0 to 1")

    @property
    def revision(self) -> str:
        """SHA-256 of the model's files."""
        return "" if self.model is None else pretrained.revision(self.model)

    def parameters(self) -> dict[str, Any]:
        """See `Stage.parameters`; the model is told by its contents."""
        name = None if self.model is None else Path(self.model).name
        return {"model": name, "language": self.language, "min_speech": self.min_speech}

    def measure(self, row: Row, work: Work) -> Row:
        """See the columns of the class."""
        if self.model is None or (row["speech_score"] or 0.0) <= self.min_speech:
            return {}
        clip = work.clip(row)
        if clip.waveform is None:
            return {}
        recogniser = _recogniser(self.model, self.device)
        rate = recogniser.feature_extractor.sampling_rate
        mean = clip.waveform.mean(axis=0, keepdims=True)
        wave = resample(mean, clip.sample_rate, rate)[0]
        language = self.language or _language(recogniser, wave)
        found = _transcribed(recogniser, wave, language)
        duration = round(clip.waveform.shape[1] * MICROSECONDS / clip.sample_rate)
        return {"words": words_of(found, duration), "language": language}


def words_of(chunks: list[dict[str, Any]], duration_us: int) -> list[dict[str, Any]]:
    """Words in order, within the clip; missing ends are those of the neighbours."""
    words: list[dict[str, Any]] = []
    before = 0
    for chunk in chunks:
        start, end = chunk["timestamp"]
        first = before if start is None else max(before, round(start * MICROSECONDS))
        last = duration_us if end is None else round(end * MICROSECONDS)
        first = max(0, min(first, duration_us - _STEP_US))
        last = min(max(last, first + _STEP_US), duration_us)
        if chunk["text"].strip():
            words.append({"start_us": first, "end_us": last, "text": chunk["text"].strip()})
        before = first
    return words


@lru_cache(maxsize=1)
def _recogniser(folder: str, device: str) -> Any:
    """The model in a pipeline of transformers, which puts tokens together to words.

    Raises:
        PipelineError: No such model, or one that gives no times.
    """
    model, processor = pretrained.load(
        folder, "WhisperForConditionalGeneration", "WhisperProcessor", device
    )
    if not getattr(model.generation_config, "alignment_heads", None):
        raise PipelineError(
            f"{folder}: generation_config.json names no alignment_heads, without which words have no "
            "times; fetch that file from where the model comes from"
        )
    from transformers import pipeline

    return pipeline(
        "automatic-speech-recognition",
        model=model,
        tokenizer=processor.tokenizer,
        feature_extractor=processor.feature_extractor,
        device=device,
    )


def _language(recogniser: Any, wave: Float32[ndarray, "s"]) -> str | None:
    """Code of the language of the first 30 s; None for a model of one language."""
    import torch

    model = recogniser.model
    if not getattr(model.generation_config, "is_multilingual", False):
        return None
    extractor = recogniser.feature_extractor
    inputs = extractor(wave, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    with torch.inference_mode():
        token = model.detect_language(inputs["input_features"].to(model.device, model.dtype))
    return recogniser.tokenizer.convert_ids_to_tokens(int(token[0])).strip("<|>")


def _transcribed(
    recogniser: Any, wave: Float32[ndarray, "s"], language: str | None
) -> list[dict[str, Any]]:
    """Words as the pipeline of transformers gives them: ``text`` and ``timestamp`` in seconds."""
    known = getattr(recogniser.model.generation_config, "is_multilingual", False)
    task = {"task": "transcribe", "language": language} if known else {}
    heard = {"raw": wave, "sampling_rate": recogniser.feature_extractor.sampling_rate}
    with pretrained.quiet():
        found = recogniser(
            heard,
            return_timestamps="word",
            generate_kwargs={"do_sample": False, "num_beams": 1, **task},
        )
    return found["chunks"]
