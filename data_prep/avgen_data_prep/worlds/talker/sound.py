"""Sound of the talker world: vowels by formant synthesis.

A voice is a sum of harmonics of its pitch, weighted by the resonances (formants) of the vocal
tract as in a cascade formant synthesiser (Klatt 1980); one period is computed, then repeated.
"""

import numpy as np

from avgen_data_prep.worlds.base import Stage
from avgen_data_prep.worlds.synthesis import mix_into
from avgen_data_prep.worlds.talker.scene import VOICES, VOWELS, Speech, Word, openness

TABLE = 512
HIGHEST = 5_000.0
BANDWIDTHS = (70.0, 100.0, 140.0)
TILT = 1.2
GLIDE = 0.06
LEVEL = 0.45


def resonance(frequencies: np.ndarray, centre: float, bandwidth: float) -> np.ndarray:
    """Gain of a second-order resonator, 1 at zero frequency."""
    detune = 1.0 - (frequencies / centre) ** 2
    return 1.0 / np.sqrt(detune**2 + (bandwidth * frequencies / centre**2) ** 2)


def period(vowel: str, pitch: float, sample_rate: int) -> np.ndarray:
    """One period of a vowel at a pitch in Hz, ``(TABLE,)``, with a peak of 1."""
    num_harmonics = int(min(HIGHEST, 0.45 * sample_rate) / pitch)
    number = np.arange(1, min(num_harmonics, TABLE // 2 - 1) + 1)
    gains = number**-TILT
    for centre, bandwidth in zip(VOWELS[vowel].formants, BANDWIDTHS, strict=True):
        gains = gains * resonance(number * pitch, centre, bandwidth)
    spectrum = np.zeros(TABLE // 2 + 1, dtype=complex)
    spectrum[number] = -1j * gains * np.exp(1j * number**2 * 0.07)
    table = np.fft.irfft(spectrum)
    return (table / np.abs(table).max()).astype(np.float32)


def speak(word: Word, pitch: float, sample_rate: int, times: np.ndarray) -> np.ndarray:
    """A word at each of ``times`` seconds after its start; the pitch falls a little."""
    length = word.end - word.start
    cycles = pitch * (times - 0.5 * GLIDE * times**2 / length)
    table = period(word.vowel, pitch, sample_rate)
    index = (cycles % 1.0) * TABLE
    low = index.astype(int) % TABLE
    share = (index - np.floor(index)).astype(np.float32)
    wave = table[low] + share * (table[(low + 1) % TABLE] - table[low])
    return LEVEL * wave * openness(word, word.start + times).astype(np.float32)


def play_speech(speech: Speech, stage: Stage) -> np.ndarray:
    """Waveform ``(S,)`` of all words."""
    waveform = np.zeros(stage.num_samples, dtype=np.float32)
    pitch = VOICES[speech.voice]
    for word in speech.words:

        def voice(times: np.ndarray, word: Word = word) -> np.ndarray:
            return speak(word, pitch, stage.sample_rate, times)

        mix_into(waveform, stage.sample_rate, word.start, word.end - word.start, voice)
    return waveform
