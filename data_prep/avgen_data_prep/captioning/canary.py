"""Does the model hear? Servers drop sound in silence: before a run the model must count beeps."""

import secrets

import numpy as np

from avgen_data_prep.captioning import parts
from avgen_data_prep.captioning.captioner import CaptionerError, CaptionerUnavailableError
from avgen_data_prep.captioning.completion import Server, TruncatedError
from avgen_data_prep.captioning.schema import AnswerError, parse_answer

MOST_BEEPS = 4
_QUESTION = 'How many beeps are in this recording? Answer with a JSON object such as {"beeps": 0}.'
_SCHEMA = {
    "type": "object",
    "properties": {"beeps": {"type": "integer"}},
    "required": ["beeps"],
    "additionalProperties": False,
}


def listen(server: Server, *, rounds: int, max_tokens: int) -> None:
    """Have a model count beeps, a number of them drawn anew each time.

    Raises:
        CaptionerUnavailableError: It counts wrong, or gives no answer at all.
    """
    for _ in range(rounds):
        played = 1 + secrets.randbelow(MOST_BEEPS)
        try:
            answered = _ask(server, played, max_tokens)
        except CaptionerError as error:
            raise CaptionerUnavailableError(
                f"the model was asked to count beeps: {error}"
            ) from None
        if answered != str(played):
            raise CaptionerUnavailableError(
                f"the model does not hear the sound: {played} beeps were played to {server.model} and "
                f"it answered {answered:.60}; serve a model that takes input_audio parts, or set "
                "hears: false to have it describe pictures only"
            )


def _ask(server: Server, played: int, max_tokens: int) -> str:
    content = [
        {"type": "text", "text": _QUESTION},
        parts.sound_part(beeps(played), parts.SOUND_RATE),
    ]
    asked = [{"role": "user", "content": content}]
    try:
        answer = server.complete(asked, _SCHEMA, max_tokens=max_tokens, seed=played).text
    except TruncatedError as error:
        return str(error)
    try:
        return str(parse_answer(answer, _SCHEMA)["beeps"])
    except AnswerError:
        return repr(answer)


def beeps(count: int) -> np.ndarray:
    """A waveform ``(1, S)`` at 16 kHz with ``count`` tones of 0.2 s, each followed by 0.4 s of silence."""
    rate = parts.SOUND_RATE
    time = np.arange(round(0.2 * rate)) / rate
    tone = 0.4 * np.sin(2 * np.pi * 880 * time) * np.minimum(1, np.minimum(time, 0.2 - time) / 0.01)
    gap = np.zeros(round(0.4 * rate))
    return np.concatenate([gap, *([tone, gap] * count)])[None].astype(np.float32)
