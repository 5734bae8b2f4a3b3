"""From a name to an outcome: values with a signature, or a reason, and never a stand-in number."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avgen_eval.results import write_json
from avgen_eval.weighted import i3d, imagebind, synchformer, syncnet, tagging, vggish
from avgen_eval.weighted.base import Item
from avgen_eval.weighted.catalogue import (
    METRICS,
    WEIGHTS,
    check_names,
    default_metrics,
    get_entry,
    locate,
    open_metric,
)
from avgen_eval.weighted.exported import ExportedModel
from avgen_eval.weighted.outcome import Outcome, evaluate, measure
from avgen_eval.weighted.tagging import Tagger, TaggingKl
from avgen_eval.weighted.weights import Given, Sources, WeightsError, parse_weights, sha256_of
from weighted_folders import save_clap, save_clip, save_whisper
from weighted_models import Embedder, clip, export, export_all
from weighted_models import Tagger as TaggerNet

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "metrics-with-weights.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Weights for every metric of the catalogue."""
    root = export_all(tmp_path_factory.mktemp("weights"))
    save_clap(root / "clap")
    save_clip(root / "clip")
    save_whisper(root / "whisper")
    return root


@pytest.fixture
def sources(folder, tmp_path) -> Sources:
    return Sources(folder=folder, cache=tmp_path, non_commercial=True)


def items(count: int = 1, seconds: float = 5.0) -> list[Item]:
    return [
        Item(
            clip=clip(seconds, size=(6, 8), seed=i),
            name=f"clip {i}",
            text="rain on a roof",
            reference=clip(seconds, size=(6, 8), seed=100 + i),
            transcript="it rains",
            face=(0.1, 0.1, 0.9, 0.9),
        )
        for i in range(count)
    ]


NEED_SETS = {"fvd", "fad", "is_passt", "is_panns"}


@pytest.mark.parametrize("metric", sorted(set(METRICS) - NEED_SETS))
def test_every_metric_of_clips_runs_from_a_folder(metric, sources, folder):
    found = evaluate(metric, items(), sources)
    assert (found.status, found.reason, found.num_items, found.num_measured) == ("ok", "", 1, 1)
    assert found.values
    assert all(math.isfinite(value) for value in found.values.values())
    entry = METRICS[metric]
    assert [part.weights.name for part in found.weights] == list(entry.weights)
    for part in found.weights:
        assert part.sha256 == sha256_of(part.path)
        assert f"{part.weights.name}:{part.sha256[:12]}" in found.signature
    assert found.signature.startswith(metric + "|")
    assert "|n:1|avgen:" in found.signature


@pytest.mark.parametrize("metric", sorted(NEED_SETS))
def test_sets_that_are_too_small_are_skipped_with_the_reason(metric, sources):
    found = evaluate(metric, items(), sources)
    assert (found.status, dict(found.values), found.num_measured) == ("skipped", {}, 1)
    assert re.match(r"nothing could be measured: (n = \d|1 clips do not make 10)", found.reason)


def test_a_set_that_is_large_enough_is_measured(sources):
    found = evaluate("is_panns", items(10, seconds=0.5), sources)
    assert (found.status, found.num_measured) == ("ok", 10)
    assert set(found.values) == {"is_mean", "is_std"}


@pytest.mark.parametrize("metric", METRICS)
def test_without_weights_every_metric_is_skipped(metric, tmp_path):
    found = evaluate(metric, items(), Sources(folder=None, cache=tmp_path, non_commercial=True))
    assert (found.status, dict(found.values), found.signature) == ("skipped", {}, "")
    assert found.reason.startswith(f"{metric} needs weights ")


@pytest.mark.parametrize("metric", METRICS)
def test_exactly_non_commercial_metrics_need_consent(metric, folder, tmp_path):
    closed = metric not in default_metrics()
    assert closed == (metric in ("imagebind", "javis"))
    without = Sources(folder=folder, cache=tmp_path)
    if not closed:
        assert len(locate(metric, without)) == len(METRICS[metric].weights)
        return
    found = evaluate(metric, items(), without)
    assert (found.status, dict(found.values)) == ("skipped", {})
    assert "CC BY-NC-SA 4.0, which forbids commercial use; accept it with --non-c" in found.reason


