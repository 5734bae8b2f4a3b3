"""Words for captions: the same scene said in several ways."""

from collections.abc import Sequence

NUMBER_WORDS = {1: "one", 2: "two", 3: "three", 4: "four"}
TEXT_LIMIT = 220
EVENT_LIMIT = 48


def place(x: float, y: float) -> str:
    """A coarse position, such as ``upper left``; x and y from 0 to 1."""
    row = "upper" if y < 0.28 else "middle" if y < 0.46 else "lower"
    column = "left" if x < 0.36 else "right" if x > 0.64 else "centre"
    return f"{row} {column}"


def percent(x: float, y: float) -> str:
    """Coordinates in per cent, to the nearest five: ``30,15``."""
    return f"{5 * round(20 * x)},{5 * round(20 * y)}"


def article(words: str) -> str:
    """The words with ``a`` or ``an`` before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def sentence(text: str) -> str:
    """The text with a capital first letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def listing(items: Sequence[str]) -> str:
    """Items joined by commas and a final ``and``."""
    if len(items) == 1:
        return items[0]
    return f"{', '.join(items[:-1])} and {items[-1]}"
