"""The larger networks on a GPU: a training step and an evaluation, and the share of the device's peak they use."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from avgen.model.config import preset
from avgen_eval.bench import clip_length, training_step
from avgen_eval.bench.setup import Result, Setup
from avgen_eval.bench.timing import Comparison, Measurement, Prepared

PRESETS = ("small", "base")
TFLOP = 1e12
EVALUATED_SECONDS = 10


def bench(setup: Setup) -> Result:
    """Seconds of a training step and of an evaluation, with operations and, given the peak, the MFU."""
    comparisons = [
        Comparison(what, {name: partial(build, name, setup) for name in PRESETS})
        for what, build in {"training step": _step, "one evaluation": _evaluation}.items()
    ]
    if torch.device(setup.device).type != "cuda":
        reason = f"device {setup.device}: these sizes are timed on a GPU; use --device cuda"
        rows = [Measurement(c.title, name, reason=reason) for c in comparisons for name in c.cases]
    else:
        rows = [with_mfu(row, setup.peak_tflops) for row in setup.measure(comparisons)]
    settings = {"batch": setup.batch, "peak_tflops": setup.peak_tflops or "not given"}
    return Result(rows, settings)


def with_mfu(row: Measurement, peak_tflops: float | None) -> Measurement:
    """A row with model FLOPs utilisation: its operations over its median time and the peak of the device."""
    if row.quartiles is None or peak_tflops is None:
        return row
    used = row.figures["TFLOP"] / row.quartiles.median / peak_tflops
    return replace(row, figures={**row.figures, "MFU": used})


def counted(prepared: Prepared) -> Prepared:
    """A case with the operations of one run by PyTorch's counter, which may not know the attention of xformers."""
    with FlopCounterMode(display=False) as counter:
        prepared.run()
    figures = {**prepared.figures, "TFLOP": counter.get_total_flops() / TFLOP}
    return replace(prepared, figures=figures)


def _step(name: str, setup: Setup) -> Prepared:
    return _built(lambda way: training_step.ours(preset(name), way), setup)


def _evaluation(name: str, setup: Setup) -> Prepared:
    config = preset(name)
    return _built(lambda way: clip_length.evaluation(EVALUATED_SECONDS, config, way), setup)


def _built(build: Callable[[Setup], Prepared], setup: Setup) -> Prepared:
    """A case of which the operations are counted before it is compiled: a compiled graph hides them."""
    if not setup.compiled:
        return counted(build(setup))
    figures: dict[str, Any] = dict(counted(build(replace(setup, compiled=False))).figures)
    return replace(build(setup), figures=figures)
