"""How long stages take, as measured: in the folder of a run, or by ``avgen_data_prep.pipeline.speed``."""

import dataclasses
import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from avgen.data.schema import atomic
from avgen_data_prep.pipeline.runner import PIPELINE, RATES
from avgen_data_prep.pipeline.spec import load
from avgen_data_prep.plan.corpus import Corpus
from avgen_data_prep.plan.measured import measured_corpus
from avgen_data_prep.plan.ranges import Range, mean_of

SCHEMA = "avgen.rates/1"
SPEED = "python -m avgen_data_prep.pipeline.speed FOLDER --json rates.json"


@dataclass(frozen=True, kw_only=True)
class StageRate:
    """How long a stage took in one worker.

    Attributes:
        of: What its rows stand for.
        rows: Rows that it worked on.
        seconds: Time that it took for all of them.
        row_seconds: Length of the footage of a row, on average.
        pixel_rate: Pixels per second of that footage.
    """

    of: Literal["sources", "clips"]
    rows: int
    seconds: float
    row_seconds: float
    pixel_rate: float

    def hours(self, corpus: Corpus) -> Range:
        """Hours of a worker for a corpus.

        The bounds are those of `mean_of`. Where the corpus has another number of pixels per second than
        was measured, they also reach from "takes no notice" to "grows in proportion".
        """
        footage = corpus.hours if self.of == "sources" else corpus.clip_hours
        return mean_of(self.seconds, self.rows) * (footage / self.row_seconds) * self.growth(corpus)

    def growth(self, corpus: Corpus) -> Range:
        """By what the corpus's number of pixels may multiply the time."""
        planned = corpus.source_pixel_rate if self.of == "sources" else corpus.clip_pixel_rate
        ratio = planned / self.pixel_rate if self.pixel_rate and planned else 1.0
        if abs(ratio - 1) < 0.01:
            return Range.exactly(1.0)
        return Range(min(1.0, ratio), ratio**0.5, max(1.0, ratio))


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The rates of stages on one kind of worker.

    Attributes:
        stages: By name.
        gathers: Rows compared and seconds taken by the stages that compare all clips, by name; null
            where nobody measured them.
        place: Where they were measured, for messages.
        date: Day of the measurement.
        machine: On what.
        core_share: Share of its core that the measuring process had; null where that is not known.
    """

    stages: Mapping[str, StageRate]
    gathers: Mapping[str, tuple[int, float] | None] = field(default_factory=dict)
    place: str
    date: str
    machine: str
    core_share: float | None = None

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        data = {"schema": SCHEMA, **dataclasses.asdict(self)}
        del data["place"]
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(data, indent=1) + "\n")


def read_rates(path: Path) -> Rates:
    """Rates from the folder of a run, or from a file that `Rates.save` wrote.

    Raises:
        ValueError: Nothing was measured there.
    """
    if path.is_dir():
        return _rates_of_run(path, measured_corpus(path))
    try:
        data = json.loads(path.read_text())
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r} is not {SCHEMA!r}")
        stages = {name: StageRate(**values) for name, values in data["stages"].items()}
        gathers = {n: v and (int(v[0]), float(v[1])) for n, v in data["gathers"].items()}
        names = ("date", "machine", "core_share")
        rest: dict[str, Any] = {name: data[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{path}: no rates can be read ({error!r}); measure them: {SPEED}"
        ) from error
    return Rates(stages=stages, gathers=gathers, place=str(path), **rest)


def _rates_of_run(folder: Path, corpus: Corpus) -> Rates:
    """The rates that runs have added up in a folder."""
    path = folder / RATES
    try:
        measured = json.loads(path.read_text())
        changed = datetime.date.fromtimestamp(path.stat().st_mtime)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no rates can be read ({error}); {_again(folder)}") from error
    pipeline = load(folder / PIPELINE)
    source_seconds = 3600 * corpus.hours / corpus.num_sources
    clip_seconds = 3600 * corpus.clip_hours / corpus.num_clips
    stages = {}
    for stage in (*pipeline.of_sources, pipeline.split, *pipeline.of_clips):
        if not measured.get(stage.name, {}).get("rows"):
            raise ValueError(f"{path}: no rate of the stage {stage.name}; {_again(folder)}")
        of_clips = stage in pipeline.of_clips
        stages[stage.name] = StageRate(
            of="clips" if of_clips else "sources",
            rows=measured[stage.name]["rows"],
            seconds=measured[stage.name]["seconds"],
            row_seconds=clip_seconds if of_clips else source_seconds,
            pixel_rate=corpus.clip_pixel_rate if of_clips else corpus.source_pixel_rate,
        )
    gathers = {stage.name: None for stage in pipeline.gathers}
    return Rates(
        stages=stages,
        gathers=gathers,
        place=str(path),
        date=changed.isoformat(),
        machine="the machine of that run",
    )


def _again(folder: Path) -> str:
    return f"run `avgen prep run FOLDER {folder}` to the end, or measure: {SPEED}"
