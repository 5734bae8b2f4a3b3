"""From clips to extracts, once per content: decode, measure, keep; in one process, several, or several machines."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from avgen_eval.harness.cache import Extract, ExtractCache
from avgen_eval.harness.decode import Decoded, content_hash, decode
from avgen_eval.harness.extractors import Extractor, Integrity
from avgen_eval.harness.manifest import Item

Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """What is known of one item after extraction.

    Attributes:
        item: The item.
        content: Hash of its files.
        errors: By extractor, why it gave nothing; ``integrity`` holds what stopped everything.
    """

    item: Item
    content: str
    errors: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Settings of an extraction; picklable.

    Attributes:
        extractors: What to measure; `Integrity` is always measured first.
        cache: Folder of the extracts.
    """

    extractors: tuple[Extractor, ...]
    cache: Path

    def run(self, item: Item) -> Extracted:
        """Measure what the cache lacks of one item."""
        content, cache = content_hash(item), ExtractCache(self.cache)
        wanted = (Integrity(), *self.extractors)
        missing = [e for e in wanted if cache.get(content, e.signature) is None]
        if not missing:
            return Extracted(item=item, content=content, errors={})
        decoded = decode(item)
        errors: dict[str, str] = {}
        for extractor in missing:
            error = _run_one(extractor, decoded, content, cache)
            if error:
                errors[extractor.name] = error
        return Extracted(item=item, content=content, errors=errors)

    def run_all(
        self, items: Sequence[Item], *, workers: int = 0, progress: Progress | None = None
    ) -> list[Extracted]:
        """Measure all items, in their order.

        A file that kills a worker process is found by running what was under way one by one, and is reported; the
        others are not harmed.

        Args:
            items: What to measure.
            workers: Processes; 0 works in this one.
            progress: Called with 1 for each item that is done.
        """
        report = progress or (lambda _: None)
        if workers < 1:
            return [_counted(self.run(item), report) for item in items]
        done: dict[int, Extracted] = {}
        for index, result in self._run_in_pool(dict(enumerate(items)), workers):
            done[index] = _counted(result, report)
        for index in range(len(items)):
            if index not in done:
                done[index] = _counted(self._run_alone(items[index]), report)
        return [done[index] for index in range(len(items))]

    def _run_in_pool(self, items: dict[int, Item], workers: int) -> Iterator[tuple[int, Extracted]]:
        """Results until all are there or a worker dies."""
        with _pool(workers) as pool:
            futures: dict[Future[Extracted], int] = {
                pool.submit(self.run, item): index for index, item in items.items()
            }
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool:
                    continue

    def _run_alone(self, item: Item) -> Extracted:
        with _pool(1) as pool:
            try:
                return pool.submit(self.run, item).result()
            except BrokenProcessPool:
                reason = "decoding or measuring it ended the process (out of memory, or a fault in a library)"
                return Extracted(item=item, content="", errors={Integrity.name: reason})


def _run_one(
    extractor: Extractor, decoded: Decoded, content: str, cache: ExtractCache
) -> str | None:
    if not extractor.applies(decoded):
        cache.put(content, extractor.signature, Extract(values={"not_applicable": True}))
        return None
    try:
        cache.put(content, extractor.signature, extractor.run(decoded))
    except Exception as error:  # one clip must never end a run
        return f"{type(error).__name__}: {error}"
    return None


def _counted(result: Extracted, report: Progress) -> Extracted:
    report(1)
    return result


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(workers, context, initializer=_start_worker)


def _start_worker() -> None:
    """One thread per worker: several that each use all cores slow each other down."""
    import torch

    torch.set_num_threads(1)
