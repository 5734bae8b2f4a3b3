"""Kinds of GPU as dated inputs: what their data sheets say."""

import datetime
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

GIB = 1 << 30
_FIELDS = {"name", "memory_gib", "tflops_bf16", "tflops_fp32", "date", "source"}
_MFU_FIELDS = {"share", "date", "source"}


@dataclass(frozen=True, kw_only=True)
class MeasuredMfu:
    """Model FLOP utilisation that was measured on a GPU.

    Attributes:
        share: Of the peak in bf16.
        date: Of the measurement.
        source: What ran.
    """

    share: float
    date: datetime.date
    source: str


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        kind: Its key in the file.
        name: In full.
        memory_gib: What CUDA reports.
        tflops_bf16: Dense, 10^12 per second.
        tflops_fp32: Without TF32.
        date: When the data sheet was read.
        source: The data sheet.
        mfu: What was measured on it.
    """

    kind: str
    name: str
    memory_gib: float
    tflops_bf16: float
    tflops_fp32: float
    date: datetime.date
    source: str
    mfu: MeasuredMfu | None = None

    @property
    def memory(self) -> float:
        """Bytes."""
        return self.memory_gib * GIB

    def peak(self, precision: str) -> float:
        """Operations per second in a precision."""
        return 1e12 * (self.tflops_fp32 if precision == "32-true" else self.tflops_bf16)


def load_gpu(kind: str, path: Path | None = None) -> Gpu:
    """A kind of GPU from a file; None takes the file that comes with avgen.

    Raises:
        ValueError: The file is missing or of another form, or has no such kind.
    """
    place = "the GPUs of avgen" if path is None else str(path)
    packaged = files("avgen_data_prep") / "plan" / "model" / "gpus.yaml"
    try:
        data = yaml.safe_load(packaged.read_text() if path is None else path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{place}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("gpus"), dict):
        raise ValueError(f"{place}: give a mapping `gpus`")
    if kind not in data["gpus"]:
        known = ", ".join(map(str, data["gpus"]))
        raise ValueError(
            f"no GPU {kind!r} in {place}; there are {known}; give a file that has it with --gpu-file"
        )
    return _gpu(kind, data["gpus"][kind], place)


def _gpu(kind: str, item: Any, place: str) -> Gpu:
    if not isinstance(item, dict) or set(item) - {"mfu"} != _FIELDS:
        given = sorted(map(str, item)) if isinstance(item, dict) else repr(item)
        raise ValueError(
            f"{place}: {kind} has {given}; give {', '.join(sorted(_FIELDS))}, and mfu if measured"
        )
    for name in ("memory_gib", "tflops_bf16", "tflops_fp32"):
        if type(item[name]) not in (int, float) or not item[name] > 0:
            raise ValueError(f"{place}: {kind}: {name} is {item[name]!r}; give a number above 0")
    return Gpu(kind=kind, **{**item, "mfu": _mfu(kind, item.get("mfu"), place)})


def _mfu(kind: str, item: Any, place: str) -> MeasuredMfu | None:
    if item is None:
        return None
    if not isinstance(item, dict) or set(item) != _MFU_FIELDS or not 0 < item["share"] < 1:
        raise ValueError(
            f"{place}: {kind}: mfu is {item!r}; give {', '.join(sorted(_MFU_FIELDS))}, "
            "the share between 0 and 1"
        )
    return MeasuredMfu(**item)