def test_no_clips_are_skipped(sources):
    found = evaluate("kl_panns", [], sources)
    assert (found.status, found.reason) == ("skipped", "there are no clips")


def test_another_file_than_expected_fails(folder, tmp_path):
    path = folder / "panns.pt2"
    given = parse_weights([f"panns={path}#sha256={'0' * 64}"])
    found = evaluate("kl_panns", items(), Sources(given=given, folder=None, cache=tmp_path))
    assert (found.status, dict(found.values)) == ("failed", {})
    assert sha256_of(path) in found.reason
    assert "0" * 64 in found.reason


def test_a_network_of_another_shape_fails(tmp_path):
    export(tmp_path / "panns.pt2", TaggerNet(10), (160_000,), axes={0: "B", 1: "S"})
    found = evaluate("kl_panns", items(), Sources(folder=tmp_path, cache=tmp_path))
    assert found.status == "failed"
    assert "gives logits (2, 10) float32 where (2, 527) is due" in found.reason
    assert found.weights[0].sha256 == sha256_of(tmp_path / "panns.pt2")


def test_names_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(ValueError, match="metric 'desink' does not exist; choose from desync"):
        evaluate("desink", [])
    with pytest.raises(ValueError, match="'x' does not exist"):
        get_entry("x")
    given = {"desync": Given(path=tmp_path)}
    with pytest.raises(WeightsError, match="desync is a metric, whose weights are called synchf"):
        check_names(Sources(given=given, folder=None))
    found = evaluate("lse", [], Sources(given={"x": Given(path=tmp_path)}, folder=None))
    assert (found.status, "no weights of that name" in found.reason) == ("failed", True)


class Breaks(TaggerNet):
    """Gives NaN for loud sounds."""

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        level = waveform.abs().mean(1, keepdim=True)
        return super().forward(waveform) / (level < 0.9)


def test_an_error_in_one_clip_leaves_no_partial_mean(tmp_path):
    path = export(tmp_path / "panns.pt2", Breaks(), (160_000,), axes={0: "B", 1: "S"})
    metric = TaggingKl(Tagger.from_files({"panns": path}))
    loud = [
        Item(clip=item.clip.replace(waveform=torch.ones(1, 16_000).numpy()), name="loud")
        for item in items()
    ]
    loud = [Item(clip=item.clip, name="loud", reference=item.clip) for item in loud]
    found = measure("kl_panns", metric, [*items(), *loud])
    assert (found.status, dict(found.values), found.num_items) == ("failed", {}, 2)
    assert re.match(r"loud: .*panns.pt2 gives values of logits that are not finite", found.reason)


def test_an_error_between_clips_names_the_clip_before(tmp_path):
    path = export(tmp_path / "panns.pt2", TaggerNet(), (160_000,), axes={0: "B", 1: "S"})

    def broken(good: int) -> Iterator[Item]:
        yield from items(good)
        raise OSError("disk gone")

    for good, place in ((0, "the first clip"), (2, "the clip after clip 1")):
        found = measure("kl_panns", TaggingKl.from_files({"panns": path}), broken(good))
        assert (found.status, found.reason) == ("failed", f"{place}: OSError: disk gone")


def test_values_of_single_clips_are_kept_and_forgotten(sources):
    found = evaluate("kl_panns", items(3), sources)
    assert list(found.by_clip) == ["clip 0", "clip 1", "clip 2"]
    values = [entry["kl"] for entry in found.by_clip.values()]
    assert len(set(values)) == 3
    assert found.values["kl"] == pytest.approx(np.mean(values))
    metric = open_metric("kl_panns", locate("kl_panns", sources))
    metric.update(items()[0])
    metric.update(Item(clip=items()[0].clip))
    metric.reset()
    assert (metric.by_clip, metric.num_measured, metric.unmeasured) == ({}, 0, {})


def test_clips_that_could_not_be_measured_are_counted(sources):
    mixed = [*items(2), Item(clip=items()[0].clip, name="alone")]
    found = evaluate("kl_panns", mixed, sources)
    assert (found.status, found.num_items, found.num_measured) == ("ok", 3, 2)
    assert dict(found.unmeasured) == {"there is no reference clip": 1}
    nothing = evaluate("kl_panns", mixed[2:], sources)
    assert nothing.status == "skipped"
    assert nothing.reason == "nothing could be measured: there is no reference clip"


