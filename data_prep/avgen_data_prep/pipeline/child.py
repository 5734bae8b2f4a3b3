"""A worker process: source rows on standard input, outcomes on standard output, a line each.

The first line in are the settings, the first line out is empty: ready.

Libraries that print cannot disturb the answers: they are given standard error instead.
"""

import json
import os
import queue
import sys
import threading
from typing import TextIO


def main() -> None:
    """Process rows until standard input ends, or the parent does."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, lines), daemon=True).start()

    from avgen_data_prep.pipeline.process import Processor, Settings, answer_of

    process = Processor(Settings(**json.loads(lines.get())))
    answers.write("\n")  # ready: from here on time counts
    while True:
        answers.write(answer_of(process, json.loads(lines.get())) + "\n")


def _listen(stream: TextIO, lines: "queue.Queue[str]") -> None:
    """Pass on lines; the end of the stream means that nobody waits for answers any more."""
    for line in stream:
        lines.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
