"""The sampler beside the bare evaluations of the network that it makes.

The calls of a sampler are recorded and played back, so the ratio is what the loop itself costs: noise, conditions,
guidance and solver.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from avgen.pipeline import AVPipeline, Request
from avgen.pipeline.pipeline import SOLVER
from avgen.sampling.guidance import Guidance
from avgen.sampling.sampler import Sampler
from avgen_eval.bench.scene import EVENTS, PROMPT
from avgen_eval.bench.setup import Result, Setup, count_parameters
from avgen_eval.bench.timing import Comparison, Prepared

STEPS = (8, 16)
SCALES = {"no guidance": 1.0, "text guidance": 3.0}
BARE, LOOP = "bare network calls", "sampler"


def bench(setup: Setup) -> Result:
    """Seconds per evaluation of the network and per clip, without text encoder and codecs."""
    pipe = AVPipeline.from_pretrained(setup.weights, device=setup.device)
    setup.compile(pipe.network.model.blocks)
    scene = _Scene(pipe, setup)
    evaluation = Comparison(
        "one evaluation, one clip",
        {name: partial(scene.bare, Sampler(1, SOLVER, Guidance(s))) for name, s in SCALES.items()},
    )
    loops = [
        Comparison(f"{steps} steps, {name}", scene.cases(Sampler(steps, SOLVER, Guidance(scale))))
        for steps in STEPS
        for name, scale in SCALES.items()
    ]
    settings = {"weights": setup.weights, "batch": 1}
    return Result(setup.measure([evaluation, *loops]), settings)


class _Recorded:
    """A network that remembers what it was asked."""

    def __init__(self, model: Any) -> None:
        self.model, self.text_keys = model, model.text_keys
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> Any:
        self.calls.append(arguments)
        return self.model(*arguments)


@dataclass(frozen=True)
class _Scene:
    """One clip to sample."""

    pipe: AVPipeline
    setup: Setup

    def cases(self, sampler: Sampler) -> dict[str, Callable[[], Prepared]]:
        return {BARE: partial(self.bare, sampler), LOOP: partial(self.loop, sampler)}

    def loop(self, sampler: Sampler) -> Prepared:
        """The sampler as it is."""
        return self._prepared(self._sampling(sampler, self.pipe.network.model))

    def bare(self, sampler: Sampler) -> Prepared:
        """The evaluations that the sampler makes, and nothing else."""
        model = self.pipe.network.model
        recorded = _Recorded(model)
        self.setup.inference(self._sampling(sampler, recorded))()
        return self._prepared(lambda: [model(*arguments) for arguments in recorded.calls])

    def _sampling(self, sampler: Sampler, model: Any) -> Callable[[], object]:
        request = Request(prompt=PROMPT, events=EVENTS)
        layout = self.pipe.layout(request)
        caption = request.caption(layout.duration)
        encode = self.pipe.network.text_encoder
        with torch.inference_mode(), self.setup.precision():
            text, empty = encode([caption]), encode([caption.replace(text="", events=())])
        return lambda: sampler.sample(
            model, layout, text, empty, [torch.Generator().manual_seed(0)]
        )

    def _prepared(self, run: Callable[[], object]) -> Prepared:
        return Prepared(self.setup.inference(run), count_parameters([self.pipe.network.model]))
