"""What schedules sources: this process, worker processes, or Ray Data. All that is left to do is in the ledger."""

import json
import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from avgen_data_prep.pipeline.process import Outcome, Processor, Settings, answer_of, read_answer
from avgen_data_prep.pipeline.sandbox import Sandbox
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.pipeline.stage import Row


class Executor(ABC):
    """Takes sources through the stages, in any order and at most once each at a time."""

    @abstractmethod
    def run(self, settings: Settings, sources: Sequence[Row]) -> Iterator[Outcome]:
        """Outcomes as they come.

        Raises:
            PipelineError: The run as a whole cannot go on.
        """


class InProcess(Executor):
    """One source after the other, here: for a debugger. A source that kills its process ends the run."""

    def run(self, settings: Settings, sources: Sequence[Row]) -> Iterator[Outcome]:
        """Outcomes in the order of the sources."""
        process = Processor(settings)
        return (process(source) for source in sources)


class Processes(Executor):
    """Worker processes of this machine.

    Args:
        workers: How many.
        timeout: Seconds that a source may take.
    """

    def __init__(self, workers: int, timeout: float):
        if workers < 1:
            raise PipelineError(f"{workers} workers cannot work; give at least 1")
        self.workers = workers
        self.timeout = timeout

    def run(self, settings: Settings, sources: Sequence[Row]) -> Iterator[Outcome]:
        """Outcomes as they come."""
        todo: queue.SimpleQueue[Row] = queue.SimpleQueue()
        for source in sources:
            todo.put(source)
        done: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
        stop = threading.Event()
        boxes = [Sandbox(settings, self.timeout) for _ in range(min(self.workers, len(sources)))]
        threads = [
            threading.Thread(target=_serve, args=(box, todo, done, stop), daemon=True)
            for box in boxes
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in sources:
                outcome = done.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
        finally:
            stop.set()
            for box, thread in zip(boxes, threads, strict=True):
                while thread.is_alive():  # it may be about to start another process
                    box.kill()
                    thread.join(0.1)
                box.close()


def _serve(
    box: Sandbox,
    todo: "queue.SimpleQueue[Row]",
    done: "queue.SimpleQueue[Outcome | BaseException]",
    stop: threading.Event,
) -> None:
    while not stop.is_set():
        try:
            source = todo.get_nowait()
        except queue.Empty:
            return
        try:
            done.put(box(source))
        except BaseException as error:  # the thread that waits raises it
            done.put(error)
            return


class Ray(Executor):
    """Worker processes on a Ray cluster, scheduled by Ray Data; folders must be seen by all its nodes.

    Args:
        workers: How many.
        timeout: Seconds that a source may take.
        address: Of a cluster; None starts one on this machine.
    """

    def __init__(self, workers: int, timeout: float, address: str | None = None):
        self.workers = workers
        self.timeout = timeout
        self.address = address

    def run(self, settings: Settings, sources: Sequence[Row]) -> Iterator[Outcome]:
        """Outcomes as they come."""
        try:
            import ray
        except ImportError:
            raise PipelineError("Ray is not installed; pip install 'avgen[ray]'") from None
        if not ray.is_initialized():
            ray.init(address=self.address, logging_level=logging.ERROR, log_to_driver=False)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = [{"source": json.dumps(source)} for source in sources]
        # One block per source: a block's outcomes come when all of it is done.
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _RayWorker,  # type: ignore[arg-type]
            fn_constructor_args=(settings, self.timeout),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self.workers),
            num_cpus=1,
        )
        for row in data.iter_rows():
            yield read_answer(row["answer"])


class _RayWorker:
    def __init__(self, settings: Settings, timeout: float):
        self.box = Sandbox(settings, timeout)

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        return {"answer": answer_of(self.box, json.loads(row["source"]))}
