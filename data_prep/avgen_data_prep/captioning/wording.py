"""Rules that texts of captions obey: no times, what is absent is said, double quotes are for spoken words."""

import re
import unicodedata
from collections.abc import Iterable

_NOUNS = {
    "sound": r"(?:sounds?|audio)",
    "speech": r"(?:speech|speaking|voices?|dialogue|words|talking|conversation)",
    "music": r"(?:music|musical \w+|soundtrack)",
}
_PHRASES = {
    "sound": r"\b(?:is|are|completely|entirely|totally|wholly) silent\b|\bin silence\b|\ba silent\b",
    "speech": r"\b(?:nobody|no one|no-one|no person) (?:is )?(?:speak|talk|say)",
    "music": r"(?!)",
}
_NUMBER = r"(?:\d+(?:[.,]\d+)?|half a|an?|one|two|three|four|five|six|seven|eight|nine|ten)"
_TIMES = re.compile(
    r"\b\d+:\d\d\b"
    # "1960s" and "in her 30s" are decades and ages.
    r"|\b(?!(?:\d{3,4}|[2-9]0)s\b)\d+(?:[.,]\d+)?\s*(?:ms|s|sec|secs|milliseconds?|seconds?|minutes?|frames?)\b"
    rf"|\b(?:at|after|until|from|for|within|by)\s+(?:about\s+)?{_NUMBER}\s+(?:seconds?|minutes?|frames?)\b"
    r"|\b(?:second|minute|frame|timestamp)\s+\d+",
    re.IGNORECASE,
)
# Thai to Tibetan, Burmese, Khmer, kana and Han: scripts that put no spaces between words.
_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff"
    "\U00020000-\U0003ffff]"
)
_QUOTE = re.compile(r'["“]([^"“”]+)["”]')


def times_in(text: str) -> str | None:
    """The first statement of a time in a text, spoken words aside."""
    found = _TIMES.search(_QUOTE.sub(" ", text))
    return found[0] if found else None


def states_absence(text: str, what: str) -> bool:
    """Whether a text says that there is no ``sound``, ``speech`` or ``music``.

    Understood are "no X", "without X", lists of single words such as "no speech, effects or X", and
    common phrases such as "nobody speaks".
    """
    item = r"(?:\w+(?:,? (?:and|or|nor) (?:no )?|, (?:no )?))*"
    listed = rf"\b(?:no|without(?: any)?|neither) {item}(?:any )?{_NOUNS[what]}\b"
    return bool(re.search(f"{listed}|{_PHRASES[what]}", text, re.IGNORECASE))


def with_absences(text: str, absent: Iterable[str]) -> str:
    """The text, with a sentence for each absence that it does not state."""
    missing = [f"no {what}" for what in absent if not states_absence(text, what)]
    if not missing:
        return text
    sentence = f"There is {' and '.join(missing)}."
    return f"{text} {sentence}" if text else sentence


def quotes(text: str) -> list[str]:
    """What stands in double quotation marks."""
    return [found.strip() for found in _QUOTE.findall(text) if plain(found)]


def plain(text: str) -> str:
    """Words only, in small letters: what counts when a quote is compared with what was heard.

    Each letter of a script without spaces between words counts as a word, however it is spaced.
    """
    letters = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return " ".join(re.findall(r"[\w']+", _UNSPACED.sub(r" \g<0> ", letters)))


def holds(text: str, quote: str) -> bool:
    """Whether all words of a quote occur in a text in its order, nothing between them."""
    return f" {plain(quote)} " in f" {plain(text)} "


def clean(text: str) -> str:
    """The text on one line, without control characters and halves of characters."""
    kept = (
        " " if c.isspace() else c
        for c in text
        if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs")
    )
    return " ".join("".join(kept).split())
