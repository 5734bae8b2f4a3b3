"""A worker process that may die: a source that kills it, or never ends, is rejected, and the run goes on."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from typing import Any

from avgen_data_prep.pipeline.process import Outcome, Processor, Settings
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.pipeline.stage import Row

_ATTEMPTS = 2
_TOLD = 300


class Sandbox:
    """Processes sources in a process of its own, which is started anew when it dies.

    Args:
        settings: What to do and where.
        timeout: Seconds that a source may take.
    """

    def __init__(self, settings: Settings, timeout: float):
        self.settings = settings
        self.timeout = timeout
        self._child: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the sandbox

    def __call__(self, source: Row) -> Outcome:
        """The outcome of a source; one that kills its process twice, or once takes too long, is rejected.

        Raises:
            PipelineError: The run as a whole cannot go on.
        """
        reason = ""
        for _ in range(_ATTEMPTS):
            answer = self._ask(source)
            if isinstance(answer, dict):
                if "stop" in answer:
                    raise PipelineError(answer["stop"])
                return Outcome(**answer)
            reason = answer
            if reason.startswith("took"):
                break
        return Processor(self.settings).reject(source, reason)

    def close(self) -> None:
        """End the process for good."""
        self.end()
        self._errors.close()

    def kill(self) -> None:
        """Make the process end, while another thread waits for its answer."""
        if (child := self._child) is not None:
            child.kill()

    def end(self) -> None:
        """End the process; the next source starts another."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
        self._child = None

    def _ask(self, source: Row) -> dict[str, Any] | str:
        """The answer, or why there is none."""
        child = self._started()
        try:
            _send(child, source)
            line = _line(child, self.timeout)
        except TimeoutError:
            self.end()
            return f"took longer than {self.timeout:g} s; raise --timeout, or leave it out"
        except OSError:
            line = b""
        if line:
            return json.loads(line)
        code = child.wait()
        said = self._last_words()
        self.end()
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"ends the process that works on it ({name}){said}"

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._child is None or self._child.poll() is not None:
            self.end()
            self._errors.seek(0)
            self._errors.truncate()
            self._child = subprocess.Popen(
                [sys.executable, "-m", "avgen_data_prep.pipeline.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            _send(self._child, asdict(self.settings))
        return self._child

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1][:_TOLD]}" if lines else ""


def _send(child: "subprocess.Popen[bytes]", value: Any) -> None:
    assert child.stdin is not None
    child.stdin.write(json.dumps(value).encode() + b"\n")
    child.stdin.flush()


def _line(child: "subprocess.Popen[bytes]", timeout: float) -> bytes:
    """One line of answer; empty where the process ended.

    Raises:
        TimeoutError: None came in time.
    """
    assert child.stdout is not None
    descriptor, read, end = child.stdout.fileno(), b"", time.monotonic() + timeout
    while not read.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise TimeoutError
        more = os.read(descriptor, 1 << 16)
        if not more:
            return b""
        read += more
    return read
