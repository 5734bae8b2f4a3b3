"""From clips to extracts, once per content: decode, measure, keep; in one process, several, or several machines."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from avgen_eval.harness.cache import ERROR, NOT_APPLICABLE, Extract, ExtractCache
from avgen_eval.harness.decode import Decoded, content_hash, decode
from avgen_eval.harness.extractors import Extractor, Integrity
from avgen_eval.harness.manifest import Item

Progress = Callable[[int], None]
KILLED = "decoding or measuring it ended the process (out of memory, or a fault in a library)"


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Settings of an extraction; picklable.

    Attributes:
        extractors: What to measure; `Integrity` is always measured too.
        cache: Folder of the extracts.
    """

    extractors: tuple[Extractor, ...]
    cache: Path

    def run(self, item: Item) -> str:
        """Measure what the cache lacks of one item; an extractor that fails leaves its error there.

        Returns:
            Hash of its content, under which the extracts are kept.
        """
        content, cache = content_hash(item), ExtractCache(self.cache)
        wanted = (Integrity(), *self.extractors)
        missing = [e for e in wanted if _is_missing(cache.get(content, e.signature))]
        if missing:
            decoded = decode(item)
            for extractor in missing:
                cache.put(content, extractor.signature, _extract(extractor, decoded))
        return content

    def run_all(
        self, items: Sequence[Item], *, workers: int = 0, progress: Progress | None = None
    ) -> dict[str, str]:
        """Measure all items.

        A file that kills a worker process is found by running what was under way one by one, and its error is kept; the
        others are not harmed.

        Args:
            items: What to measure.
            workers: Processes; 0 works in this one.
            progress: Called with 1 for each item that is done.

        Returns:
            Hash of the content of each item by its id, for scoring.
        """
        report = progress or (lambda _: None)
        contents: dict[str, str] = {}
        if workers < 1:
            for item in items:
                contents[item.id] = self.run(item)
                report(1)
            return contents
        left = dict(enumerate(items))
        for index, content in self._run_in_pool(items, workers):
            contents[left.pop(index).id] = content
            report(1)
        for item in left.values():
            contents[item.id] = self._run_alone(item)
            report(1)
        return contents

    def _run_in_pool(self, items: Sequence[Item], workers: int) -> Iterator[tuple[int, str]]:
        """Index and content hash of what is done, until all are or a worker dies."""
        with _pool(workers) as pool:
            futures = {pool.submit(self.run, item): index for index, item in enumerate(items)}
            for future in as_completed(futures):
                try:
                    content = future.result()
                except BrokenProcessPool:
                    continue
                yield futures[future], content

    def _run_alone(self, item: Item) -> str:
        with _pool(1) as pool:
            try:
                return pool.submit(self.run, item).result()
            except BrokenProcessPool:
                content, error = content_hash(item), Extract(values={ERROR: KILLED})
                ExtractCache(self.cache).put(content, Integrity().signature, error)
                return content


def _is_missing(extract: Extract | None) -> bool:
    """Errors are tried again: they may have been of that moment."""
    return extract is None or ERROR in extract.values


def _extract(extractor: Extractor, decoded: Decoded) -> Extract:
    if not extractor.applies(decoded):
        return Extract(values={NOT_APPLICABLE: True})
    try:
        return extractor.run(decoded)
    except Exception as error:  # one clip must never end a run
        return Extract(values={ERROR: f"{type(error).__name__}: {error}"})


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(workers, context, initializer=_start_worker)


def _start_worker() -> None:
    """One thread per worker: several that each use all cores slow each other down."""
    import torch

    torch.set_num_threads(1)
