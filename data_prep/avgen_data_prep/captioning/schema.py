"""The JSON schema of a language model's answer: words and links for the intervals it was given, no times."""

import json
from typing import Any

from avgen_data_prep.captioning import wording
from avgen_data_prep.captioning.captioner import (
    ABSENCES,
    CaptionDraft,
    CaptionerUnavailableError,
    CaptionRequest,
)

_MOST_PROBLEMS = 8
MOST_CHARACTERS = 8_000


class AnswerError(ValueError):
    """An answer that does not fit the schema; the message lists what is wrong."""


def answer_schema(request: CaptionRequest, paraphrases: int) -> dict[str, Any]:
    """What an answer about a clip must look like. Intervals can be named only if they were given."""
    names = [interval.id for interval in request.intervals]
    text = {"type": "string"}
    event = {
        "interval": {"type": "string", "enum": names},
        "text": text,
        "cause": {"anyOf": [{"type": "string", "enum": names}, {"type": "null"}]},
        "entity": {"type": ["string", "null"]},
        "onscreen": {"type": ["boolean", "null"]},
    }
    return _object(
        {
            "short": text,
            "medium": text,
            "full": text,
            "paraphrases": {"type": "array", "items": text, "maxItems": paraphrases},
            "absent": {"type": "array", "items": {"type": "string", "enum": list(ABSENCES)}},
            "events": {
                "type": "array",
                "items": _object(event) if names else text,
                "maxItems": len(names),
            },
        }
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def read_answer(answer: str, schema: dict[str, Any]) -> CaptionDraft:
    """The draft that an answer holds.

    Raises:
        AnswerError: Not JSON, not of the schema, two events for an interval, or no text.
        CaptionerUnavailableError: jsonschema is not installed.
    """
    data = parse_answer(answer, schema)
    draft = CaptionDraft.from_dict(_cleaned(data))
    told = [event.interval for event in draft.events]
    problems = [f"two events for {name}" for name in sorted(set(told)) if told.count(name) > 1]
    problems += [f"no text for {event.interval}" for event in draft.events if not event.text]
    texts = {name: getattr(draft, name) for name in ("short", "medium", "full")}
    texts |= {f"the text of {event.interval}": event.text for event in draft.events}
    texts |= {f"paraphrase {n}": text for n, text in enumerate(draft.paraphrases)}
    problems += [
        f"{name} has {len(text)} characters, above {MOST_CHARACTERS}"
        for name, text in texts.items()
        if len(text) > MOST_CHARACTERS
    ]
    problems += [
        f"{name} is empty" for name in ("short", "medium", "full") if not getattr(draft, name)
    ]
    if problems:
        raise AnswerError("; ".join(problems[:_MOST_PROBLEMS]))
    return draft


def parse_answer(answer: str, schema: dict[str, Any]) -> Any:
    """The JSON of an answer, if it fits a schema.

    Raises:
        AnswerError: It does not.
        CaptionerUnavailableError: jsonschema is not installed.
    """
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        raise CaptionerUnavailableError(
            "jsonschema is not installed; pip install 'avgen[captions]'"
        ) from None
    try:
        data = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"not JSON: {error}") from None
    found = sorted(Draft202012Validator(schema).iter_errors(data), key=lambda e: str(e.json_path))
    if found:
        told = [f"{error.json_path}: {error.message:.160}" for error in found[:_MOST_PROBLEMS]]
        raise AnswerError("; ".join(told))
    return data


def _cleaned(value: Any) -> Any:
    """The same with all strings on one line and without control characters."""
    if isinstance(value, str):
        return wording.clean(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {name: _cleaned(item) for name, item in value.items()}
    return value
