"""Exported files: whatever does not keep the declared signature is refused on load, with what is wrong."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from avgen_eval.weighted.exported import ExportedModel, Signature, TensorSpec
from avgen_eval.weighted.weights import WeightsError, WeightsUnavailableError
from torch import Tensor, nn
from weighted_models import export, script

ONE = Signature(
    inputs=(TensorSpec("x", ("B", 3)),),
    outputs=(TensorSpec("y", ("B", 2)),),
    options={"twice": True},
)
TWO = Signature(
    inputs=(TensorSpec("video", ("B", 3)), TensorSpec("audio", ("B", 3))),
    outputs=(TensorSpec("a", ("B",)), TensorSpec("b", ("B", 3))),
)


class Head(nn.Module):
    """``x[:, :2]`` times a factor, as whatever type is asked for."""

    def __init__(self, width: int = 2, factor: float = 1.0, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.width, self.dtype = width, dtype
        self.factor = nn.Buffer(torch.tensor(factor))

    def forward(self, anything: Tensor) -> Tensor:
        return (anything[:, : self.width] * self.factor).to(self.dtype)


class Pair(nn.Module):
    def forward(self, video: Tensor, audio: Tensor) -> Any:
        return video.sum(1), video - audio


class PairSwapped(nn.Module):
    def forward(self, audio: Tensor, video: Tensor) -> Any:
        return {"b": video - audio, "a": video.sum(1)}


class PairRenamed(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Any:
        return first.sum(1), first - second


class Optional(nn.Module):
    def forward(self, x: Tensor, twice: bool = False, other: bool = True) -> Tensor:
        y = x[:, :2] if other else x
        return 2 * y if twice else y


X = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])


def test_a_single_input_may_have_any_name(tmp_path):
    model = ExportedModel(export(tmp_path / "m.pt2", Head(), (3,)), ONE)
    assert torch.equal(model(x=X)["y"], X[:, :2])
    assert torch.equal(model.batched(2, x=X)["y"], X[:, :2])


@pytest.mark.parametrize("module", [Pair(), PairSwapped()], ids=["tuple", "dictionary"])
def test_several_tensors_are_matched_by_name(tmp_path, module):
    model = ExportedModel(export(tmp_path / "m.pt2", module, (3,), (3,)), TWO)
    found = model(video=X, audio=2 * X)
    assert torch.equal(found["a"], X.sum(1))
    assert torch.equal(found["b"], -X)


def test_keyword_exports_run(tmp_path):
    free = {0: torch.export.Dim("B", min=1)}
    program = torch.export.export(
        Pair(), (), {"audio": X.clone(), "video": X}, dynamic_shapes={"audio": free, "video": free}
    )
    torch.export.save(program, tmp_path / "m.pt2")
    assert torch.equal(ExportedModel(tmp_path / "m.pt2", TWO)(video=X, audio=2 * X)["b"], -X)


def test_torchscript_files_run_with_their_options(tmp_path):
    model = ExportedModel(script(tmp_path / "m.pt", Optional()), ONE)
    assert torch.equal(model(x=X)["y"], 2 * X[:, :2])
    pair = ExportedModel(script(tmp_path / "p.pt", PairSwappedScript()), TWO)
    assert torch.equal(pair(video=X, audio=2 * X)["b"], -X)


class PairSwappedScript(nn.Module):
    def forward(self, audio: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        return video.sum(1), video - audio


@pytest.mark.parametrize(
    ("module", "signature", "shapes", "message"),
    [
        (Head(3), ONE, [(3,)], r"gives y \(2, 3\) float32 where \(2, 2\) is due"),
        (Head(dtype=torch.float64), ONE, [(3,)], "gives y .* float64 where"),
        (Head(factor=float("nan")), ONE, [(3,)], "values of y that are not finite"),
        (Head(), ONE, [(4,)], r"fails on x \(2, 3\)"),
        (Head(), TWO, [(3,)], "takes inputs anything"),
        (PairRenamed(), TWO, [(3,), (3,)], "takes inputs first, second"),
        (Pair(), ONE, [(3,), (3,)], "takes inputs video, audio"),
    ],
)
def test_files_that_break_the_signature_are_refused(tmp_path, module, signature, shapes, message):
    path = export(tmp_path / "m.pt2", module, *shapes)
    with pytest.raises(WeightsError, match=message) as caught:
        ExportedModel(path, signature)
    assert str(signature) in str(caught.value)
    assert "docs/metrics-with-weights.md" in str(caught.value)


def test_a_fixed_axis_is_noticed(tmp_path):
    path = export(tmp_path / "m.pt2", Head(), (3,), axes={})
    with pytest.raises(WeightsError, match=r"fails on x \(1, 3\).*free axes"):
        ExportedModel(path, ONE)


class Dropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x[:, :2], training=True)


class Mixing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(dim=0))[:, :2]


@pytest.mark.parametrize("module", [Dropping(), Mixing()], ids=["dropout", "batch statistics"])
def test_files_exported_in_training_mode_are_noticed(tmp_path, module):
    torch.manual_seed(1)
    with pytest.raises(WeightsError, match=r"another y for the same row: call eval\(\)"):
        ExportedModel(export(tmp_path / "m.pt2", module, (3,)), ONE)


def test_too_few_outputs_are_noticed(tmp_path):
    wider = Signature(inputs=ONE.inputs, outputs=(*ONE.outputs, TensorSpec("z", ("B",))))
    with pytest.raises(WeightsError, match="gives 1 outputs"):
        ExportedModel(export(tmp_path / "m.pt2", Head(), (3,)), wider)


def test_what_is_no_exported_file_is_refused(tmp_path):
    def refused(path: Path, message: str) -> None:
        with pytest.raises(WeightsError, match=message):
            ExportedModel(path, ONE)

    text = tmp_path / "page.pt2"
    text.write_text("<html>not found</html>")
    refused(text, "is no archive of PyTorch, not an exported model")
    torch.save({"weight": X}, tmp_path / "weights.pt")
    refused(tmp_path / "weights.pt", "is a state dict, not an exported model")
    refused(tmp_path, "is a folder, not an exported model")
    refused(tmp_path / "gone.pt2", "is not there, not an exported model")
    whole = export(tmp_path / "m.pt2", Head(), (3,)).read_bytes()
    (tmp_path / "cut.pt2").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.pt2", "is no archive")


def test_onnx_needs_its_runtime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "m.onnx").write_bytes(b"model")
    with pytest.raises(WeightsUnavailableError, match="needs onnxruntime, which is not installed"):
        ExportedModel(tmp_path / "m.onnx", ONE)


class Entry:
    def __init__(self, name: str) -> None:
        self.name = name


class Session:
    """Stands in for ONNX Runtime: one input of another name, one output of another name."""

    def __init__(self, path: str, providers: list[str]) -> None:
        assert path.endswith(".onnx")
        assert providers == ["CPUExecutionProvider"]

    def get_inputs(self) -> list[Entry]:
        return [Entry("input.1")]

    def get_outputs(self) -> list[Entry]:
        return [Entry("1234")]

    def run(self, names: list[str], inputs: dict[str, Any]) -> list[Any]:
        assert names == ["1234"]
        return [inputs["input.1"][:, :2]]


def test_onnx_files_run_where_the_runtime_is(tmp_path, monkeypatch):
    runtime = type(sys)("onnxruntime")
    runtime.InferenceSession = Session
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    (tmp_path / "m.onnx").write_bytes(b"model")
    model = ExportedModel(tmp_path / "m.onnx", ONE)
    assert torch.equal(model(x=X)["y"], X[:, :2])