def test_an_outcome_cannot_hold_a_stand_in_number():
    for wrong in (
        {"status": "skipped", "reason": "no weights", "values": {"a": 0.0}},
        {"status": "failed", "values": {}},
        {"status": "ok", "reason": "but", "values": {"a": 1.0}},
        {"status": "ok", "values": {"a": float("nan")}},
    ):
        with pytest.raises(ValueError, match=r"values .*(belong to ok|must be finite)"):
            Outcome(metric="m", **wrong)


def test_an_outcome_is_json(sources, tmp_path):
    found = evaluate("kl_panns", items(), sources)
    written = write_json(tmp_path / "out.json", {"metrics": [found.to_dict()]}).read_text()
    read = json.loads(written)["metrics"][0]
    assert read == found.to_dict()
    assert read["weights"][0]["licence"].startswith("MIT")
    assert str(tmp_path) not in written  # a path says nothing on another machine


NEEDED = {need: need for need in ("picture", "sound", "text", "transcript")} | {
    "face": "face box",
    "reference": "reference",
}


def test_the_page_has_a_section_for_all_weights_and_names_all_metrics():
    anchors = re.findall(r"^## ([a-z0-9-]+)$", PAGE, flags=re.MULTILINE)
    sections = {anchor.replace("-", "_") for anchor in anchors}
    assert sections == set(WEIGHTS)
    for name, entry in METRICS.items():
        weights = ", ".join(f"`{part}`" for part in entry.weights)
        row = f"| `{name}` | {entry.title} | {weights} | {', '.join(NEEDED[need] for need in entry.needs)} |"
        assert row in PAGE
    for weights in WEIGHTS.values():
        section = re.split(
            r"^## ", PAGE.split(f"\n## {weights.name.replace('_', '-')}\n")[1], flags=re.M
        )[0]
        assert weights.licence in section
        assert weights.origin.split(",")[0] in section
        if weights.repository:
            folder = f"`{weights.tensors}`, {weights.size} bytes, sha256 `{weights.sha256}`"
            assert f"at `{weights.revision}`" in section
            assert folder in section
            assert weights.origin == f"https://huggingface.co/{weights.repository}"


SIGNATURES = {
    "synchformer": synchformer.SIGNATURE,
    "imagebind_video": imagebind.VIDEO_SIGNATURE,
    "imagebind_audio": imagebind.AUDIO_SIGNATURE,
    "syncnet": syncnet.SIGNATURE,
    "i3d": i3d.SIGNATURE,
    "vggish": vggish.SIGNATURE,
    "passt": tagging.PASST_SIGNATURE,
    "panns": tagging.PANNS_SIGNATURE,
}


def test_the_page_gives_the_signature_of_every_exported_file():
    exported = {name for name, weights in WEIGHTS.items() if weights.kind == "exported"}
    assert set(SIGNATURES) == exported
    for name, signature in SIGNATURES.items():
        assert f"\n## {name.replace('_', '-')}\n\n`{signature}`\n" in PAGE


def example(number: int) -> str:
    return re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[number]


def test_the_example_of_the_page_runs(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clip(1, fps=5, size=(16, 16)).save("rain.mp4")
    code = example(0).replace("/models/clap-htsat-unfused", str(folder / "clap"))
    exec(code, {})  # ours
    printed = capsys.readouterr().out
    assert printed.startswith("ok  {'clap': ")
    assert f"|clap:{sha256_of(folder / 'clap')[:12]}|n:1|" in printed


def test_the_export_of_the_page_gives_files_that_load(tmp_path):
    names: dict[str, Any] = {}
    exec(example(1), names)  # ours
    names["export"](Embedder(1, 128), (torch.rand(2, 1, 96, 64),), tmp_path / "a.pt2")
    ExportedModel(tmp_path / "a.pt2", vggish.SIGNATURE)
    axes = {0: torch.export.Dim("B", min=1), 1: torch.export.Dim("S", min=8000)}
    names["export"](TaggerNet(), (torch.rand(2, 160_000),), tmp_path / "b.pt2", axes)
    ExportedModel(tmp_path / "b.pt2", tagging.PANNS_SIGNATURE)
