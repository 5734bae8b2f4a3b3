"""One source through the stages: what is done already is kept, what is not is done and noted."""

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from avgen.media import MediaError
from avgen_data_prep.pipeline.ledger import SOURCE, WORKER, Failure, Ledger, keys_of
from avgen_data_prep.pipeline.spec import Pipeline, PipelineError, parse
from avgen_data_prep.pipeline.stage import Measure, Row, StageError
from avgen_data_prep.pipeline.work import Work

_STOP = "stop"
_OF_THE_MACHINE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
    errno.ESTALE,
    errno.ENOTCONN,
}  # fmt: skip; EIO is also what FFmpeg says of damaged files
_SAVE_SECONDS = 30.0


@dataclass
class Outcome:
    """What became of a source in this run.

    Attributes:
        sha256: Of the source.
        clips: Clips that have not failed.
        failed: Failures of the source and of its clips.
        seconds: Time taken by each stage.
        rows: Rows that each stage worked on.
    """

    sha256: str
    clips: int = 0
    failed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What a worker must know; plain values, so that they travel between processes and machines.

    Attributes:
        pipeline: The pipeline as YAML.
        sources: Folder of the media files.
        folder: Folder of the run.
        retry_failed: Try again what failed before.
        only: Work on this stage and what it needs; None: on all.
    """

    pipeline: str
    sources: str
    folder: str
    retry_failed: bool = False
    only: str | None = None


class Processor:
    """Takes sources through a pipeline, one at a time.

    Args:
        settings: What to do and where.
    """

    def __init__(self, settings: Settings):
        self.pipeline: Pipeline = parse(settings.pipeline)
        self.ledger = Ledger(Path(settings.folder), self.pipeline)
        self.work = Work(Path(settings.sources), Path(settings.folder))
        self.retry_failed = settings.retry_failed
        named = {stage.name for stage in self.pipeline.stages}
        wanted = self.pipeline.needed_for(settings.only) if settings.only else named
        self.of_sources = [s for s in self.pipeline.of_sources if s.name in wanted]
        self.of_clips = [s for s in self.pipeline.of_clips if s.name in wanted]

    def __call__(self, source: Row) -> Outcome:
        """Bring a source's part up to date.

        Args:
            source: A row of the scan.

        Raises:
            PipelineError: The run as a whole cannot go on.
        """
        return _Visit(self, source).run()

    def reject(self, source: Row, reason: str) -> Outcome:
        """Note a source that cannot be processed at all: it takes its process down, or never ends."""
        part = self.ledger.read(source["source_sha256"])
        key = keys_of(self.pipeline, source)[WORKER]
        part.failed = {SOURCE: Failure(stage=WORKER, key=key, reason=reason)}
        self.ledger.write(source["source_sha256"], part)
        return Outcome(source["source_sha256"], failed=1)

    def pending(self, source: Row) -> list[str]:
        """Names of the stages that a source still needs."""
        return _Visit(self, source).pending()


class _Visit:
    """One source's way through the stages."""

    def __init__(self, processor: Processor, source: Row):
        self.processor = processor
        self.pipeline, self.ledger = processor.pipeline, processor.ledger
        self.work, self.scanned = processor.work, source
        self.part = self.ledger.read(source["source_sha256"])
        self.outcome = Outcome(source["source_sha256"])
        self.dirty, self.saved = False, time.monotonic()
        self.keys = keys_of(self.pipeline, source)
        valid = {} if processor.retry_failed else self.part.current(self.pipeline, self.keys).failed
        self._keep_failures(set(valid))

    def _keep_failures(self, names: set[str]) -> None:
        kept = {name: failure for name, failure in self.part.failed.items() if name in names}
        self.dirty |= kept != self.part.failed
        self.part.failed = kept

    def run(self) -> Outcome:
        try:
            self._advance()
        except PipelineError:
            with contextlib.suppress(OSError):  # the disk may be what ends the run
                self._save()
            raise
        self._save()
        self.outcome.clips = sum(1 for _ in self.part.good_clips())
        self.outcome.failed = len(self.part.failed)
        return self.outcome

    def _advance(self) -> None:
        if SOURCE not in self.part.failed and self._measured(
            SOURCE, self.scanned, self.processor.of_sources
        ):
            for name in self._split():
                if name not in self.part.failed:
                    self._measured(name, self._row(name), self.processor.of_clips)
                if time.monotonic() - self.saved > _SAVE_SECONDS:
                    self._save()

    def pending(self) -> list[str]:
        if SOURCE in self.part.failed:
            return []
        todo = [s.name for s in self.processor.of_sources if not self._is_done(SOURCE, s.name)]
        split = self.pipeline.split.name
        if not self._is_done(SOURCE, split) or not self._files_are_there():
            return [*todo, split, *(s.name for s in self.processor.of_clips)]
        clips = [row["id"] for row in self.part.good_clips()]
        return todo + [
            stage.name
            for stage in self.processor.of_clips
            if not all(self._is_done(name, stage.name) for name in clips)
        ]

    def _is_done(self, name: str, stage: str) -> bool:
        return self.part.done.get(name, {}).get(stage) == self.keys[stage]

    def _measured(self, name: str, row: Row, stages: Sequence[Measure]) -> bool:
        """Whether a row came through; its columns are in the part then."""
        columns = self.part.source if name == SOURCE else self.part.clips[name]
        for stage in stages:
            if self._is_done(name, stage.name):
                continue
            try:
                found = self._timed(
                    stage.name, lambda s=stage: s.measure({**row, **columns}, self.work)
                )
            except PipelineError:
                raise
            except Exception as error:  # one row must never end the run
                self._fail(name, stage.name, error)
                return False
            columns.update({column: found.get(column) for column in stage.writes.names})
            self._note(name, stage.name)
        return True

    def _split(self) -> list[str]:
        """Ids of the source's clips, whose files are there."""
        stage = self.pipeline.split
        self.work.key = self.keys[stage.name]
        if self._is_done(SOURCE, stage.name) and self._files_are_there():
            return list(self.part.clips)
        row = {**self.scanned, **self.part.source}
        try:
            clips = self._timed(stage.name, lambda: stage.split(row, self.work))
        except PipelineError:
            raise
        except Exception as error:  # one source must never end the run
            self._fail(SOURCE, stage.name, error)
            return []
        names = ("id", *stage.writes.names)
        self.part.clips = {clip["id"]: {n: clip.get(n) for n in names} for clip in clips}
        self.part.types = pa.schema([])
        self.part.done = {SOURCE: self.part.done.get(SOURCE, {})}
        self._keep_failures({SOURCE})
        self._note(SOURCE, stage.name)
        return list(self.part.clips)

    def _files_are_there(self) -> bool:
        return all(self.work.clip_file(name).is_file() for name in self.part.clips)

    def _row(self, name: str) -> Row:
        return {**self.scanned, **self.part.source, **self.part.clips[name]}

    def _timed(self, stage: str, call: Any) -> Any:
        start = time.perf_counter()
        try:
            return call()
        finally:
            seconds, rows = self.outcome.seconds, self.outcome.rows
            seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
            rows[stage] = rows.get(stage, 0) + 1

    def _note(self, name: str, stage: str) -> None:
        self.part.done.setdefault(name, {})[stage] = self.keys[stage]
        self.dirty = True

    def _fail(self, name: str, stage: str, error: Exception) -> None:
        self._blame_machine(stage, error)
        self.part.failed[name] = Failure(stage=stage, key=self.keys[stage], reason=reason_of(error))
        self.dirty = True

    def _blame_machine(self, stage: str, error: BaseException | None) -> None:
        """Raise where the machine is at fault: a full disk is no verdict about a file."""
        where = f"{self.scanned['source']} in {stage}"
        while error is not None:
            if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
                told = os.strerror(error.errno)
                raise PipelineError(f"{where}: {told}; put that right and run again") from error
            error = error.__cause__
        if not self.work.source(self.scanned).is_file():
            raise PipelineError(f"{where}: the file is no longer there; run again")

    def _save(self) -> None:
        if self.dirty:
            self.ledger.write(self.outcome.sha256, self.part)
        self.dirty, self.saved = False, time.monotonic()


def reason_of(error: Exception) -> str:
    """What went wrong, without folders: a manifest must not depend on where it lies."""
    if isinstance(error, MediaError):
        return f"{error.problem}; {error.fix}"
    return str(error) if isinstance(error, StageError | ValueError) else repr(error)


def answer_of(process: Callable[[Row], Outcome], source: Row) -> str:
    """What a worker answers, as one line: an outcome, or why the run as a whole cannot go on."""
    try:
        return json.dumps(vars(process(source)), sort_keys=True)
    except PipelineError as error:
        return json.dumps({_STOP: str(error)})


def read_answer(line: str | bytes) -> Outcome:
    """The outcome that a worker has answered.

    Raises:
        PipelineError: The run as a whole cannot go on.
    """
    answer = json.loads(line)
    if _STOP in answer:
        raise PipelineError(answer[_STOP])
    return Outcome(**answer)
