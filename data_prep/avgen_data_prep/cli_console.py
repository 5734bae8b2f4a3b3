"""The terminal of ``avgen prep``: progress bars and lines."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(stderr=True)
_LINE_SECONDS = 30.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Items per second."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


class _Lines:
    """Progress as lines for a log."""

    def __init__(self, description: str, unit: str):
        self.description, self.unit = description, unit
        self.said = -_LINE_SECONDS

    def __call__(self, done: int, total: int) -> None:
        if done >= total or time.monotonic() - self.said >= _LINE_SECONDS:
            self.said = time.monotonic()
            say(f"{self.description}: {done} of {total} {self.unit}")


@contextmanager
def progress_bar(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left; what it gives is called with the numbers done and of all.

    Where nobody watches (output to a file), a line at the start, the end and every half minute.
    """
    if not console.is_terminal:
        yield _Lines(description, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def counting_bar(description: str, unit: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of ``total``; what it gives is called with how many more are done."""
    done = 0
    with progress_bar(description, unit) as progress:

        def advance(number: int) -> None:
            nonlocal done
            done += number
            progress(done, total)

        yield advance


def say(text: str) -> None:
    """Print a line that may hold paths."""
    console.print(Text(text), highlight=False, soft_wrap=True)
