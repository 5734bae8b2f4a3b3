"""FVD, FAD, KL and IS around exported networks."""

import math

import numpy as np
import pytest
import torch
from avgen_eval.metrics.frechet import frechet_distance
from avgen_eval.weighted.base import Item
from avgen_eval.weighted.exported import ExportedModel
from avgen_eval.weighted.i3d import SIGNATURE, FrechetVideoDistance, i3d_input
from avgen_eval.weighted.tagging import Tagger, TaggingIs, TaggingKl, kl_divergence
from avgen_eval.weighted.vggish import SIGNATURE as VGGISH
from avgen_eval.weighted.vggish import FrechetAudioDistance
from torch import Tensor, nn
from weighted_models import Embedder, clip, export, script
from weighted_models import Tagger as TaggerNet


class I3dScript(nn.Module):
    """Takes the arguments of the TorchScript file of StyleGAN-V; right with one choice of them only."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Buffer(torch.randn(48, 400, generator=torch.Generator().manual_seed(0)))

    def forward(
        self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> Tensor:
        y = x.mean(dim=(3, 4)).flatten(1) @ self.weight
        if rescale or resize or not return_features:
            return torch.softmax(y, dim=1)
        return y


def test_torchscript_i3d_is_asked_for_logits(tmp_path):
    model = ExportedModel(script(tmp_path / "i3d.pt", I3dScript()), SIGNATURE)
    made = clip(0.8)
    expected = i3d_input(made).mean(dim=(3, 4)).flatten(1) @ I3dScript().weight
    found = FrechetVideoDistance(model).describe(made)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found.sum(), torch.tensor(1.0), atol=1e-2)


def test_fvd_is_the_frechet_distance_of_logits(tmp_path):
    path = export(tmp_path / "i3d.pt2", Embedder(48, 400), (3, 16, 224, 224))
    metric = FrechetVideoDistance(ExportedModel(path, SIGNATURE), force=True)
    items = [
        Item(clip=clip(0.64, size=(4, 6), seed=i), reference=clip(0.64, size=(5, 4), seed=9 + i))
        for i in range(4)
    ]
    items.append(Item(clip=clip(0.6), reference=clip(0.64, size=(5, 4), seed=20)))
    for item in items:
        metric.update(item)
    vectors = torch.cat([metric.describe(item.clip) for item in items[:4]])
    references = torch.cat([metric.describe(item.reference) for item in items])
    expected = frechet_distance(vectors, references, force=True)
    assert metric.compute()["fvd"] == pytest.approx(expected)
    assert expected > 0
    assert (metric.num_measured, dict(metric.unmeasured)) == (4, {"15 frames; FVD needs 16": 1})


def test_small_sets_have_no_distance(tmp_path):
    path = export(tmp_path / "vggish.pt2", Embedder(1, 128), (1, 96, 64))
    metric = FrechetAudioDistance.from_files({"vggish": path})
    metric.update(Item(clip=clip(2, size=(2, 2))))
    assert metric.compute()["fad"].isnan()
    assert list(metric.unmeasured) == ["there are no reference clips"]
    metric.update(Item(clip=clip(0.9, size=(2, 2)), reference=clip(3, size=(2, 2))))
    assert metric.compute()["fad"].isnan()
    reasons = " ".join(metric.unmeasured)
    assert "the sound is shorter than 0.975 s" in reasons
    assert "n = 2 vectors against 3 of the reference, with d = 128 features" in reasons


def test_sets_of_two_processes_are_those_of_one(tmp_path):
    model = ExportedModel(export(tmp_path / "v.pt2", Embedder(1, 128), (1, 96, 64)), VGGISH)
    parts = [FrechetAudioDistance(model, force=True) for _ in range(2)]
    whole = FrechetAudioDistance(model, force=True)
    for seed in range(4):
        item = Item(
            clip=clip(3, fps=1, size=(2, 2), seed=seed),
            reference=clip(3, fps=1, size=(2, 2), seed=9 + seed),
        )
        parts[seed % 2].update(item)
        whole.update(item)
    parts[0].merge_state(parts[1])
    assert parts[0].compute()["fad"] == pytest.approx(float(whole.compute()["fad"]))


def test_fad_takes_every_window(tmp_path):
    path = export(tmp_path / "vggish.pt2", Embedder(1, 128), (1, 96, 64))
    metric = FrechetAudioDistance(ExportedModel(path, VGGISH), force=True)
    parts = [clip(10, fps=1, size=(2, 2), seed=seed) for seed in range(3)]
    for made in parts[:2]:
        metric.update(Item(clip=made, reference=made))
    assert [len(part) for part in metric.vectors] == [10, 10]  # 10 s / 0.96 s
    assert metric.compute()["fad"] == pytest.approx(0, abs=1e-6)
    metric.update(Item(clip=parts[2].replace(waveform=parts[2].waveform / 2)))
    assert metric.compute()["fad"] > 1e-3


def test_kl_of_known_distributions():
    reference = torch.tensor([0.5, 0.25, 0.25]).log()
    generated = torch.tensor([0.25, 0.25, 0.5]).log() + 3
    expected = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert kl_divergence(generated, reference) == pytest.approx(expected, abs=1e-5)
    assert kl_divergence(reference, reference) == pytest.approx(0, abs=1e-5)
    sure = torch.tensor([100.0, 0.0])
    assert kl_divergence(sure.flip(0), sure) == pytest.approx(-math.log(1e-6))  # the floor


@pytest.fixture(scope="module")
def taggers(tmp_path_factory) -> dict[str, Tagger]:
    folder = tmp_path_factory.mktemp("taggers")
    passt = export(folder / "passt.pt2", TaggerNet(), (320_000,))
    panns = export(folder / "panns.pt2", TaggerNet(), (160_000,), axes={0: "B", 1: "S"})
    return {
        "passt": Tagger.from_files({"passt": passt}),
        "panns": Tagger.from_files({"panns": panns}),
    }


def noise(level: float, seconds: float = 5.0) -> np.ndarray:
    rng = np.random.default_rng(round(1000 * level))
    return (level * rng.standard_normal((1, round(16_000 * seconds)))).astype(np.float32)


@pytest.mark.parametrize("name", ["passt", "panns"])
def test_kl_of_pairs(taggers, name):
    metric = TaggingKl(taggers[name])
    quiet, loud = (clip(5, size=(2, 2), waveform=noise(level)) for level in (0.01, 0.3))
    same = metric.score(Item(clip=loud, reference=loud))["kl"]
    other = metric.score(Item(clip=loud, reference=quiet))["kl"]
    assert same == pytest.approx(0, abs=1e-3)
    assert other > 0.01
    logits = [taggers[name].logits(made)[0] for made in (loud, quiet)]
    assert other == pytest.approx(kl_divergence(*logits))
    metric.update(Item(clip=loud))
    metric.update(Item(clip=loud.replace(waveform=noise(0.1, 0.05)), reference=loud))
    assert set(metric.unmeasured) == {
        "there is no reference clip",
        "the sound is shorter than 0.5 s",
    }


def test_passt_is_padded_and_panns_is_not(taggers):
    short = clip(5, size=(2, 2), waveform=noise(0.2))
    padded = np.pad(short.waveform, ((0, 0), (0, 80_000)))
    longer = short.replace(waveform=np.concatenate([padded, padded], axis=1))  # cut at 10 s
    passt, panns = (taggers[name].logits for name in ("passt", "panns"))
    assert torch.allclose(passt(short), passt(longer), atol=1e-3)
    assert not torch.allclose(panns(short), panns(longer), atol=1e-1)
    assert torch.allclose(panns(longer), panns(short.replace(waveform=padded)))


def test_inception_score_of_a_set(taggers):
    metric = TaggingIs(taggers["panns"])
    metric.update(Item(clip=clip(1, size=(2, 2), waveform=noise(0.1, 1))))
    assert metric.compute()["is_mean"].isnan()
    assert list(metric.unmeasured) == ["1 clips do not make 10 splits"]
    metric.reset()
    for level in np.linspace(0.001, 0.9, 20):
        metric.update(Item(clip=clip(1, size=(2, 2), waveform=noise(level, 1))))
    values = metric.compute()
    assert 1 < float(values["is_mean"]) < 527
    assert float(values["is_std"]) > 0
    equal = TaggingIs(taggers["panns"])
    for _ in range(10):
        equal.update(Item(clip=clip(1, size=(2, 2), waveform=noise(0.1, 1))))
    assert equal.compute()["is_mean"] == pytest.approx(1)
