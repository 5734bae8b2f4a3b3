"""``avgen doctor``: what is installed, which attention backend is in use and why, and what is missing."""

import argparse
import importlib
import os
import platform
import shutil
from importlib import metadata

from rich.console import Console
from rich.table import Table
from rich.text import Text

REQUIRED = (
    "torch", "torchaudio", "lightning", "torchmetrics", "xformers", "encodec", "librosa", "datasets",
    "soundfile", "decord", "av", "safetensors", "jsonargparse", "numpy", "scipy", "soxr", "pyarrow",
)  # fmt: skip
OPTIONAL = {"diffusers": "avgen[diffusers]", "transformers": "avgen[diffusers]"}


def installed(distribution: str) -> str | None:
    """Version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def problem(module: str) -> str | None:
    """Why a module does not import, or None."""
    try:
        importlib.import_module(module)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def main(argv: list[str]) -> int:
    """Print the tables; exit status 1 where something required is missing."""
    argparse.ArgumentParser(prog="avgen doctor", description=__doc__).parse_args(argv)
    console = Console()
    packages, healthy = _packages()
    console.print(packages)
    console.print(_machine())
    return 0 if healthy else 1


def _packages() -> tuple[Table, bool]:
    table = Table("package", "version", "state", title="packages")
    healthy = True
    for name in REQUIRED:
        version = installed(name)
        wrong = problem(name) if version else "missing: pip install avgen"
        healthy &= wrong is None
        table.add_row(name, version or "-", Text(wrong or "ok"))
    for name, extra in OPTIONAL.items():
        version = installed(name)
        table.add_row(
            name, version or "-", Text("ok" if version else f"optional: pip install '{extra}'")
        )
    return table, healthy


def _machine() -> Table:
    import torch

    from avgen.checkpoint import shipped
    from avgen.ops.attention import PLAIN_UP_TO, resolve_backend

    table = Table("what", "found", title="machine", show_header=False)
    table.add_row("python", platform.python_version())
    table.add_row("cores", f"{os.cpu_count()} ({torch.get_num_threads()} threads)")
    table.add_row("cpu capability", torch.backends.cpu.get_cpu_capability())
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    table.add_row("cuda devices", ", ".join(devices) or "none")
    for device in ["cpu", *(["cuda"] if devices else [])]:
        name, why = resolve_backend("auto", device)
        if device == "cpu":
            why += f"; up to {PLAIN_UP_TO} keys plain matrix products are faster"
        table.add_row(f"attention on {device}", Text(f"{name} ({why})"))
    table.add_row(
        "C++ compiler", shutil.which("g++") or "none: compile_blocks is not available on the CPU"
    )
    table.add_row("weights that ship", ", ".join(shipped()) or "none")
    return table
