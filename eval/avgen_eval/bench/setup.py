"""What the benches have in common: the setup they run in and the form of their results."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from avgen.checkpoint import find_weights
from avgen.cli.doctor import installed
from avgen.model.config import preset
from avgen.model.layout import Layout
from avgen.ops.precision import computes_bfloat16
from avgen_eval.bench.timing import Comparison, Measurement, clock_of, compare, reason_of

PACKAGES = ("torch", "xformers", "diffusers", "encodec")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How the benches run.

    Attributes:
        device: ``cpu`` or a CUDA device.
        repeats: Turns of each case, at least 2.
        preset: Size of the network in the benches of training and attention.
        batch: Clips per training step.
        weights: Weights for the sampler and for generation.
        compiled: Whether networks are compiled, ours and the peers' alike.
        budget: Seconds that all turns of a row of growing length may take; longer ones are left out.
        peak_tflops: Dense bfloat16 peak of the device in TFLOP/s, for the share of it that is used; None: unknown.
        dtype: ``bfloat16`` or ``float32``: of attention, and of the autocast of training step and sampler.

    Raises:
        ValueError: A value that cannot be used, a device that is not there, unknown weights or preset.
    """

    device: str = "cpu"
    repeats: int = 10
    preset: str = "tiny"
    batch: int = 16
    weights: str = "tiny"
    compiled: bool = False
    budget: float = 120.0
    peak_tflops: float | None = None
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        if self.repeats < 2:
            raise ValueError(f"repeats {self.repeats}: quartiles need at least 2")
        if self.batch < 1:
            raise ValueError(f"batch {self.batch}: a training step needs at least 1 clip")
        if not self.budget > 0:
            raise ValueError(f"budget {self.budget}: a row needs more than 0 seconds")
        if self.peak_tflops is not None and not self.peak_tflops > 0:
            raise ValueError(f"peak_tflops {self.peak_tflops}: a device does more than 0 TFLOP/s")
        _check_device(self.device)
        preset(self.preset)
        find_weights(self.weights)

    def measure(self, comparisons: Iterable[Comparison]) -> list[Measurement]:
        """Time the cases of each comparison by turns."""
        clock = clock_of(self.device)
        return [m for c in comparisons for m in compare(c, repeats=self.repeats, clock=clock)]

    def compile(self, modules: Iterable[nn.Module]) -> None:
        """Compile modules in place where this setup asks for it."""
        if self.compiled:
            for module in modules:
                module.compile()

    def ways(self) -> dict[str, "Setup"]:
        """Not compiled, and besides compiled where this setup asks for it, by what titles add."""
        ways: dict[str, Setup] = {"": replace(self, compiled=False)}
        if self.compiled:
            ways[", compiled"] = self
        return ways

    def precision(self) -> torch.autocast:
        """Autocast to bfloat16, or none for float32."""
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.dtype == "bfloat16")

    def inference(self, run: Callable[[], object]) -> Callable[[], object]:
        """``run`` without gradients, in the `precision` of the setup."""

        def inferred() -> object:
            with torch.inference_mode(), self.precision():
                return run()

        return inferred

    def environment(self) -> dict[str, Any]:
        """What a figure depends on besides revision and hardware."""
        return {
            "device": self.device,
            "threads": torch.get_num_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "dtype": self.dtype,
            "compiled": self.compiled,
            "repeats": self.repeats,
            "versions": {name: installed(name) for name in PACKAGES},
        }


@dataclass(frozen=True)
class Result:
    """What a bench found.

    Attributes:
        measurements: All cases.
        settings: What they were measured on.
        headline: Figures that documents quote, by name.
    """

    measurements: list[Measurement]
    settings: dict[str, Any]
    headline: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        rows = [measurement.to_dict() for measurement in self.measurements]
        return {**self.headline, **self.settings, "rows": rows}


def count_parameters(modules: Iterable[nn.Module]) -> int:
    """Parameters of all modules together."""
    return sum(p.numel() for module in modules for p in module.parameters())


def random_tokens(layout: Layout, rows: int, setup: Setup) -> dict[str, Tensor]:
    """Random latents of every stream, ``(rows, N, A)``."""
    values = {name: s.channels * s.patch**2 for name, s in layout.config.streams.items()}
    return {
        name: torch.randn(rows, len(grid), values[name], device=setup.device)
        for name, grid in layout.grids.items()
    }


def default_dtype(device: str) -> str:
    """bfloat16, except on processors that only emulate it, many times slower.

    Raises:
        ValueError: The device cannot be used.
    """
    _check_device(device)
    fast = computes_bfloat16(device)
    return "bfloat16" if fast else "float32"


def _check_device(name: str) -> None:
    try:
        kind = torch.device(name).type
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name!r} cannot be used: {reason_of(error)}; use cpu, or cuda where there is a GPU"
        ) from None
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r}: the benches time the cpu and cuda devices only")
