"""Networks that no kept library has: run as exported files whose signature is declared and tried on load.

A ``.pt2`` file (torch.export) is a graph of tensor operators. A TorchScript file is a program. The loaders of both,
and of ONNX, are not a sandbox: load files that you made or trust.
"""

import math
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avgen_eval.weighted.weights import DOCS, WeightsError, WeightsUnavailableError, first_line

TOLERANCE = 0.01
Run = Callable[[Mapping[str, Tensor]], Any]
"""Tensors by the file's own names to what the file returns."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: As in the signature of ``forward``, or the key of an output dictionary.
        shape: Lengths; a text names an axis of any length, the same wherever it stands.
        dtype: Exactly this.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        lengths = ", ".join(map(str, self.shape))
        return f"{self.name} ({lengths}) {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What an exported file takes and gives.

    Attributes:
        inputs: In the order of ``forward``.
        outputs: In order, or by name where the file returns a dictionary.
        trials: Lengths of the free axes for the dry runs; the first row of the first is then run alone, which shows
            that rows are free and do not depend on each other.
        options: Arguments of ``forward`` that are no tensors, for TorchScript files that have them.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    trials: tuple[Mapping[str, int], ...] = ({"B": 2},)
    options: Mapping[str, bool] = field(default_factory=dict)

    def __str__(self) -> str:
        sides = (", ".join(map(str, side)) for side in (self.inputs, self.outputs))
        return " -> ".join(sides)


class ExportedModel:
    """A file that was loaded, tried, and found to keep its signature.

    Args:
        path: A ``.pt2``, TorchScript or ``.onnx`` file; which of the first two is seen from its content.
        signature: What it must take and give.
        device: Where to run it.

    Raises:
        WeightsError: The file is something else, does not run, gives other names, shapes or types or values that are
            not finite, or another answer to the same row.
    """

    def __init__(self, path: Path, signature: Signature, device: str = "cpu") -> None:
        self.path, self.signature, self.device = path, signature, torch.device(device)
        self._run, names = _load(path, signature, self.device)
        self._names = self._match(names)
        first, *others = map(self._ramps, signature.trials)
        whole = self(**first)
        self._compare(whole, self(**{name: value[:1] for name, value in first.items()}))
        for inputs in others:
            self(**inputs)

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Outputs by declared name, on the CPU.

        Raises:
            WeightsError: The file fails on these inputs, or gives what it should not.
        """
        spec = self.signature
        lengths = {
            axis: length
            for tensor in spec.inputs
            for axis, length in zip(tensor.shape, inputs[tensor.name].shape, strict=True)
            if isinstance(axis, str)
        }
        arguments = {
            own: inputs[name].to(self.device, tensor.dtype)
            for tensor, (name, own) in zip(spec.inputs, self._names.items(), strict=True)
        }
        try:
            with torch.no_grad():  # states of metrics outlive the inference mode
                outputs = self._run(arguments)
        except Exception as error:  # whatever an exported graph may raise
            shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in inputs.items())
            raise self._error(f"fails on {shapes}: {first_line(error)}") from error
        return self._checked(outputs, lengths)

    def batched(self, size: int, **inputs: Tensor) -> dict[str, Tensor]:
        """The same, ``size`` rows at a time."""
        count = len(next(iter(inputs.values())))
        parts = [
            self(**{name: value[i : i + size] for name, value in inputs.items()})
            for i in range(0, count, size)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _match(self, own: Sequence[str]) -> dict[str, str]:
        """Declared names to the file's; a single input may have any name."""
        declared = [tensor.name for tensor in self.signature.inputs]
        if len(own) == len(declared) == 1:
            return {declared[0]: own[0]}
        if set(own) != set(declared):
            raise self._error(f"takes inputs {', '.join(own) or 'none'}")
        return {name: name for name in declared}

    def _ramps(self, lengths: Mapping[str, int]) -> dict[str, Tensor]:
        """Inputs that are cheap where they have millions of values, and different in every row."""
        shapes = {tensor.name: _bound(tensor, lengths) for tensor in self.signature.inputs}
        return {n: torch.linspace(-1, 1, math.prod(s)).view(s) for n, s in shapes.items()}

    def _compare(self, rows: Mapping[str, Tensor], alone: Mapping[str, Tensor]) -> None:
        """Dropout and batch statistics that were left on show in a row that is run again, alone."""
        for name, value in rows.items():
            gap = (value[:1] - alone[name]).abs().max()
            if gap > TOLERANCE * value.abs().max():
                raise self._error(
                    f"gives another {name} for the same row: call eval() on the module before the export"
                )

    def _checked(self, outputs: Any, lengths: Mapping[str, int]) -> dict[str, Tensor]:
        specs = self.signature.outputs
        if isinstance(outputs, Tensor):
            outputs = (outputs,)
        named = isinstance(outputs, Mapping)
        values = [outputs.get(spec.name) for spec in specs] if named else list(outputs)
        if len(values) != len(specs) or not all(isinstance(value, Tensor) for value in values):
            raise self._error(f"gives {len(values)} outputs, or others than tensors of those names")
        for spec, value in zip(specs, values, strict=True):
            shape = _bound(spec, lengths)
            if tuple(value.shape) != shape or value.dtype != spec.dtype:
                got = f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
                raise self._error(f"gives {spec.name} {got} where {shape} is due")
            if not bool(torch.isfinite(value).all()):
                raise self._error(f"gives values of {spec.name} that are not finite")
        return {spec.name: value.cpu() for spec, value in zip(specs, values, strict=True)}

    def _error(self, what: str) -> WeightsError:
        return WeightsError(
            f"{self.path} {what}; it must be exported as {self.signature}, with free axes, see {DOCS}"
        )


def _bound(spec: TensorSpec, lengths: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(lengths[axis] if isinstance(axis, str) else axis for axis in spec.shape)


def _load(path: Path, signature: Signature, device: torch.device) -> tuple[Run, list[str]]:
    """A function of tensors by name, and those names."""
    kind = _kind(path)
    loaders = {"pt2": _load_pt2, "torchscript": _load_torchscript, "onnx": _load_onnx}
    if kind not in loaders:
        raise WeightsError(
            f"{path} is {kind}, not an exported model (.pt2, TorchScript or .onnx); see {DOCS}"
        )
    try:
        return loaders[kind](path, signature, device)
    except WeightsError:
        raise
    except Exception as error:  # damaged archives raise a dozen kinds of errors
        raise WeightsError(
            f"{path} cannot be loaded as {kind} ({first_line(error)}); export or fetch it again"
        ) from error


def _kind(path: Path) -> str:
    if not path.exists():
        return "not there"
    if path.is_dir():
        return "a folder"
    if path.suffix == ".onnx":
        return "onnx"
    if not zipfile.is_zipfile(path):
        return "no archive of PyTorch"
    with zipfile.ZipFile(path) as archive:
        files = {name.split("/", 1)[-1] for name in archive.namelist()}
    if "archive_format" in files:
        return "pt2"
    if "constants.pkl" in files:
        return "torchscript"
    return "a state dict" if "data.pkl" in files else "another archive"


def _load_pt2(path: Path, _: Signature, device: torch.device) -> tuple[Run, list[str]]:
    with warnings.catch_warnings():
        # PyTorch maps the file's bytes without copying and says that nobody should write to them.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        with path.open("rb") as stream:
            program = torch.export.load(stream)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    names = [str(name) for name in program.graph_signature.user_inputs]
    positional = program.call_spec.in_spec.child(0).num_leaves if program.call_spec.in_spec else 0
    module = program.module()

    def run(inputs: Mapping[str, Tensor]) -> Any:
        first = [inputs[name] for name in names[:positional]]
        return module(*first, **{name: inputs[name] for name in names[positional:]})

    return run, names


def _load_torchscript(
    path: Path, signature: Signature, device: torch.device
) -> tuple[Run, list[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(str(path), map_location=device).eval()
    arguments = module.forward.schema.arguments[1:]
    names = [a.name for a in arguments if str(a.type) == "Tensor"]
    others = {a.name for a in arguments} - set(names)
    options = {name: value for name, value in signature.options.items() if name in others}

    def run(inputs: Mapping[str, Tensor]) -> Any:
        return module(**inputs, **options)

    return run, names


def _load_onnx(path: Path, signature: Signature, device: torch.device) -> tuple[Run, list[str]]:
    try:
        onnxruntime: Any = import_module("onnxruntime")
    except ImportError as error:
        raise WeightsUnavailableError(
            f"{path} needs onnxruntime, which is not installed; export the model as .pt2, "
            "or pip install onnxruntime"
        ) from error
    provider = "CPUExecutionProvider" if device.type == "cpu" else "CUDAExecutionProvider"
    session = onnxruntime.InferenceSession(str(path), providers=[provider])
    names = [entry.name for entry in session.get_inputs()]
    own = [entry.name for entry in session.get_outputs()]
    # A single output may have any name, like a single input.
    declared = [spec.name for spec in signature.outputs]
    labels = declared if len(own) == len(declared) == 1 else own

    def run(inputs: Mapping[str, Tensor]) -> Any:
        values = session.run(own, {name: value.cpu().numpy() for name, value in inputs.items()})
        return dict(zip(labels, map(torch.from_numpy, values), strict=True))

    return run, names
