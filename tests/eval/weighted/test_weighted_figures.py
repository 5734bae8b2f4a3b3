"""Metrics with weights as figures of a run: chosen, refused before any work, measured, and accounted for."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avgen_eval.harness.manifest import Item, read_manifest
from avgen_eval.harness.weighted import weighted_figures
from avgen_eval.weighted.catalogue import METRICS, check_given, choose, default_metrics
from avgen_eval.weighted.tagging import Tagger, kl_divergence
from avgen_eval.weighted.weights import Sources, WeightsError, parse_weights, sha256_of
from weighted_models import SyncNet, clip, export
from weighted_models import Tagger as TaggerNet

from avgen import media

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    export(folder / "panns.pt2", TaggerNet(), (160_000,), axes={0: "B", 1: "S"})
    export(folder / "syncnet.pt2", SyncNet(), (3, 5, 224, 224), (1, 13, 20))
    return folder


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> list[Item]:
    """Two prompts with two seeds each and their references, one without, and a file that is no clip."""
    folder = tmp_path_factory.mktemp("clips")
    found = []
    for i in range(4):
        paths = [folder / f"{i}.mp4", folder / f"{i}-real.mp4"]
        for j, path in enumerate(paths):
            made = clip(1, fps=5, size=(16, 16), seed=10 * i + j)
            made.replace(waveform=made.waveform * (0.3 + i + j)).save(path)
        one = Item(id=str(i), prompt=f"prompt {i % 2}", video=paths[0], reference_video=paths[1])
        found.append(one)
    (folder / "broken.mp4").write_bytes(b"no clip")
    alone = Item(id="alone", prompt="alone", video=folder / "0.mp4")
    return [*found, alone, Item(id="broken", prompt="b", video=folder / "broken.mp4")]


def sources(tmp_path: Path, *given: str, **changes: Any) -> Sources:
    return Sources(given=parse_weights(given), folder=None, cache=tmp_path / "cache", **changes)


def test_a_figure_has_its_mean_interval_number_and_what_was_left_out(items, weights, tmp_path):
    figures, hashes = weighted_figures(
        ["kl_panns", "kl_panns"], items, sources(tmp_path, f"panns={weights / 'panns.pt2'}")
    )
    assert hashes == {"panns": sha256_of(weights / "panns.pt2")}
    (figure,) = figures
    tagger = Tagger.from_files({"panns": weights / "panns.pt2"})
    expected = [
        kl_divergence(
            *(tagger.logits(media.read(path))[0] for path in (i.video, i.reference_video))
        )
        for i in items[:4]
        if i.video and i.reference_video
    ]
    assert (figure.id, figure.status, figure.num) == ("kl_panns.kl", "ok", 4)
    assert figure.value == pytest.approx(np.mean(expected))
    means = sorted([np.mean(expected[::2]), np.mean(expected[1::2])])
    assert figure.low is not None
    assert figure.high is not None
    assert means[0] - 1e-6 <= figure.low < figure.value < figure.high <= means[1] + 1e-6
    reasons = {"there is no reference clip", "the clip could not be decoded"}
    assert set(figure.reason.removeprefix("left out: ").split("; ")) == reasons
    assert hashes["panns"][:12] in figure.signature


def test_values_of_sets_have_no_interval_and_clips_that_are_none_are_said(items, weights, tmp_path):
    given = sources(tmp_path, f"panns={weights / 'panns.pt2'}")
    figures, _ = weighted_figures(["is_panns"], items[:4] * 3, given)
    assert {figure.id for figure in figures} == {"is_panns.is_mean", "is_panns.is_std"}
    assert all((f.status, f.num, f.low, f.high) == ("ok", 12, None, None) for f in figures)
    figures, _ = weighted_figures(["is_panns"], items[-1:] * 2, given)
    assert [(f.status, f.value, f.reason) for f in figures] == [
        ("skipped", None, "could not be measured: the clip could not be decoded (2 times)")
    ] * 2


def test_a_face_box_of_a_manifest_is_used_and_checked(items, weights, tmp_path):
    def lse(face: Any) -> list[Any]:
        row = {"id": "a", "video": str(tmp_path / "a.mp4"), "meta": {"face": face}}
        (tmp_path / "m.jsonl").write_text(json.dumps(row))
        rows = read_manifest(tmp_path / "m.jsonl")
        return weighted_figures(
            ["lse"], rows, sources(tmp_path, f"syncnet={weights / 'syncnet.pt2'}")
        )[0]

    clip(1.6, fps=25, size=(16, 16)).save(tmp_path / "a.mp4")
    assert all(figure.status == "ok" for figure in lse([0.1, 0.1, 0.9, 0.9]))
    for figure in lse([0.9, 0.1, 0.1, 0.9]):
        assert (figure.status, figure.value) == ("failed", None)
        assert figure.reason.startswith("a: face box is [0.9, 0.1, 0.1, 0.9]; give [left, top,")
    assert {figure.reason for figure in lse(None)} == {
        "nothing could be measured: there is no face box"
    }


def test_the_default_suite_is_all_that_may_be_used_by_everybody(tmp_path):
    assert choose(["default"]) == default_metrics()
    assert set(METRICS) - set(choose(["default"])) == {"imagebind", "javis"}
    assert choose(["wer", "javis", "default", "wer"])[:3] == ["wer", "javis", "desync"]
    figures, hashes = weighted_figures(["default"], [], sources(tmp_path))
    assert {figure.id.split(".")[0] for figure in figures} == set(default_metrics())
    assert hashes == {}
    for figure in figures:
        assert (figure.status, figure.value) == ("skipped", None)
        assert "\n" not in figure.reason
        for part in ("needs weights", "size", "licence", "sha256", "docs/metrics-with-weights.md#"):
            assert part in figure.reason


class Untouched(list):
    """Clips that nobody may look at."""

    def __iter__(self) -> Any:
        raise AssertionError("work began before what was given had been checked")


@pytest.mark.parametrize(
    ("metrics", "given", "message"),
    [
        (["clap"], [], "'clap' does not exist; clap is the name of weights of clap_score; give"),
        (["kl_panns"], ["pans={panns}"], "--weights pans: there are no weights of that name; ch"),
        (["kl_panns"], ["kl_panns={panns}"], "is a metric, whose weights are called panns"),
        (["wer"], ["panns={panns}"], "no metric that was asked for uses it; add --metric kl_panns"),
        ([], ["panns={panns}"], "no metric that was asked for uses it; add --metric kl_panns"),
        (
            ["kl_panns"],
            ["panns=gone.pt2"],
            "--weights panns=gone.pt2: there is no such file; check",
        ),
        (["kl_panns"], ["panns={folder}"], "is a folder; give a file: an exported model"),
        (["wer"], ["whisper={panns}"], "is a file; give the folder that holds config.json"),
        (["wer"], ["whisper={folder}"], "neither model.safetensors nor pytorch_model.bin in it"),
        (["kl_panns"], ["panns={panns}#sha256=" + "0" * 64], f"but {'0' * 64} is expected; the f"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(
    metrics, given, message, weights, tmp_path
):
    given = [text.format(panns=weights / "panns.pt2", folder=weights) for text in given]
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        weighted_figures(metrics, Untouched(), sources(tmp_path, *given))
    assert "\n" not in str(caught.value)


def test_weights_without_consent_are_skipped_and_not_refused(weights, tmp_path):
    given = [f"imagebind_{name}={weights / 'panns.pt2'}" for name in ("video", "audio")]
    check_given(["javis"], sources(tmp_path, *given))
    (figure,), _ = weighted_figures(["javis"], [], sources(tmp_path, *given))
    assert figure.status == "skipped"
    assert "accept it with --non-commercial" in figure.reason
    wrong = [f"{text}#sha256={'0' * 64}" for text in given]
    with pytest.raises(WeightsError, match="is expected"):
        check_given(["javis"], sources(tmp_path, *wrong, non_commercial=True))


@pytest.mark.parametrize("kind", ["pickle", "state dict", "cut", "text"])
def test_files_that_are_no_models_fail_in_one_line(kind, items, weights, tmp_path):
    path = tmp_path / "net.pt2"
    if kind == "pickle":
        path.write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtin\x94.")
    elif kind == "state dict":
        torch.save({"a": torch.ones(1)}, path)
    elif kind == "cut":
        path.write_bytes((weights / "panns.pt2").read_bytes()[:1000])
    else:
        path.write_text("<html>")
    (figure,), hashes = weighted_figures(["kl_panns"], items, sources(tmp_path, f"panns={path}"))
    assert (figure.status, figure.value, figure.num) == ("failed", None, 0)
    assert figure.reason.startswith(f"{path} is ")
    assert figure.reason.endswith(
        ", not an exported model (.pt2, TorchScript or .onnx); see docs/metrics-with-weights.md"
    )
    assert hashes == {"panns": sha256_of(path)}
