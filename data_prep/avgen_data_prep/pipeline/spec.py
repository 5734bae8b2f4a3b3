"""Pipelines as YAML: a list of stages, each a name, a name with parameters, or a class of one's own.

Example::

    stages:
      - probe
      - shots: {threshold: 3.0}
      - cut: {seconds_min: 2, seconds_max: 8}
      - class_path: my_package.Sharpness
        init_args: {pixels: 128}
"""

import dataclasses
import difflib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from avgen_data_prep.pipeline.stage import Gather, Measure, Row, Split, Stage
from avgen_data_prep.scan import SCANNED

DEFAULT = "default"
PIPELINES = files("avgen_data_prep") / "pipelines"
STAGES = {
    "probe": "avgen_data_prep.stages.probe.Probe",
    "shots": "avgen_data_prep.stages.shots.Shots",
    "source_sync": "avgen_data_prep.stages.source_sync.SourceSync",
    "cut": "avgen_data_prep.stages.cut.Cut",
    "video_stats": "avgen_data_prep.stages.video_stats.VideoStats",
    "audio_stats": "avgen_data_prep.stages.audio_stats.AudioStats",
    "sound_tags": "avgen_data_prep.stages.sound_tags.SoundTags",
    "speech": "avgen_data_prep.stages.speech.Speech",
    "clip_sync": "avgen_data_prep.stages.clip_sync.ClipSync",
    "fingerprint": "avgen_data_prep.stages.fingerprint.Fingerprint",
    "embedding": "avgen_data_prep.stages.embedding.Embedding",
    "captions": "avgen_data_prep.stages.captions.Captions",
    "rights": "avgen_data_prep.stages.rights.Rights",
    "near_duplicates": "avgen_data_prep.stages.near_duplicates.NearDuplicates",
    "semantic_duplicates": "avgen_data_prep.stages.semantic_duplicates.SemanticDuplicates",
}


class PipelineError(ValueError):
    """A pipeline, or a run of one, that cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Pipeline:
    """Stages in order: measures of sources, one split, measures of clips, gathers.

    Raises:
        PipelineError: Another order, a name twice, or a column that nothing before it writes.
    """

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        kinds = "".join(_letter(stage) for stage in self.stages)
        if kinds.count("S") != 1 or kinds.lstrip("M").lstrip("S").lstrip("M").strip("G"):
            order = ", ".join(stage.name for stage in self.stages)
            raise PipelineError(
                f"stages {order}: a pipeline is measures of sources, one that cuts clips, measures of "
                "clips, and last what compares all clips"
            )
        written = set(SCANNED.names) | {"id"}
        for stage in self.stages:
            missing = set(stage.reads) - written
            double = written & set(stage.writes.names)
            if missing:
                raise PipelineError(
                    f"{stage.name} reads {sorted(missing)}, which no stage before it writes"
                )
            if double:
                raise PipelineError(
                    f"{stage.name} writes {sorted(double)}, which are there already"
                )
            written |= set(stage.writes.names)

    @cached_property
    def of_sources(self) -> tuple[Measure, ...]:
        """Measures of source rows."""
        end = self.stages.index(self.split)
        return tuple(s for s in self.stages[:end] if isinstance(s, Measure))

    @cached_property
    def split(self) -> Split:
        """What cuts clips."""
        return next(stage for stage in self.stages if isinstance(stage, Split))

    @cached_property
    def of_clips(self) -> tuple[Measure, ...]:
        """Measures of clip rows."""
        begin = self.stages.index(self.split)
        return tuple(s for s in self.stages[begin:] if isinstance(s, Measure))

    @cached_property
    def gathers(self) -> tuple[Gather, ...]:
        """What compares all clips."""
        return tuple(stage for stage in self.stages if isinstance(stage, Gather))

    @cached_property
    def keys(self) -> dict[str, str]:
        """Key of each stage's results by its name, but for the values a scan found."""
        keys: dict[str, str] = {}
        for stage in self.stages:
            inputs = sorted(keys[name] for name in self._read_from[stage.name])
            if self.split.name in keys:
                inputs.append(keys[self.split.name])
            keys[stage.name] = stage.key(inputs)
        return keys

    def key(self, stage: Stage, source: Row) -> str:
        """Key of a stage's results for a source: with the scanned values that it, or what it reads, reads."""
        scanned = {
            name: source[name] for name in SCANNED.names if name in self._scanned[stage.name]
        }
        return (
            stage.key([self.keys[stage.name], str(scanned)]) if scanned else self.keys[stage.name]
        )

    @cached_property
    def _scanned(self) -> dict[str, set[str]]:
        """Columns of the scan that each stage depends on."""
        found: dict[str, set[str]] = {}
        for stage in self.stages:
            before = [found[name] for name in self._read_from[stage.name]]
            if self.split.name in found:
                before.append(found[self.split.name])
            found[stage.name] = set(SCANNED.names).intersection(stage.reads).union(*before)
        return found

    @cached_property
    def _read_from(self) -> dict[str, set[str]]:
        """Names of the stages whose columns each stage reads."""
        writer = {column: stage.name for stage in self.stages for column in stage.writes.names}
        return {
            stage.name: {writer[column] for column in stage.reads if column in writer}
            for stage in self.stages
        }

    def needed_for(self, name: str) -> set[str]:
        """A stage, the one that cuts, and those whose columns they read.

        Raises:
            PipelineError: There is no such stage.
        """
        if name not in self._read_from:
            raise PipelineError(f"no stage {name!r} here; there are {', '.join(self._read_from)}")
        needed: set[str] = set()
        todo = {name, self.split.name}
        while todo:
            needed |= todo
            todo = set().union(*(self._read_from[stage] for stage in todo)) - needed
        return needed

    def to_yaml(self) -> str:
        """The pipeline with all its parameters, as `load` reads it."""
        stages = [
            {
                "class_path": f"{type(stage).__module__}.{type(stage).__qualname__}",
                "init_args": _plain(dataclasses.asdict(stage)),
            }
            for stage in self.stages
        ]
        return yaml.safe_dump({"stages": stages}, sort_keys=False)


