"""What a talker clip shows: a face, a voice and the vowels it says."""

from dataclasses import dataclass

import numpy as np

from avgen_data_prep.worlds.base import QUIET_EDGE
from avgen_data_prep.worlds.palette import BACKGROUNDS

FACES = ("yellow", "orange", "pink", "green", "cyan", "blue")
VOICES = {"low": 110.0, "middle": 165.0, "high": 235.0}
CENTRE = (0.5, 0.48)
FACE = (0.34, 0.4)
MOUTH_Y = 0.65
CLOSED = (0.1, 0.012)
ATTACK, RELEASE = 0.05, 0.08
SHORTEST, LONGEST = 0.2, 0.42
SHORTEST_PAUSE = 0.16


@dataclass(frozen=True)
class Vowel:
    """How a vowel looks and sounds.

    Attributes:
        mouth: Half width and half height of the open mouth in picture heights.
        formants: Resonances of the voice in Hz.
        opening: The mouth in words.
    """

    mouth: tuple[float, float]
    formants: tuple[float, float, float]
    opening: str


VOWELS = {
    "aah": Vowel((0.13, 0.12), (730.0, 1090.0, 2440.0), "wide open"),
    "eee": Vowel((0.2, 0.05), (270.0, 2290.0, 3010.0), "wide and flat"),
    "ooh": Vowel((0.065, 0.07), (310.0, 870.0, 2240.0), "small and round"),
    "ehh": Vowel((0.17, 0.085), (560.0, 1820.0, 2500.0), "half open"),
}


@dataclass(frozen=True)
class Word:
    """One vowel from ``start`` to ``end`` seconds."""

    start: float
    end: float
    vowel: str


@dataclass(frozen=True)
class Speech:
    """Everything a clip shows, independent of frame rate and size."""

    face: str
    background: str
    voice: str
    words: tuple[Word, ...]


def draw_speech(rng: np.random.Generator, duration: float) -> Speech:
    """A random speaker who says random vowels with pauses between them."""
    face, background = str(rng.choice(FACES)), str(rng.choice(list(BACKGROUNDS)))
    voice = str(rng.choice(list(VOICES)))
    words: list[Word] = []
    latest = duration - QUIET_EDGE
    start = QUIET_EDGE + rng.uniform(0.0, min(0.25, latest - SHORTEST - QUIET_EDGE + 1e-6))
    while start + SHORTEST <= latest + 1e-3:
        end = min(start + rng.uniform(SHORTEST, LONGEST), latest)
        words.append(Word(float(start), float(end), str(rng.choice(list(VOWELS)))))
        start = end + rng.uniform(SHORTEST_PAUSE, 0.4)
    return Speech(face, background, voice, tuple(words))


def openness(word: Word, times: np.ndarray) -> np.ndarray:
    """How far a word has opened mouth and voice at each time, 0 to 1."""
    rise = np.clip((times - word.start) / ATTACK, 0.0, 1.0)
    fall = np.clip((word.end - times) / RELEASE, 0.0, 1.0)
    return np.sin(0.5 * np.pi * np.minimum(rise, fall)) ** 2
