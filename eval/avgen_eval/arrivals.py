"""When the chunks of a live stream arrived: a JSONL file beside a clip, its writer and its reader.

One line per chunk and stream, in the order in which they play::

    {"stream": "video", "time": 0.412, "duration": 0.16}
    {"stream": "audio", "time": 0.412, "duration": 0.16}

``time`` is in wall-clock seconds since the request, when the chunk could be played; ``duration`` is in seconds of
media. The file of ``clip.mp4`` is ``clip.arrivals.jsonl``.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from avgen.clip import Clip
from avgen.data.schema import atomic
from avgen_eval.metrics.live import Arrivals

SUFFIX = ".arrivals.jsonl"
STREAMS = ("video", "audio")
MAX_BYTES = 64 << 20
_FIELDS = {"stream", "time", "duration"}
Chunk = TypeVar("Chunk")


class ArrivalError(ValueError):
    """Arrivals that cannot be read; the message names the line and what is wrong, not the file."""


def media_seconds(chunk: Clip) -> dict[str, float]:
    """Seconds of media in each stream of a chunk that is a `Clip`."""
    found = {}
    if chunk.frames is not None:
        found["video"] = float(len(chunk.frames) / chunk.fps)
    if chunk.waveform is not None:
        found["audio"] = chunk.waveform.shape[1] / chunk.sample_rate
    return found


class ArrivalRecorder:
    """Notes when each chunk of a live session arrives; make one at the moment of the request.

    Args:
        clock: Gives seconds that never decrease; asked now, and as each chunk arrives.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._start = clock()
        self._rows: list[dict[str, Any]] = []

    def watch(
        self,
        chunks: Iterable[Chunk],
        seconds: Callable[[Chunk], Mapping[str, float]] = media_seconds,  # type: ignore[assignment]
    ) -> Iterator[Chunk]:
        """The same chunks, each noted as it comes.

        Args:
            chunks: What the session yields.
            seconds: Seconds of media in each stream of a chunk, by ``video`` and ``audio``.
        """
        for chunk in chunks:
            self.add(seconds(chunk))
            yield chunk

    def add(self, seconds: Mapping[str, float]) -> None:
        """Note a chunk that has just arrived, by the seconds of media in each of its streams.

        Raises:
            ValueError: No stream, another name than ``video`` and ``audio``, or seconds that are not positive.
        """
        now = self._clock() - self._start
        if not seconds:
            raise ValueError(f"a chunk has no stream; give seconds of {' or '.join(STREAMS)}")
        for stream, duration in seconds.items():
            if stream not in STREAMS or not 0 < duration < float("inf"):
                raise ValueError(
                    f"a chunk has {duration} s of {stream!r}; give positive seconds of {' or '.join(STREAMS)}"
                )
        self._rows += [
            {"stream": stream, "time": now, "duration": duration}
            for stream, duration in seconds.items()
        ]

    def save(self, path: str | Path) -> Path:
        """Write what was noted; a file of that name is replaced at once or not at all.

        Args:
            path: The clip (``clip.mp4`` gives ``clip.arrivals.jsonl``), or a file that ends in ``.jsonl``.

        Raises:
            ValueError: No chunk arrived.
        """
        if not self._rows:
            raise ValueError("no chunk arrived, so there is nothing to save")
        path = Path(path)
        path = path if path.suffix == ".jsonl" else path.with_suffix(SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self._rows))
        return path


def read_arrivals(path: str | Path) -> dict[str, Arrivals]:
    """Arrivals of each stream that the file names.

    Raises:
        ArrivalError: Not a file, above 64 MB, not text, a line that is not such an object, times that decrease within
            a stream, or no chunk at all.
    """
    rows: dict[str, list[tuple[float, float]]] = {}
    for number, line in enumerate(_lines(Path(path)), start=1):
        if line.strip():
            stream, *numbers = _row(line, number)
            rows.setdefault(stream, []).append((numbers[0], numbers[1]))
    if not rows:
        raise ArrivalError("holds no chunk; write one JSON object per line")
    try:
        return {stream: _arrivals(stream, pairs) for stream, pairs in rows.items()}
    except ValueError as error:
        raise ArrivalError(str(error)) from error


def _lines(path: Path) -> list[str]:
    try:
        if not path.is_file():
            raise ArrivalError("file does not exist")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ArrivalError(f"is {size} bytes long, above the limit of {MAX_BYTES}")
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ArrivalError(f"cannot be read as text ({reason})") from error


def _row(line: str, number: int) -> tuple[str, float, float]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ArrivalError(f"line {number} is not JSON; write one object per line") from error
    if not isinstance(row, dict) or set(row) != _FIELDS or row["stream"] not in STREAMS:
        raise ArrivalError(
            f"line {number} is {line.strip()[:80]!r}; it needs `stream` ({' or '.join(STREAMS)}), `time` and `duration`"
        )
    for name in ("time", "duration"):
        if isinstance(row[name], bool) or not isinstance(row[name], int | float):
            raise ArrivalError(f"line {number}: {name} is {row[name]!r}; give seconds as a number")
    try:
        return row["stream"], float(row["time"]), float(row["duration"])
    except OverflowError as error:
        raise ArrivalError(f"line {number} has a number that is too large") from error


def _arrivals(stream: str, pairs: list[tuple[float, float]]) -> Arrivals:
    times, durations = np.array(pairs).T
    try:
        return Arrivals(times, durations)
    except ValueError as error:
        raise ValueError(f"{stream}: {error}") from error
