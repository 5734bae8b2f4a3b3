"""Files that are no use, each in a way of its own, and files that only look it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from avgen_data_prep.proof.editing import edit
from avgen_data_prep.proof.films import still

_SEED = 20_260_102
# Formats whose end tells that it is the end; a transport stream cut off is a shorter one.
_ENDED = frozenset({".mp4", ".mov", ".webm", ".mkv"})

Damage = Callable[[Path, Path, np.random.Generator], None]


def write_damaged(films: Sequence[Path], folder: Path, count: int) -> list[str]:
    """Write ``count`` files that nothing can be made of, each way of `DAMAGES` in turn.

    Args:
        films: Whole films; parts of them are used.
        folder: For the files.
        count: How many.

    Returns:
        Their names.
    """
    whole = [film for film in films if film.suffix in _ENDED]
    names, ways = [], list(DAMAGES.items())
    for number in range(count):
        way, damage = ways[number % len(ways)]
        rng = np.random.default_rng([_SEED, number])
        film = whole[int(rng.integers(len(whole)))]
        suffix = film.suffix if damage in (_cut_off, _only_the_head, _a_hole) else ".mp4"
        names.append(f"damaged-{number:03d}-{way.replace(' ', '-')}{suffix}")
        damage(film, folder / names[-1], rng)
    return names


def write_odd(folder: Path) -> list[str]:
    """Write films that are whole but look strange: another format's ending, and no sound at all."""
    names = ["odd-ending.mp4", "odd-silent.mp4"]
    matroska = edit(folder / "odd-ending.mkv", [still(2.0)], audio_codec="flac")
    matroska.path.rename(folder / names[0])
    edit(folder / names[1], [still(3.0)], audio_codec="")
    return names


def _cut_off(film: Path, path: Path, rng: np.random.Generator) -> None:
    data = film.read_bytes()
    path.write_bytes(data[: int(len(data) * rng.uniform(0.05, 0.95))])


def _only_the_head(film: Path, path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(film.read_bytes()[: int(rng.integers(20, 600))])


def _a_hole(film: Path, path: Path, rng: np.random.Generator) -> None:
    """A stretch of zeros, as a download leaves that was put together wrongly."""
    data = bytearray(film.read_bytes())
    start, end = int(len(data) * 0.3), int(len(data) * rng.uniform(0.6, 0.7))
    data[start:end] = bytes(end - start)
    path.write_bytes(data)


def _empty(film: Path, path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(b"")


def _text(film: Path, path: Path, rng: np.random.Generator) -> None:
    path.write_text(f"not a film but a note, number {int(rng.integers(1 << 30))}\n")


def _noise(film: Path, path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(rng.bytes(int(rng.integers(1_000, 100_000))))


def _list_of_files(film: Path, path: Path, rng: np.random.Generator) -> None:
    path.write_text(f"ffconcat version 1.0\nfile {film.name}\nduration {rng.uniform(1, 9):.3f}\n")


def _one_picture(film: Path, path: Path, rng: np.random.Generator) -> None:
    edit(path, [still(0.04, size=64 + 2 * int(rng.integers(30)))], audio_codec="")


def _too_short(film: Path, path: Path, rng: np.random.Generator) -> None:
    edit(path, [still(float(rng.uniform(0.1, 0.5)), size=64 + 2 * int(rng.integers(30)))])


DAMAGES: dict[str, Damage] = {
    "cut off": _cut_off,
    "only the head": _only_the_head,
    "a hole": _a_hole,
    "empty": _empty,
    "text": _text,
    "noise": _noise,
    "list of files": _list_of_files,
    "one picture": _one_picture,
    "too short": _too_short,
}
