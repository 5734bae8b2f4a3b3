"""Rows over lengths: cost and memory, what is left out with a reason, and the share of a peak."""

import json
from io import StringIO

import pytest
import torch
from avgen_eval.bench import attention, clip_length, packing, presets, training_step
from avgen_eval.bench.command import table_of
from avgen_eval.bench.limits import MIB, Budget, peak_bytes
from avgen_eval.bench.setup import Result, Setup
from avgen_eval.bench.timing import Measurement
from rich.console import Console

from avgen.model.config import ModelConfig, StreamConfig

SHALLOW = ModelConfig(
    streams={
        "video": StreamConfig(channels=4, width=32, num_heads=2, patch=2, spatial=True),
        "audio": StreamConfig(channels=8, width=16, num_heads=1),
    },
    depth=1,
    head_dim=16,
    text_width=32,
)
SETUP = Setup(repeats=2, batch=1, dtype="float32")


def by_case(result: Result, comparison: str) -> dict[str, Measurement]:
    return {row.case: row for row in result.measurements if row.comparison == comparison}


def test_peak_memory_is_of_what_lives_at_once():
    def run() -> None:
        x = torch.zeros(MIB)  # 4 MiB
        for _ in range(5):
            x = x + 1
        del x
        torch.zeros(MIB // 2).view(2, -1)

    assert peak_bytes(run, "cpu") == 8 * MIB


def test_a_budget_refuses_what_would_not_fit():
    budget = Budget(seconds=10, turns=4, device="cpu")
    budget.check("a", 512)
    budget.record("a", 256, 0.5)
    budget.check("a", 512)
    budget.check("b", 4096)
    with pytest.raises(
        ValueError, match=r"up to 32 s are expected from the 0.5 s at 256.*raise --budget"
    ):
        budget.check("a", 1024)
    budget.check("a", 2048, power=0.5)
    assert "a" in budget
    with pytest.raises(ValueError, match=r"needs 1099511627776 MiB, but \d+ MiB are free"):
        budget.check("a", 256, needed_bytes=2**60)


def test_cost_and_memory_by_length_of_the_clip(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clip_length, "preset", lambda name: SHALLOW)
    setup = Setup(repeats=2, batch=1, dtype="float32", budget=1e6)
    result = clip_length.bench(setup, seconds=(2, 8), window=0.5)
    assert [row.reason for row in result.measurements if row.reason] == []
    peaks = {
        title: [row.figures["peak MiB"] for row in by_case(result, title).values()]
        for title in dict.fromkeys(row.comparison for row in result.measurements)
    }
    full, window, whole, chunked = peaks.values()
    assert list(peaks) == [
        "one evaluation, full attention",
        "one evaluation, window of 0.5 s",
        "decoding, at once",
        "decoding, 4 steps at a time",
    ]
    assert full[1] / full[0] > 2.5
    assert window[1] > window[0]
    assert whole[1] / whole[0] > 3
    assert chunked[1] / chunked[0] < 1.05, "decoding by chunks keeps its memory flat"
    row = by_case(result, "one evaluation, full attention")["8 s"]
    assert row.ratio is not None
    assert row.ratio.over == "2 s"
    written = json.loads(json.dumps(result.to_dict()))
    assert written["rows"][0]["peak MiB"] > 0


def test_lengths_beyond_the_budget_are_rows_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clip_length, "preset", lambda name: SHALLOW)
    setup = Setup(repeats=2, batch=1, dtype="float32", budget=1e-4)
    result = clip_length.bench(setup, seconds=(2, 600))
    rows = by_case(result, "one evaluation, full attention")
    assert len(rows["2 s"].seconds) == 2
    assert "raise --budget" in (rows["600 s"].reason or "")
    rows = by_case(attention.bench(setup, lengths=(16, 4096)), "4096 tokens, with backward")
    assert all("raise --budget" in (row.reason or "") for row in rows.values())


def test_packing_computes_fewer_tokens_where_lengths_differ(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "preset", lambda name: SHALLOW)
    monkeypatch.setattr(packing, "MIXTURES", {"equal": (1, 1), "mixed": (2, 1)})
    result = packing.bench(SETUP)
    equal, mixed = (by_case(result, title) for title in ("equal of 1, 1 s", "mixed of 2, 1 s"))
    assert [row.reason for row in result.measurements if row.reason] == []
    assert equal["packed"].figures == equal["padded"].figures
    assert mixed["packed"].figures["tokens"] < 0.8 * mixed["padded"].figures["tokens"]


def test_larger_networks_wait_for_a_gpu():
    result = presets.bench(SETUP)
    assert {row.case for row in result.measurements} == {"small", "base"}
    assert all("use --device cuda" in (row.reason or "") for row in result.measurements)


def test_the_share_of_the_peak_is_operations_over_time():
    case = presets.counted(training_step.ours(SHALLOW, SETUP))
    tokens = sum(len(grid) for grid in training_step._layout(SHALLOW).grids.values())
    assert case.figures["TFLOP"] * 1e12 > 6 * tokens * 12 * 16**2
    row = Measurement("step", "small", (0.5, 0.5), figures={"TFLOP": 3.0})
    assert presets.with_mfu(row, 60.0).figures["MFU"] == pytest.approx(0.1)
    assert presets.with_mfu(row, None) is row
    broken = Measurement("step", "base", reason="OutOfMemoryError")
    assert presets.with_mfu(broken, 60.0) is broken


def test_figures_are_columns_of_the_table():
    rows = [
        Measurement("step", "a", (0.5, 0.5), figures={"peak MiB": 12.0}),
        Measurement("step", "b", reason="no memory left"),
    ]
    console = Console(width=120, record=True, file=StringIO())
    console.print(table_of("clip_length", Result(rows, {})))
    text = console.export_text()
    assert "peak MiB" in text
    assert "12" in text
    assert "b, step: no memory left" in text


def test_compiled_is_timed_beside_not_compiled():
    assert list(SETUP.ways().values()) == [SETUP]
    ways = Setup(compiled=True).ways()
    assert {added: way.compiled for added, way in ways.items()} == {"": False, ", compiled": True}


@pytest.mark.parametrize(
    ("options", "told"),
    [({"budget": 0.0}, "budget 0.0: a row needs"), ({"peak_tflops": -1.0}, "peak_tflops -1.0")],
)
def test_limits_that_cannot_be_used_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        Setup(**options)
