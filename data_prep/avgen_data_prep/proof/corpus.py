"""A folder of films, copies and damaged files, with the truth beside it."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avgen.data.schema import atomic
from avgen_data_prep.proof.damage import write_damaged, write_odd
from avgen_data_prep.proof.films import plan_film

FILMS = "films"
TRUTH = "truth"
_LIST = "corpus.json"
_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class FilmTruth:
    """What is true of a film; seconds count from the earliest start of its streams.

    Attributes:
        source: Path from the folder of films.
        shots: Start of each shot, and the end of the last picture.
        events: When each thing is seen and heard; None where it is not.
        offset_ms: By how much the sound is late; None where there is no sound.
        frame: Seconds of a picture, before any were left out.
        edits: How it was cut and coded.
    """

    source: str
    shots: tuple[float, ...]
    events: tuple[tuple[float | None, float | None], ...]
    offset_ms: float | None
    frame: float
    edits: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus on disk.

    Attributes:
        folder: Of the media files.
        films: Truth of each film.
        copies: Exact copies: path of each, and of what it is a copy of.
        damaged: Files of which nothing can be made.
        odd: Whole files that look strange.
    """

    folder: Path
    films: tuple[FilmTruth, ...]
    copies: dict[str, str]
    damaged: tuple[str, ...]
    odd: tuple[str, ...]


def make_corpus(
    out: Path,
    *,
    films: int,
    damaged: int,
    seconds: tuple[float, float] = (10.0, 60.0),
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """Write a corpus below a folder, or what is missing of it.

    Args:
        out: Gets ``films`` and ``truth``.
        films: How many; every tenth has an exact copy besides.
        damaged: Files that are no use.
        seconds: Shortest and longest film.
        workers: Processes that render.
        progress: Called with the number of films that are done and of all.
    """
    folder, truth = out / FILMS, out / TRUTH
    for path in (folder / "copies", truth):
        path.mkdir(parents=True, exist_ok=True)
    make = partial(_film, folder, truth, seconds)
    made = []
    for found in _each(make, films, workers):
        made.append(found)
        if progress:
            progress(len(made), films)
    kept = truth / _LIST
    asked = [films, damaged, *seconds]
    if not kept.is_file() or json.loads(kept.read_text())["asked"] != asked:
        rest = _others(folder, made, damaged)
        with atomic(kept) as temporary:
            temporary.write_text(json.dumps({"asked": asked, **rest}, indent=1))
    rest = json.loads(kept.read_text())
    return Corpus(
        folder=folder,
        films=tuple(made),
        copies=rest["copies"],
        damaged=tuple(rest["damaged"]),
        odd=tuple(rest["odd"]),
    )


def _each(make: Callable[[int], FilmTruth], count: int, workers: int) -> Iterator[FilmTruth]:
    if workers < 2:
        yield from map(make, range(count))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(make, range(count))


def _film(folder: Path, truth: Path, seconds: tuple[float, float], number: int) -> FilmTruth:
    """The truth of a film, which is made if its truth is not there."""
    os.environ.setdefault("SVT_LOG", "1")  # of the AV1 encoder: only errors
    path = truth / f"{number:04d}.json"
    film = plan_film(number, seconds)
    if not path.is_file():
        source = film.write(folder)
        told = FilmTruth(
            source=film.name,
            shots=source.shots,
            events=source.events,
            offset_ms=source.offset_ms if film.edits["audio_codec"] else None,
            frame=float(1 / film.fps),
            edits={**film.edits, "voices": sorted(film.voices), "size": film.size},
        )
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(asdict(told)))
    return FilmTruth(**json.loads(path.read_text()))


def _others(folder: Path, films: list[FilmTruth], damaged: int) -> dict[str, Any]:
    """Write copies, damaged and odd files."""
    copies = {}
    for film in films[::_EVERY]:
        name = f"copies/{film.source}"
        shutil.copyfile(folder / film.source, folder / name)
        copies[name] = film.source
    whole = [folder / film.source for film in films]
    return {
        "copies": copies,
        "damaged": write_damaged(whole, folder, damaged),
        "odd": write_odd(folder),
    }
