"""Films of procedural worlds, each a function of its number: what is shot, how it is cut and coded."""

import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile

from avgen import media
from avgen.clip import Clip
from avgen_data_prep.proof.editing import Source, edit
from avgen_data_prep.worlds import WORLDS, WorldExample

SPEAKER = "espeak-ng"
# Container, codec of the picture, codec of the sound.
FORMATS = (
    ("mp4", "libx264", "aac"),
    ("mp4", "libx265", "aac"),
    ("webm", "libvpx-vp9", "libopus"),
    ("webm", "libsvtav1", "libopus"),
    ("mp4", "libsvtav1", "aac"),
    ("mkv", "libx264", "flac"),
    ("mov", "libx264", "pcm_s16le"),
    ("ts", "libx264", "aac"),
    ("avi", "mpeg4", "pcm_s16le"),
)
_SEED = 20_260_101
_FPS = (Fraction(24), Fraction(25), Fraction(30), Fraction(30_000, 1001))
_SIZES, _SIZE_SHARES = (64, 96, 128), (0.6, 0.25, 0.15)
_WORLD_SHARES = {"bounce": 0.35, "drums": 0.3, "talker": 0.2, "engine": 0.15}
_SHOT_SECONDS = (0.8, 8.0)
_SAMPLE_RATE = 48_000
_VOICES = ("en-us", "en-gb", "de", "fr-fr", "es")
_SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "Now the wheel turns faster, and the sound follows it.",
    "Please keep your hands inside the boat.",
    "Tomorrow it will rain in the north, and be fair in the south.",
)
_HEARD_LEVEL = 0.02


@dataclass(frozen=True, kw_only=True)
class Film:
    """What a film is made of.

    Attributes:
        name: Of the file.
        shots: World, seed and seconds of each shot.
        voices: Shots, by number, whose sound is a voice that reads one of the sentences.
        fps: Pictures per second before any are left out.
        size: Pixels of its sides.
        edits: Arguments of `edit`.
    """

    name: str
    shots: tuple[tuple[str, int, float], ...]
    voices: dict[int, int]
    fps: Fraction
    size: int
    edits: dict[str, Any]

    def write(self, folder: Path) -> Source:
        """Render, cut together and encode it."""
        examples = [self._shot(index) for index in range(len(self.shots))]
        return edit(folder / self.name, examples, **self.edits)

    def _shot(self, index: int) -> WorldExample:
        world, seed, seconds = self.shots[index]
        grid = {"fps": self.fps, "size": self.size, "sample_rate": _SAMPLE_RATE}
        example = WORLDS[world].render(seed, duration=seconds, **grid)
        voice = self.voices.get(index)
        return example if voice is None else _with_voice(example, voice)


def plan_film(number: int, seconds: tuple[float, float] = (10.0, 60.0)) -> Film:
    """The film of a number: 10 to 60 seconds, of one of `FORMATS` in turn."""
    rng = np.random.default_rng([_SEED, number])
    suffix, video_codec, audio_codec = FORMATS[number % len(FORMATS)]
    shots = _draw_shots(rng, number, rng.uniform(*seconds))
    wheels = [i for i, (world, _, length) in enumerate(shots) if world == "engine" and length > 3]
    spoken = wheels[:2] if which(SPEAKER) and rng.random() < 0.5 else []
    edits = {"video_codec": video_codec, "audio_codec": audio_codec, "seed": number}
    edits |= _draw_sound(rng, audio_codec)
    if rng.random() < 0.04:
        edits["audio_codec"] = ""
    edits |= _draw_times(rng, suffix)
    return Film(
        name=f"film-{number:04d}.{suffix}",
        shots=shots,
        voices={index: int(rng.integers(1 << 16)) for index in spoken},
        fps=_FPS[int(rng.integers(len(_FPS)))],
        size=int(rng.choice(_SIZES, p=_SIZE_SHARES)),
        edits=edits,
    )


