"""What a stage is: a pure function of rows, with a version and parameters that name its results.

A *row* is a mapping of column names to values that Parquet holds. A *source* row stands for a file; a
`Split` turns it into *clip* rows, whose ids are made of the file's contents and the cut points, before
anything else is known of them. A `Measure` adds columns to each row, a `Gather` to all rows at once.
"""

import dataclasses
import hashlib
import json
import typing
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

if TYPE_CHECKING:
    from avgen_data_prep.pipeline.work import Work

Row = dict[str, Any]


class StageError(ValueError):
    """A row that a stage cannot use; the message says what is wrong, and becomes the row's reason."""


def _typed(value: Any, to: Any) -> Any:
    """A parameter as its type has it: 25 and 25.0 frames per second are the same."""
    types = {to, *typing.get_args(to)}
    return float(value) if type(value) is int and float in types and int not in types else value


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """A step of a pipeline. Subclasses are frozen dataclasses whose fields are the parameters.

    The results of a stage are kept under its name, `version`, parameters and `revision`, and under
    those of the stages before it whose columns it reads: only what a change touches is done again.

    Attributes:
        name: In pipelines, in the ledger and in messages.
        version: Raised whenever the code gives other results.
        reads: Columns of earlier stages that decide the result, beyond the media themselves.
        writes: Columns that the stage adds, with their types.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[pa.Schema]

    @property
    def revision(self) -> str:
        """SHA-256 of the weights that decide the result; empty where there are none."""
        return ""

    def parameters(self) -> dict[str, Any]:
        """What the stage was asked for, JSON-able; paths to weights are left to `revision`."""
        return dataclasses.asdict(self)

    def key(self, inputs: Sequence[str] = ()) -> str:
        """16 hex digits that name the results, given the keys of the stages it reads from."""
        types = {field.name: field.type for field in dataclasses.fields(self)}
        parameters = {k: _typed(v, types.get(k)) for k, v in self.parameters().items()}
        told = [self.name, self.version, parameters, self.revision, list(inputs)]
        text = json.dumps(told, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Measure(Stage):
    """Adds columns to each row by itself.

    Before the pipeline's `Split` it sees source rows and afterwards clip rows.
    """

    @abstractmethod
    def measure(self, row: Row, work: "Work") -> Row:
        """The columns of `writes` for a row; a missing one is null.

        Raises:
            StageError: The row cannot be used. Any other exception counts as one, by its `repr`.
        """


@dataclass(frozen=True, kw_only=True)
class Split(Stage):
    """Turns a source row into clip rows. `writes` holds the columns of a clip besides `id`."""

    @abstractmethod
    def split(self, row: Row, work: "Work") -> list[Row]:
        """The clips of a source, each with `id` (see `clip_id`) and the columns of `writes`.

        Raises:
            StageError: No clip can be had of the source.
        """


@dataclass(frozen=True, kw_only=True)
class Gather(Stage):
    """Adds columns to all clip rows at once, after every `Measure`: what depends on the others."""

    @abstractmethod
    def gather(self, rows: list[Row]) -> list[Row]:
        """The columns of `writes` for each row, in order.

        Args:
            rows: ``id`` and the columns of `reads`, by id.
        """


def clip_id(source_sha256: str, start_us: int, end_us: int, key: str) -> str:
    """The id of a clip: 24 hex digits of its source's contents, its cut points and how it was cut."""
    text = f"{source_sha256}|{start_us}|{end_us}|{key}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]
