"""A worker process that may die: a source that kills it, or never ends, is rejected, and the run goes on."""

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from typing import Any

from avgen_data_prep.pipeline.process import Outcome, Processor, Settings, read_answer
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.pipeline.stage import Row

_ATTEMPTS = 2
_START = 600.0
_TOLD = 300
_log = logging.getLogger(__name__)


class _TimeUpError(Exception):
    """A source has not been answered in its time."""


class _DiedError(Exception):
    """A source has taken its process down."""


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
            try:
                return read_answer(self._ask(source))
            except _TimeUpError as error:
                reason = str(error)
                break
            except _DiedError as error:
                reason = str(error)
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

    def _ask(self, source: Row) -> bytes:
        """The answer; raises _TimeUpError or _DiedError where there is none."""
        child = self._started()
        try:
            _send(child, source)
            line = _line(child, self.timeout)
        except TimeoutError:
            self.end()
            raise _TimeUpError(
                f"took longer than {self.timeout:g} s; raise --timeout and add --retry-failed, or leave it out"
            ) from None
        except OSError:
            line = b""
        if not line:
            how, said = self._death()
            # Not in the reason: it may differ from time to time, and a manifest must not.
            _log.warning("%s: ends its process (%s): %s", source["source"], how, said)
            raise _DiedError(f"ends the process that works on it ({how})")
        return line

    def _started(self) -> "subprocess.Popen[bytes]":
        """The process, ready for a source: starting it is not in a source's time."""
        if self._child is not None and self._child.poll() is None:
            return self._child
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
        try:
            _send(self._child, asdict(self.settings))
            ready = _line(self._child, _START)
        except TimeoutError:
            self._child.kill()
            ready = b""
        except OSError:
            ready = b""
        if not ready:
            how, said = self._death()
            raise PipelineError(f"a worker process does not start ({how}): {said}")
        return self._child

    def _death(self) -> tuple[str, str]:
        """How the process has ended, and its last words."""
        assert self._child is not None
        code = self._child.wait()
        self.end()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return how, lines[-1][:_TOLD] if lines else "it said nothing"


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