def _draw_shots(
    rng: np.random.Generator, number: int, seconds: float
) -> tuple[tuple[str, int, float], ...]:
    shots: list[tuple[str, int, float]] = []
    left, longest = seconds, min(_SHOT_SECONDS[1], 0.6 * seconds)
    while left > _SHOT_SECONDS[0]:
        length = min(left, float(rng.uniform(_SHOT_SECONDS[0], longest)))
        if left - length < _SHOT_SECONDS[0]:
            length = left
        world = str(rng.choice(list(_WORLD_SHARES), p=list(_WORLD_SHARES.values())))
        shots.append((world, 1000 * number + len(shots), length))
        left -= length
    return tuple(shots)


def _draw_sound(rng: np.random.Generator, codec: str) -> dict[str, Any]:
    """Channels, rate, and by how much it is late."""
    late = round(float(rng.uniform(-250, 250)), 1) if rng.random() < 0.6 else 0.0
    rates = (48_000,) if codec == "libopus" else (48_000, 44_100)
    layout = str(rng.choice(["mono", "stereo", "5.1"], p=[0.3, 0.5, 0.2]))
    return {"late_ms": late, "sample_rate": int(rng.choice(rates)), "layout": layout}


def _draw_times(rng: np.random.Generator, suffix: str) -> dict[str, float]:
    """Start offsets, and for a part of the films a rate that varies."""
    late_stream = rng.choice(["", "video_at", "sound_at"], p=[0.6, 0.2, 0.2])
    times = {str(late_stream): round(float(rng.uniform(0.02, 0.8)), 3)} if late_stream else {}
    if suffix == "avi":  # has neither start times nor a varying rate
        return {}
    if rng.random() < 0.35:
        times["drop"] = float(rng.uniform(0.05, 0.35))
    if rng.random() < 0.25:
        times["jitter"] = float(rng.uniform(0.1, 0.4))
    return times


def _with_voice(example: WorldExample, draw: int) -> WorldExample:
    """The example with a voice in place of its sound; one event, which is only heard: it begins."""
    clip = example.clip
    assert clip.waveform is not None
    spoken, rate = _speak(_SENTENCES[draw % len(_SENTENCES)], _VOICES[draw % len(_VOICES)])
    spoken = media.resample(spoken, rate, clip.sample_rate)[0]
    start = round((0.4 + draw % 7 / 10) * clip.sample_rate)
    wave = np.zeros_like(clip.waveform)
    room = min(len(spoken), wave.shape[1] - start)
    wave[0, start : start + room] = spoken[:room]
    first = int(np.flatnonzero(np.abs(wave[0]) > _HEARD_LEVEL)[0])
    event = {"time": first / clip.sample_rate, "kind": "speech", "seen": False}
    truth = {**example.truth, "events": [event]}
    return WorldExample(clip=clip.replace(waveform=wave, caption=None), captions=(), truth=truth)


def _speak(text: str, voice: str) -> tuple[np.ndarray, int]:
    """Waveform ``(1, S)`` of a text, and its sample rate."""
    with TemporaryDirectory(prefix="avgen-") as folder:
        path = Path(folder) / "speech.wav"
        command = [SPEAKER, "-v", voice, "-w", str(path), text]
        subprocess.run(command, check=True, capture_output=True)
        wave, rate = soundfile.read(path, dtype="float32")
    return wave[None], rate


def still(seconds: float, size: int = 64) -> WorldExample:
    """A grey picture over a tone."""
    frames = np.full((max(1, round(25 * seconds)), size, size, 3), 120, np.uint8)
    at = np.arange(round(len(frames) / 25 * _SAMPLE_RATE)) / _SAMPLE_RATE
    wave = (0.3 * np.sin(2 * np.pi * 440 * at)).astype(np.float32)[None]
    clip = Clip(frames=frames, fps=Fraction(25), waveform=wave, sample_rate=_SAMPLE_RATE)
    return WorldExample(clip=clip, captions=(), truth={"events": []})