def load(pipeline: str | Path, changes: Sequence[str] = ()) -> Pipeline:
    """A pipeline by its name (``default``) or from a YAML file.

    Args:
        pipeline: Name or path.
        changes: ``stage.parameter=value``, the value as YAML.

    Raises:
        PipelineError: No such file, not a list of stages, or a stage or parameter that does not exist.
    """
    path = Path(pipeline)
    packaged = PIPELINES / f"{pipeline}.yaml"
    if path.suffix not in (".yaml", ".yml") and packaged.is_file():
        return parse(packaged.read_text(), str(pipeline), changes)
    try:
        return parse(path.read_text(), str(path), changes)
    except OSError as error:
        raise PipelineError(
            f"{path}: cannot be read ({error.strerror}); give a YAML file, or one of {_names()}"
        ) from error


def parse(text: str, place: str = "pipeline", changes: Sequence[str] = ()) -> Pipeline:
    """A pipeline from YAML; ``place`` is named in messages, ``changes`` are those of `load`."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PipelineError(f"{place}: not YAML: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("stages"), list):
        raise PipelineError(f"{place}: give a mapping with a list `stages`")
    try:
        stages = [_stage(item) for item in data["stages"]]
        for change in changes:
            _change(stages, change)
        return Pipeline(tuple(stages))
    except PipelineError as error:
        raise PipelineError(f"{place}: {error}") from error


def _change(stages: list[Stage], change: str) -> None:
    target, equals, value = change.partition("=")
    name, _, parameter = target.partition(".")
    found = [i for i, stage in enumerate(stages) if stage.name == name]
    if not (equals and parameter and found):
        names = ", ".join(stage.name for stage in stages)
        raise PipelineError(f"{change!r}: give STAGE.NAME=VALUE with a stage of {names}")
    stage = stages[found[0]]
    kept = {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)}
    stages[found[0]] = _made(type(stage), {**kept, parameter: yaml.safe_load(value)})


def _stage(item: Any) -> Stage:
    if isinstance(item, dict) and "class_path" in item:
        path, parameters = str(item["class_path"]), item.get("init_args") or {}
    elif isinstance(item, dict) and len(item) == 1:
        name, parameters = next(iter(item.items()))
        path, parameters = _path(name), parameters or {}
    elif isinstance(item, str):
        path, parameters = _path(item), {}
    else:
        raise PipelineError(f"stage {item!r}: give a name, or a name with its parameters")
    return _made(_class(path), parameters)


def _made(cls: type[Stage], parameters: Any) -> Stage:
    if not isinstance(parameters, dict):
        raise PipelineError(f"{cls.name}: parameters {parameters!r} are not a mapping")
    known = [field.name for field in dataclasses.fields(cls)]
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise PipelineError(f"{cls.name} has no parameter {name!r}, but {known}{meant}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()}
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise PipelineError(f"{cls.name}: {error}") from error


def _path(name: str) -> str:
    if name not in STAGES:
        near = difflib.get_close_matches(str(name), STAGES, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise PipelineError(f"no stage {name!r}; there are {', '.join(STAGES)}{meant}")
    return STAGES[name]


def _class(path: str) -> type[Stage]:
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PipelineError(f"class_path {path!r} cannot be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, Stage) and dataclasses.is_dataclass(cls)):
        raise PipelineError(f"class_path {path!r} is not a stage (a dataclass below Stage)")
    return cls


def _letter(stage: Stage) -> str:
    return next(
        letter
        for letter, kind in (("M", Measure), ("S", Split), ("G", Gather))
        if isinstance(stage, kind)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _names() -> str:
    return ", ".join(sorted(p.name.removesuffix(".yaml") for p in PIPELINES.iterdir()))
