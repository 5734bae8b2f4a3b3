"""One chat completion of an OpenAI-compatible server, bounded in time, size and attempts."""

import json
import os
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from avgen_data_prep.captioning.captioner import CaptionerError, CaptionerUnavailableError

_MOST_BYTES = 8 << 20
_SCHEMA_NAME = "answer"
# These find fault with what was asked; any other failure meets whatever is asked next, too.
_OF_THE_REQUEST = (400, 413, 422)
_AGAIN = "then run again: what is done is kept"


class TruncatedError(ValueError):
    """The answer ended because it reached the limit of tokens."""


@dataclass(frozen=True)
class Completion:
    """A model's answer.

    Attributes:
        text: Its contents; empty where the model gave none.
        usage: Tokens by kind.
    """

    text: str
    usage: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where a model answers and how long to wait; see `ChatCaptioner` for the fields."""

    model: str
    base_url: str
    api_key_variable: str
    temperature: float
    timeout: float
    retries: int

    def complete(
        self, asked: list[dict[str, Any]], schema: dict[str, Any], *, max_tokens: int, seed: int
    ) -> Completion:
        """The answer to messages, constrained by a JSON schema where the server can.

        Raises:
            TruncatedError: The answer reached ``max_tokens``.
            CaptionerError: The server finds fault with this question (status 400, 413 or 422), or took
                too long although it has answered another in this process.
            CaptionerUnavailableError: It cannot be reached, answers with any other failure, or took too
                long for its first answer; or the client is not installed.
        """
        openai = _library()
        shape = {"name": _SCHEMA_NAME, "strict": True, "schema": schema}
        question: dict[str, Any] = {
            "model": self.model,
            "messages": asked,
            "response_format": {"type": "json_schema", "json_schema": shape},
            "max_tokens": max_tokens,
            "temperature": self.temperature,
            "seed": seed,
        }
        try:
            body = self._body(question)
        except openai.APITimeoutError as error:
            if isinstance(error.__cause__, _transport().ConnectTimeout):
                raise self._unreachable(error) from None
            raise self._late(f", {self.retries + 1} times" if self.retries else "") from None
        except openai.APIConnectionError as error:
            raise self._unreachable(error) from None
        except openai.APIStatusError as error:
            raise self._refused(error) from None
        _ANSWERED.add(self)
        return _read(body)

    def _body(self, question: dict[str, Any]) -> bytes:
        """The bytes of a response. Some servers send a byte now and then for ever: all of it has a limit."""
        transport = _transport()
        client = _client(self.base_url, self.api_key_variable, self.timeout, self.retries)
        body = bytearray()
        with client.chat.completions.with_streaming_response.create(**question) as response:
            end = time.monotonic() + self.timeout
            try:
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() > end:
                        raise self._late()
                    if len(body) > _MOST_BYTES:
                        raise CaptionerError(
                            f"{self.model}: the answer is longer than {_MOST_BYTES >> 20} MiB"
                        )
            except transport.TimeoutException:
                raise self._late() from None
            except transport.TransportError as error:
                raise CaptionerUnavailableError(
                    f"{self._place}: the answer broke off ({error}); see that the server runs, {_AGAIN}"
                ) from None
        return bytes(body)

    @property
    def _place(self) -> str:
        return f"{self.model} at {self.base_url}"

    def _late(self, tried: str = "") -> ValueError:
        """Of this clip where the server has answered before; else nothing shows that it ever does."""
        problem = f"no whole answer within {self.timeout:g} s{tried}"
        if self in _ANSWERED:
            return CaptionerError(f"{self.model}: {problem}; raise timeout")
        return CaptionerUnavailableError(
            f"{self._place}: {problem}, nor any before; see that the server runs, or raise timeout, {_AGAIN}"
        )

    def _unreachable(self, error: Any) -> CaptionerUnavailableError:
        return CaptionerUnavailableError(
            f"{self._place} cannot be reached ({error.__cause__ or error}); start the server or change "
            f"base_url, {_AGAIN}"
        )

    def _refused(self, error: Any) -> ValueError:
        """What a failure status says: of the request, or of the server whatever it is asked."""
        status, said = error.status_code, _said(error)
        if status in _OF_THE_REQUEST:
            return CaptionerError(
                f"{self.model}: the server refuses the question with status {status} ({said})"
            )
        tried = f"after {self.retries} further attempts"
        if status == 429:
            told = f"accepts no more requests, {tried} ({said}); use fewer workers, or wait"
        elif status >= 500:
            told = f"failed with status {status}, {tried} ({said}); see what the server's log says"
        else:
            told = (
                f"refuses with status {status}: {said}; check model, base_url and the key in the "
                f"environment variable {self.api_key_variable}"
            )
        return CaptionerUnavailableError(f"{self._place} {told}, {_AGAIN}")


# Servers that have given a whole answer to this process.
_ANSWERED: set[Server] = set()


def _library() -> Any:
    try:
        import openai
    except ImportError:
        raise CaptionerUnavailableError(
            "openai is not installed; pip install 'avgen[captions]'"
        ) from None
    return openai


def _transport() -> Any:
    """What the client sends by."""
    import httpx2

    return httpx2


@lru_cache(maxsize=8)
def _client(base_url: str, api_key_variable: str, timeout: float, retries: int) -> Any:
    key = os.environ.get(api_key_variable) or "none"
    return _library().OpenAI(base_url=base_url, api_key=key, timeout=timeout, max_retries=retries)


def _read(body: bytes) -> Completion:
    """What a response of the protocol says.

    Raises:
        TruncatedError: The answer reached the limit of tokens.
        CaptionerError: Not a response of the protocol.
    """
    try:
        data = json.loads(body)
        choice = data["choices"][0]
        text, reason = choice["message"].get("content"), choice.get("finish_reason")
        usage = data.get("usage") or {}
        counts = {k: int(v) for k, v in usage.items() if k.endswith("_tokens") and v is not None}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CaptionerError(
            f"the server's response is not a chat completion ({error!r:.80}): {body[:80]!r}"
        ) from None
    if reason == "length":
        raise TruncatedError("the answer reached the limit of tokens")
    return Completion(text if isinstance(text, str) else "", counts)


def _said(error: Any) -> str:
    """The first line of what a server says is wrong."""
    body = error.body if isinstance(error.body, dict) else {}
    told = body.get("message") or (str(error).splitlines() or ["no message"])[0]
    return f"{told!s:.200}"
