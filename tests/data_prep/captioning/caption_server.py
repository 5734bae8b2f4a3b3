"""A server of the OpenAI chat completions protocol in a thread, whose answers a test decides.

It hears: beeps in an ``input_audio`` part are counted from the samples.
"""

import base64
import io
import json
import threading
import time
import wave
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

Question = dict[str, Any]


class ChatServer:
    """Attributes decide what it does; `questions` are the requests it got, canaries included."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.authorisations: list[str | None] = []
        self.deaf = False
        self.replies: list[Callable[[Question], Any]] = []
        self.reply: Callable[[Question], Any] = sensible
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    @property
    def clips(self) -> list[Question]:
        return [question for question in self.questions if not is_canary(question)]

    def __enter__(self) -> "ChatServer":
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, question: Question) -> Any:
        if is_canary(question):
            count = 2 if self.deaf else beeps_heard(question)
            return completion(json.dumps({"beeps": count}))
        return (self.replies.pop(0) if self.replies else self.reply)(question)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.questions.append(question)
                owner.authorisations.append(self.headers.get("Authorization"))
                answer = owner.answer(question)
                try:
                    if callable(answer):
                        answer(self)
                        return
                    status, body, headers = (
                        answer if isinstance(answer, tuple) else (200, answer, {})
                    )
                    data = body if isinstance(body, bytes) else json.dumps(body).encode()
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(data)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the client has gone

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


def is_canary(question: Question) -> bool:
    return "beeps" in json.dumps(question["response_format"])


def parts(question: Question, kind: str) -> list[dict[str, Any]]:
    content = question["messages"][-1]["content"]
    return [part for part in content if part["type"] == kind]


def samples(question: Question) -> np.ndarray:
    (part,) = parts(question, "input_audio")
    assert part["input_audio"]["format"] == "wav"
    with wave.open(io.BytesIO(base64.b64decode(part["input_audio"]["data"]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767


def beeps_heard(question: Question) -> int:
    heard = np.abs(samples(question))
    loud = np.array([block.max() > 0.1 for block in np.array_split(heard, len(heard) // 320)])
    return int(loud[0]) + int(np.count_nonzero(np.diff(loud.astype(int)) == 1))


def completion(text: str | None, finish: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {
        "id": "x", "object": "chat.completion", "created": 0, "model": "m",
        "choices": [choice], "usage": usage,
    }  # fmt: skip


def intervals_of(question: Question) -> list[dict[str, Any]]:
    """The intervals a question lists, as the model reads them."""
    content = question["messages"][1]["content"]
    text = next(part["text"] for part in content if part["type"] == "text")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def written(question: Question, **changes: Any) -> dict[str, Any]:
    """What a sensible model writes for the intervals it was given."""
    intervals = intervals_of(question)
    flashes = [row["id"] for row in intervals if row["kind"] == "motion"]
    events = [
        {
            "interval": row["id"],
            "text": {"onset": "a dry knock", "motion": "a lamp flashes", "shot": "a red wall"}.get(
                row["kind"], f'a woman says calmly: "{row["measured"]}"'
            ),
            "cause": flashes[0] if row["kind"] == "onset" and flashes else None,
            "entity": "lamp" if row["kind"] == "motion" else None,
            "onscreen": False if row["kind"] == "onset" else None,
        }
        for row in intervals
    ]
    answer = {
        "short": "A lamp flashes on a red wall.",
        "medium": "A lamp flashes twice on a red wall. Each time there is a knock.",
        "full": "A plain red wall fills the picture. A lamp on the left flashes twice, with a knock each time.",
        "paraphrases": [
            "On a red wall, a lamp at the left lights up twice and each time something knocks."
        ],
        "absent": ["speech", "music"],
        "events": events,
    }
    return answer | changes


def sensible(question: Question) -> dict[str, Any]:
    return completion(json.dumps(written(question)))


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """Headers, and then a byte now and then, for ever."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)
