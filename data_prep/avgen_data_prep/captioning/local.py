"""A captioner that runs a model of transformers from a local folder, one question for each interval."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from avgen.clip import Clip
from avgen.media.resample import fit_length, resample
from avgen_data_prep.captioning import measured, wording
from avgen_data_prep.captioning.captioner import (
    CaptionDraft,
    Captioner,
    CaptionerUnavailableError,
    CaptionRequest,
    DraftEvent,
)
from avgen_data_prep.captioning.intervals import SOUND_TRACKS, Interval
from avgen_data_prep.captioning.template import TemplateCaptioner, event_text
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.pretrained import load
from avgen_data_prep.pretrained import revision as folder_revision
from avgen_data_prep.stages.pictures import spread

_QUESTIONS = {
    "short": "Describe this clip in one short sentence.",
    "medium": "Describe this clip in two or three sentences.",
    "full": (
        "Describe this clip so that someone who neither sees nor hears it could stage it: setting, "
        "people, things, light, colours, camera, and what happens in order. State no times."
    ),
}
_SEEN = "Say in one short phrase what happens in these pictures. Measured: {hint}."
_HEARD = "Say in one short phrase what is heard in this recording. Measured: {hint}."


@dataclass(frozen=True, kw_only=True)
class LocalCaptioner(Captioner):
    """Asks a model that reads pictures, sound or both, greedily decoded.

    Whatever the model cannot perceive (sounds, for one that reads pictures only) `TemplateCaptioner`
    says. Spoken words are taken as measured. Links between events are not asked for.

    Attributes:
        folder: What ``save_pretrained`` wrote: model, tokenizer and processor with its chat template.
        device: Where the model runs.
        num_frames: Pictures shown at most for one question.
        max_new_tokens: Of the full text; a quarter of them of an event's.
    """

    folder: str
    device: str = "cpu"
    num_frames: int = 4
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        for name, least in (("num_frames", 1), ("max_new_tokens", 4)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least {least}")
        if not (Path(self.folder) / "config.json").is_file():
            raise ValueError(
                f"folder {self.folder!r} holds no config.json; give what save_pretrained wrote"
            )

    @property
    def name(self) -> str:
        """``local:`` and the folder's name."""
        return f"local:{Path(self.folder).name}"

    @property
    def revision(self) -> str:
        """SHA-256 of the folder's files."""
        return folder_revision(self.folder)

    def parameters(self) -> dict[str, Any]:
        """See `Captioner.parameters`."""
        fields = dataclasses.asdict(self)
        return {name: fields[name] for name in ("num_frames", "max_new_tokens")}

    def describe(self, request: CaptionRequest) -> CaptionDraft:
        """See `Captioner.describe`."""
        fallback = TemplateCaptioner(paraphrases=0).describe(request)
        whole = (0, request.duration_us)
        texts: dict[str, Any] = {
            name: self._ask(question, request.clip, whole, self._senses(), self.max_new_tokens)
            or getattr(fallback, name)
            for name, question in _QUESTIONS.items()
        }
        events = tuple(self._event(interval, request.clip) for interval in request.intervals)
        asked = str([_QUESTIONS, _SEEN, _HEARD, [i.hint for i in request.intervals]])
        digest = hashlib.sha256(asked.encode()).hexdigest()
        return CaptionDraft(events=events, absent=request.absent(), prompt_sha256=digest, **texts)

    def _event(self, interval: Interval, clip: Clip) -> DraftEvent:
        heard = interval.track in SOUND_TRACKS
        text, sense = "", "sound" if heard else "picture"
        if interval.kind != "words" and sense in self._senses():
            question = (_HEARD if heard else _SEEN).format(hint=interval.hint)
            span = (interval.start_us, interval.end_us)
            text = self._ask(question, clip, span, {sense}, max(1, self.max_new_tokens // 4))
        return DraftEvent(interval=interval.id, text=text or event_text(interval))

    def _senses(self) -> set[str]:
        processor, _ = _load(self.folder, self.device)
        parts_of = {"picture": "image_processor", "sound": "feature_extractor"}
        return {
            sense for sense, part in parts_of.items() if getattr(processor, part, None) is not None
        }

    def _ask(
        self, question: str, clip: Clip, span: tuple[int, int], senses: set[str], limit: int
    ) -> str:
        """The model's answer on one line; empty where there is nothing to perceive or it says nothing."""
        processor, model = _load(self.folder, self.device)
        media = self._media(processor, clip, span, senses)
        if not media:
            return ""
        chat = [{"role": "user", "content": [*media, {"type": "text", "text": question}]}]
        inputs = processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self.device)
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=limit, do_sample=False, num_beams=1)
        answer = tokens[0, inputs["input_ids"].shape[1] :]
        return wording.clean(processor.decode(answer, skip_special_tokens=True))

    def _media(
        self, processor: Any, clip: Clip, span: tuple[int, int], senses: set[str]
    ) -> list[dict[str, Any]]:
        """Parts of a chat: pictures as channels-first arrays, sound as mono at the model's rate."""
        found: list[dict[str, Any]] = []
        frames = measured.pictures(clip, *span) if "picture" in senses else None
        if frames is not None:
            shown = frames[spread(len(frames), self.num_frames)]
            found += [{"type": "image", "image": frame.transpose(2, 0, 1)} for frame in shown]
        waveform = measured.span(clip, *span) if "sound" in senses else None
        if waveform is not None:
            rate = processor.feature_extractor.sampling_rate
            mono = resample(waveform.mean(axis=0, keepdims=True), clip.sample_rate, rate)[0]
            # Models that hear need more than the 40 ms of a click; silence after it adds nothing untrue.
            padded = fit_length(mono[None], max(mono.size, rate))[0]
            found.append({"type": "audio", "audio": padded.astype("float32")})
        return found


def _load(folder: str, device: str) -> tuple[Any, Any]:
    """The processor and the model of a folder.

    Raises:
        CaptionerUnavailableError: transformers is not installed, or the folder holds no such model.
    """
    try:
        model, processor = load(folder, "AutoModelForMultimodalLM", "AutoProcessor", device)
    except PipelineError as error:
        raise CaptionerUnavailableError(str(error)) from None
    if not getattr(processor, "chat_template", None):
        raise CaptionerUnavailableError(
            f"{folder}: its processor has no chat template; add the model's chat_template.jinja"
        )
    return processor, model
