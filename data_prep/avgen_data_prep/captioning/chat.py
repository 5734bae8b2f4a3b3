"""A captioner behind an OpenAI-compatible server (vLLM, llama.cpp, Ollama, a hosted one): chat completions."""

import dataclasses
import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import urlsplit

from avgen_data_prep.captioning import canary
from avgen_data_prep.captioning.captioner import (
    CaptionDraft,
    Captioner,
    CaptionerError,
    CaptionRequest,
)
from avgen_data_prep.captioning.completion import Completion, Server, TruncatedError
from avgen_data_prep.captioning.intervals import SOUND_TRACKS
from avgen_data_prep.captioning.prompt import REPAIR, messages, prompt_sha256
from avgen_data_prep.captioning.schema import AnswerError, answer_schema, read_answer
from avgen_data_prep.captioning.template import TemplateCaptioner

_MORE_TOKENS = 4
_PLACES = ("base_url", "api_key_variable", "timeout", "retries", "canary_rounds")


@dataclass(frozen=True, kw_only=True)
class ChatCaptioner(Captioner):
    """Asks a language model for words and links for the measured intervals.

    Before the first clip the model must count beeps (see `canary`), unless ``hears`` is off: then it
    is shown pictures only, is not asked about sounds nor believed to miss any, and
    `TemplateCaptioner` says what they are.

    Attributes:
        model: Name of the model, as its server knows it.
        base_url: Of the server, with ``/v1``.
        api_key_variable: Environment variable that holds the key; local servers need none.
        hears: Send the sound.
        num_frames: Pictures sent at most.
        frame_size: Longer side of a picture in pixels.
        paraphrases: Further wordings of the full text.
        temperature: Of sampling.
        max_tokens: Of an answer; a cut answer is asked for once more with four times as many.
        timeout: Seconds to wait for an answer.
        retries: Further attempts after a failed connection, a timeout, a full queue (429) or a
            server's error (5xx), each after a longer pause.
        canary_rounds: Times that the model must count right; each lets a deaf one pass in a quarter
            of cases.
    """

    version: ClassVar[int] = 2

    model: str
    base_url: str = "http://localhost:8000/v1"
    api_key_variable: str = "OPENAI_API_KEY"
    hears: bool = True
    num_frames: int = 8
    frame_size: int = 512
    paraphrases: int = 2
    temperature: float = 0.3
    max_tokens: int = 4096
    timeout: float = 120.0
    retries: int = 4
    canary_rounds: int = 3

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError(
                f"base_url is {self.base_url!r}; give an address such as http://localhost:8000/v1, "
                "and a key in the environment"
            )
        least = {
            "num_frames": 1,
            "frame_size": 16,
            "paraphrases": 0,
            "max_tokens": 64,
            "retries": 0,
        }
        for name, low in {**least, "canary_rounds": 1}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least {low}")
        if not self.timeout > 0 or not 0 <= self.temperature <= 2:
            raise ValueError(
                f"timeout is {self.timeout} and temperature {self.temperature}; give a timeout above "
                "0 seconds and a temperature from 0 to 2"
            )

    @property
    def name(self) -> str:
        """``chat:`` and the model's name."""
        return f"chat:{self.model}"

    def parameters(self) -> dict[str, Any]:
        """See `Captioner.parameters`."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in _PLACES}

    @property
    def server(self) -> Server:
        """Where the model answers."""
        names = [field.name for field in dataclasses.fields(Server)]
        return Server(**{name: getattr(self, name) for name in names})

    def describe(self, request: CaptionRequest) -> CaptionDraft:
        """See `Captioner.describe`."""
        if self.hears:
            _passed(self)
        asked = request if self.hears else _seen_only(request)
        schema = answer_schema(asked, self.paraphrases)
        question = messages(
            asked,
            paraphrases=self.paraphrases,
            num_frames=self.num_frames,
            frame_size=self.frame_size,
            hears=self.hears,
        )
        draft = replace(
            self._answer(question, schema, seed=_seed(request.id)),
            prompt_sha256=prompt_sha256(question, schema),
        )
        if self.hears:
            return draft
        return replace(draft, absent=()).completed(TemplateCaptioner().describe(request))

    def _answer(
        self, question: list[dict[str, Any]], schema: dict[str, Any], seed: int
    ) -> CaptionDraft:
        """A draft of the schema, after at most one repair."""
        first = self._complete(question, schema, seed)
        try:
            return replace(read_answer(first.text, schema), usage=first.usage)
        except AnswerError as error:
            problem = str(error)
        repair = [*question, {"role": "user", "content": REPAIR.format(problem=problem)}]
        if first.text.strip():
            repair.insert(-1, {"role": "assistant", "content": first.text})
        second = self._complete(repair, schema, seed)
        try:
            return replace(read_answer(second.text, schema), usage=_added(first, second))
        except AnswerError as error:
            raise CaptionerError(
                f"{self.name}: the answer does not fit the schema, nor did the one before it: {error}"
            ) from None

    def _complete(
        self, asked: list[dict[str, Any]], schema: dict[str, Any], seed: int
    ) -> Completion:
        for limit in (self.max_tokens, _MORE_TOKENS * self.max_tokens):
            try:
                return self.server.complete(asked, schema, max_tokens=limit, seed=seed)
            except TruncatedError:
                continue
        raise CaptionerError(
            f"{self.name}: the answer was cut at {_MORE_TOKENS * self.max_tokens} tokens; raise max_tokens"
        )


def _seen_only(request: CaptionRequest) -> CaptionRequest:
    """The request without intervals that are heard."""
    kept = tuple(i for i in request.intervals if i.track not in SOUND_TRACKS)
    return replace(request, intervals=kept)


def _added(first: Completion, second: Completion) -> dict[str, int]:
    return {name: first.usage.get(name, 0) + count for name, count in second.usage.items()}


@lru_cache(maxsize=8)
def _passed(captioner: ChatCaptioner) -> None:
    """Ask once per process: only success is remembered."""
    canary.listen(captioner.server, rounds=captioner.canary_rounds, max_tokens=captioner.max_tokens)


def _seed(clip_id: str) -> int:
    return int(hashlib.sha256(clip_id.encode()).hexdigest()[:7], 16)
