"""Making a dataset shard by shard: each is a job, done once, done again only if it is missing."""

import fcntl
import hashlib
import json
import multiprocessing
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import torch

from avgen.data.quantise import LatentDtype
from avgen.data.schema import INFO, DatasetError, DatasetInfo, read_info
from avgen.data.shards import Example, finish, read_part, write_shard

_UNFINISHED = "unfinished.json"
Progress = Callable[[int], None]


class Record(TypedDict):
    """A file that was not used, or not wholly.

    The outcome is failed, damaged, duplicate, bad caption, sidecar or ignored; the reason says why.
    """

    file: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class Job:
    """One shard to make.

    Attributes:
        shard: File name.
        key: Changes whenever the contents of the shard would.
        items: What the source makes the shard from, picklable.
    """

    shard: str
    key: str
    items: tuple[Any, ...]


class Source(ABC):
    """Where examples come from.

    Sources are hashable and travel to worker processes, so they hold settings only.

    Attributes:
        latent_dtype: How latents are stored; a source that offers others has it as a field.
    """

    latent_dtype: LatentDtype = "float16"

    @abstractmethod
    def info(self) -> DatasetInfo:
        """Codecs and settings of the dataset; a folder with other ones is refused."""

    @abstractmethod
    def jobs(self) -> list[Job]:
        """All shards, in order."""

    @abstractmethod
    def open(self) -> Callable[[Job, list[Record]], Iterator[Example]]:
        """Load what is heavy, once per process; return what makes a job's examples.

        The function appends to its second argument a record of every item that gave no example.
        """

    def counts(self, rows: int, records: list[Record]) -> dict[str, Any]:
        """What ``dataset.json`` counts, from the number of examples and the records of all jobs."""
        return {"examples": rows, "records": len(records)}


def fingerprint(*values: Any) -> str:
    """SHA-256 of JSON-able values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def build(
    out: Path, source: Source, *, workers: int = 0, progress: Progress | None = None
) -> tuple[DatasetInfo, list[Record]]:
    """Make the missing shards of a dataset and complete it.

    Killed at any point, the next call makes what is missing and ends with the same files.

    Args:
        out: Folder of the dataset.
        source: Where examples come from.
        workers: Processes; 0 works in this one.
        progress: Called with the number of items of each shard that is (or was) done.

    Returns:
        The dataset's information and the records of all jobs.

    Raises:
        DatasetError: ``out`` holds another dataset, or another process is writing it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with folder_lock(out):
        info, jobs = source.info(), source.jobs()
        _check_folder(out, info, jobs)
        todo = [job for job in jobs if read_part(out, job.shard, job.key) is None]
        if todo and (out / INFO).is_file():
            (out / INFO).replace(out / _UNFINISHED)  # incomplete until the last shard is there
        report = progress or (lambda _: None)
        report(sum(len(job.items) for job in jobs if job not in todo))
        for job in _run_all(out, source, todo, workers):
            report(len(job.items))
        parts = [read_part(out, job.shard, job.key) for job in jobs]
        records = [record for part in parts if part for record in part[1]]
        rows = sum(part[0].num_rows for part in parts if part)
        info = replace(info, counts=source.counts(rows, records))
        finished = finish(out, [job.shard for job in jobs], info)
        (out / _UNFINISHED).unlink(missing_ok=True)
        return finished, records


@contextmanager
def folder_lock(out: Path) -> Iterator[None]:
    """Hold the folder, and clear away what a killed run left half-written.

    Raises:
        DatasetError: Another process holds it.
    """
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(f"{out}: another process is writing here; wait for it") from error
        half = (".*.tar.*", ".*.parquet.*", "parts/.*", "ledger/*/.*", "clips/*/.*")
        for stale in (path for pattern in half for path in out.glob(pattern)):
            stale.unlink(missing_ok=True)
        yield


def _check_folder(out: Path, info: DatasetInfo, jobs: list[Job]) -> None:
    planned = {job.shard for job in jobs}
    surplus = sorted(p.name for p in out.glob("shard-*.tar") if p.name not in planned)
    if surplus:
        raise DatasetError(
            f"{out}: already holds {surplus[0]}, beyond the {len(planned)} shards asked for; "
            "use another folder"
        )
    found = [name for name in (INFO, _UNFINISHED) if (out / name).is_file()]
    if not found:
        return
    # Missing shards are what is about to be made.
    old = read_info(out, check_shards=False, name=found[0])
    for name in ("video_codec", "audio_codec", "text_encoder", "latent_dtype", "settings"):
        if getattr(old, name) != getattr(info, name):
            raise DatasetError(
                f"{out}: holds a dataset with another {name.replace('_', ' ')} "
                f"({getattr(old, name)}, now {getattr(info, name)}); use another folder"
            )


def _run_all(out: Path, source: Source, jobs: Sequence[Job], workers: int) -> Iterator[Job]:
    if workers < 1 or len(jobs) < 2:
        for job in jobs:
            _run(out, source, job)
            yield job
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([type(source).__module__])  # imports torch once for all workers
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_start_worker) as pool:
        futures = {pool.submit(_run, out, source, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        finally:
            pool.shutdown(cancel_futures=True)


def _run(out: Path, source: Source, job: Job) -> None:
    records: list[Record] = []
    make = _opened(source)
    write_shard(
        out,
        job.shard,
        make(job, records),
        key=job.key,
        extra=lambda: records,
        latent_dtype=source.latent_dtype,
    )


@cache
def _opened(source: Source) -> Callable[[Job, list[Record]], Iterator[Example]]:
    return source.open()


def _start_worker() -> None:
    """One thread per worker, and no worker that outlives a killed parent."""
    torch.set_num_threads(1)

    def follow_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
