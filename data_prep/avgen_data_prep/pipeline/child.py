"""A worker process: source rows on standard input, outcomes on standard output, a line each.

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

    from avgen_data_prep.pipeline.process import Processor, Settings, outcome_json
    from avgen_data_prep.pipeline.spec import PipelineError

    try:
        process = Processor(Settings(**json.loads(lines.get())))
        while True:
            answers.write(outcome_json(process(json.loads(lines.get()))) + "\n")
    except PipelineError as error:
        answers.write(json.dumps({"stop": str(error)}) + "\n")
        answers.flush()
        lines.get()  # until the parent closes the pipe


def _listen(stream: TextIO, lines: "queue.Queue[str]") -> None:
    """Pass on lines; the end of the stream means that nobody waits for answers any more."""
    for line in stream:
        lines.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
