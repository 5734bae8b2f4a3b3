"""Suites: YAML files that name what is measured. Those that come with avgen, or one of your own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from avgen_eval.harness.extractors import Extractor
from avgen_eval.harness.live import Live
from avgen_eval.harness.longform import LongForm
from avgen_eval.harness.scorers import (
    ClipScorer,
    LearnedSync,
    Legacy,
    Physics,
    Reconstruction,
    Signal,
    Sync,
    Temporal,
    Timing,
)
from avgen_eval.harness.sets import SET_SCORERS, SetScorer
from avgen_eval.harness.world import World

SCORERS: dict[str, type[ClipScorer]] = {
    scorer.name: scorer
    for scorer in (
        Sync,
        Timing,
        Signal,
        Temporal,
        LongForm,
        Reconstruction,
        Physics,
        LearnedSync,
        Legacy,
        Live,
        World,
    )
}
SUITES = Path(__file__).parent / "suites"
_FIELDS = {"name", "version", "about", "clips", "sets"}


class SuiteError(ValueError):
    """A suite that does not exist or cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What is measured.

    Attributes:
        name: Of the suite.
        version: Raised with every change.
        about: One line for people.
        clips: Scorers of single clips by name.
        sets: Scorers of the whole set by name.
    """

    name: str
    version: int
    about: str
    clips: dict[str, ClipScorer]
    sets: dict[str, SetScorer]

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """Everything that the scorers read, each once."""
        scorers: list[ClipScorer | SetScorer] = [*self.clips.values(), *self.sets.values()]
        found = {e.signature: e for scorer in scorers for e in scorer.extractors}
        return tuple(found.values())


def list_suites() -> list[Suite]:
    """The suites that come with avgen."""
    return [read_suite(path) for path in sorted(SUITES.glob("*.yaml"))]


def load_suite(names: str) -> Suite:
    """A suite by name or by file; several, separated by commas, are joined.

    Raises:
        SuiteError: It does not exist, or names something unknown.
    """
    suites = [read_suite(_find(name.strip())) for name in names.split(",")]
    if len(suites) == 1:
        return suites[0]
    return Suite(
        name="+".join(suite.name for suite in suites),
        version=max(suite.version for suite in suites),
        about="; ".join(suite.about for suite in suites),
        clips={key: value for suite in suites for key, value in suite.clips.items()},
        sets={key: value for suite in suites for key, value in suite.sets.items()},
    )


def read_suite(path: Path) -> Suite:
    """Read and check a suite.

    Raises:
        SuiteError: Not YAML, a field is missing or unknown, or a scorer does not exist.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        raise SuiteError(f"{path}: needs a `name`")
    unknown = sorted(set(content) - _FIELDS)
    if unknown:
        raise SuiteError(f"{path}: unknown field {unknown[0]!r}; use {', '.join(sorted(_FIELDS))}")
    clips, sets = content.get("clips") or [], content.get("sets") or []
    if not clips and not sets:
        raise SuiteError(f"{path}: measures nothing; list scorers under `clips` or `sets`")
    return Suite(
        name=content["name"],
        version=int(content.get("version", 1)),
        about=str(content.get("about", "")),
        clips={name: _known(name, SCORERS, path)() for name in clips},
        sets={name: _known(name, SET_SCORERS, path) for name in sets},
    )


def _find(name: str) -> Path:
    for path in (Path(name), SUITES / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(path.stem for path in sorted(SUITES.glob("*.yaml")))
    raise SuiteError(f"suite {name!r} does not exist; use one of {known}, or a YAML file")


def _known(name: Any, table: dict[str, Any], path: Path) -> Any:
    if name not in table:
        raise SuiteError(f"{path}: scorer {name!r} does not exist; use one of {', '.join(table)}")
    return table[name]
