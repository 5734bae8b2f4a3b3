"""One clip end to end: caption in, clip out, file written."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from avgen.pipeline import AVPipeline
from avgen_eval.bench.scene import EVENTS, PROMPT
from avgen_eval.bench.setup import Result, Setup
from avgen_eval.bench.timing import Comparison, Measurement, Prepared, short

WAYS: dict[str, dict[str, Any]] = {
    "16 steps, guided at first (default)": {"steps": 16},
    "16 steps, guided throughout": {"steps": 16, "guidance": 3.0},
    "16 steps, no guidance": {"steps": 16, "guidance": 1.0},
    "8 steps, no guidance": {"steps": 8, "guidance": 1.0},
}


def bench(setup: Setup) -> Result:
    """Seconds to make one clip of two seconds, to load the weights for it, and to write it."""
    load = partial(AVPipeline.from_pretrained, setup.weights, device=setup.device)
    pipe = load()
    setup.compile(pipe.network.model.blocks)
    clip = pipe(PROMPT, events=EVENTS, steps=2)
    cases = {
        name: lambda o=options: Prepared(partial(pipe, PROMPT, events=EVENTS, **o))
        for name, options in WAYS.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        write = partial(clip.save, Path(folder) / "clip.mp4")
        measurements = setup.measure(
            [
                Comparison(f"clip of {clip.duration:.2f} s", cases),
                Comparison("before it", {"weights loaded": lambda: Prepared(load)}),
                Comparison("after it", {"MP4 written": lambda: Prepared(write)}),
            ]
        )
    settings = {"weights": setup.weights, "dtype": "as the pipeline has it"}
    return Result(measurements, settings, headline(measurements[0]))


def headline(clip: Measurement) -> dict[str, Any]:
    """Median and worst seconds of a clip as it is made by default; None where it cannot run."""
    return {
        "clip_seconds_median": clip.to_dict().get("median"),
        "clip_seconds_worst": short(max(clip.seconds)) if clip.seconds else None,
    }
