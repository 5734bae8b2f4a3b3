"""DeSync, LSE-C and LSE-D, ImageBind score and JavisScore: their own part against known answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from avgen_eval.weighted.base import Item
from avgen_eval.weighted.exported import ExportedModel
from avgen_eval.weighted.imagebind import (
    ImageBind,
    ImageBindScore,
    JavisScore,
    javis_score,
    neighbour_pairs,
    sound_spectra,
)
from avgen_eval.weighted.sounds import mono
from avgen_eval.weighted.synchformer import OFFSETS, SIGNATURE, DeSync
from avgen_eval.weighted.syncnet import LipSyncError, lip_sync, shifted_distances
from avgen_eval.weighted.weights import WeightsError
from torch.nn import functional as F
from weighted_models import Embedder, Synchformer, SyncNet, clip, export

VIDEO, AUDIO = (14, 16, 3, 224, 224), (14, 1, 128, 66)


def desync(folder: Path, dark: int, bright: int) -> DeSync:
    path = export(folder / "synchformer.pt2", Synchformer(dark, bright), VIDEO, AUDIO)
    return DeSync.from_files({"synchformer": path})


def test_classes_of_desync():
    assert len(OFFSETS) == 21
    assert pytest.approx(np.linspace(-2, 2, 21).tolist()) == OFFSETS
    assert OFFSETS[18] == pytest.approx(1.6)  # the known answer in Synchformer's own example


def test_desync_takes_both_ends_and_absolute_values(tmp_path):
    frames = np.zeros((136, 4, 6, 3), np.uint8)
    frames[64:] = 255
    metric = desync(tmp_path, dark=3, bright=19)  # sound 1.4 s late at first, 1.8 s early at last
    values = metric.score(Item(clip=clip(5.44, frames=frames)))
    assert values == pytest.approx({"desync_s": 1.6, "offset_ms": -200.0})
    metric.update(Item(clip=clip(4.8, frames=frames[:60].repeat(2, axis=0))))
    assert metric.compute()["offset_ms"] == pytest.approx(1400.0)  # positive: late


def test_clips_that_are_too_short_for_desync_have_no_value(tmp_path):
    metric = desync(tmp_path, 10, 10)
    metric.update(Item(clip=clip(4.0, size=(4, 6))))
    metric.update(Item(clip=clip(5.0, size=(4, 6), waveform=None)))
    assert metric.compute()["desync_s"].isnan()
    assert metric.num_measured == 0
    assert list(metric.unmeasured) == [
        "11 segments of 0.64 s in picture and sound; DeSync needs 14, that is 4.8 s of both",
        "the clip has no sound",
    ]
    metric.update(Item(clip=clip(4.8, size=(4, 6))))
    assert metric.compute() == {"desync_s": 0.0, "offset_ms": 0.0}
    metric.reset()
    assert not metric.unmeasured


def test_a_synchformer_of_other_classes_is_refused(tmp_path):
    path = export(tmp_path / "s.pt2", Synchformer(0, 1, classes=20), VIDEO, AUDIO)
    with pytest.raises(
        WeightsError, match=r"gives logits \(1, 20\) float32 where \(1, 21\) is due"
    ):
        ExportedModel(path, SIGNATURE)


def test_lip_sync_of_known_distances():
    means = torch.full((31,), 9.0)
    means[18], means[0] = 5.0, 30.0
    noise = torch.tensor([[-1.0], [1.0]])
    result = lip_sync(means + noise)
    assert (result.distance, result.confidence, result.offset_ms) == (5.0, 4.0, 120.0)
    earliest = lip_sync(torch.arange(31.0)[None])
    assert (earliest.distance, earliest.confidence, earliest.offset_ms) == (0.0, 15.0, -600.0)
    with pytest.raises(ValueError, match=r"shape \(4, 30\); give \(windows, shifts\) with an odd"):
        lip_sync(torch.zeros(4, 30))


def test_shifted_distances_are_those_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    video, audio = torch.randn(2, 9, 5, generator=generator)
    found = shifted_distances(video, audio, shift=2)
    for t in range(9):
        for k in range(5):
            place = t + k - 2
            other = audio[place] if 0 <= place < 9 else torch.zeros(5)
            expected = float((video[t] - other).norm())
            assert float(found[t, k]) == pytest.approx(expected, abs=1e-4)


def test_distances_are_smallest_at_the_lag_of_the_voice():
    video = torch.randn(80, 16, generator=torch.Generator().manual_seed(1))
    for lag in (-4, 0, 7):
        result = lip_sync(shifted_distances(video, video.roll(lag, dims=0)))
        assert result.offset_ms == 40 * lag
        assert result.confidence > 1


def talking(delay: float) -> Item:
    """Brightness of the lips follows a random curve, loudness of the voice the same one, later."""
    rng = np.random.default_rng(3)
    curve = np.convolve(rng.random(90), np.ones(3) / 3, mode="same")
    frames = np.zeros((75, 8, 12, 3), np.uint8)
    frames[:, 2:6, 3:9] = np.round(255 * curve[:75])[:, None, None, None]
    seconds = np.arange(75 * 640) / 16_000
    loudness = np.exp(4 * np.interp(seconds - delay, (np.arange(90) + 0.5) / 25, curve) - 5)
    voice = (loudness * np.sin(2 * np.pi * 700 * seconds)).astype(np.float32)
    made = clip(3, frames=frames, waveform=voice[None])
    return Item(clip=made, face=(0.25, 0.25, 0.75, 0.75))


@pytest.fixture(scope="module")
def syncnet(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("syncnet") / "syncnet.pt2"
    return export(path, SyncNet(), (3, 5, 224, 224), (1, 13, 20))


def test_a_late_voice_has_a_positive_offset(syncnet):
    metric = LipSyncError.from_files({"syncnet": syncnet})
    values = [metric.score(talking(delay)) for delay in (0.0, 0.2)]
    assert values[1]["offset_ms"] - values[0]["offset_ms"] == 200
    assert abs(values[0]["offset_ms"]) <= 40
    assert all(found["lse_c"] > 0 for found in values)


def test_lips_need_a_box_and_some_time(syncnet):
    metric = LipSyncError.from_files({"syncnet": syncnet})
    item = talking(0.0)
    metric.update(Item(clip=item.clip))
    metric.update(Item(clip=item.clip.slice(0, 1.4), face=item.face))
    assert all(value.isnan() for value in metric.compute().values())
    assert list(metric.unmeasured) == [
        "there is no face box",
        "30 windows of lips and voice; 31 are needed, that is 1.44 s of both",
    ]
    for wrong in ((0.5, 0, 0.5, 1), (0, 0, 1, 2), (0, 0, 1), "left", 7, (0, 0, 1, float("nan"))):
        with pytest.raises(ValueError, match=r"face box is .*; give \[left, top, right, bottom\]"):
            metric.update(Item(clip=item.clip, face=wrong))
    whole = LipSyncError(metric.model, whole_frame=True)
    cropped = item.clip.replace(frames=item.clip.frames[:, 2:6, 3:9])
    found, expected = whole.score(Item(clip=cropped)), metric.score(item)
    assert found == pytest.approx(expected)


@pytest.fixture(scope="module")
def imagebind(tmp_path_factory) -> ImageBind:
    folder = tmp_path_factory.mktemp("imagebind")
    paths = {
        "imagebind_video": export(folder / "v.pt2", Embedder(6, 1024), (3, 2, 224, 224)),
        "imagebind_audio": export(folder / "a.pt2", Embedder(1, 1024, 1), (1, 128, 204)),
    }
    return ImageBind.from_files(paths)


def test_imagebind_score_is_the_cosine_of_means(imagebind):
    metric, made = ImageBindScore(imagebind), clip(6, fps=10, size=(8, 12))
    pictures = Embedder(6, 1024)(neighbour_pairs(made.frames, made.fps))
    sounds = Embedder(1, 1024, 1)(sound_spectra(mono(made, 16_000)))
    expected = F.cosine_similarity(
        F.normalize(pictures, dim=1).mean(0), F.normalize(sounds, dim=1).mean(0), dim=0
    )
    assert metric.score(Item(clip=made))["imagebind"] == pytest.approx(float(expected), abs=1e-4)
    metric.update(Item(clip=clip(3.5, fps=10, size=(8, 12))))
    assert list(metric.unmeasured) == ["the picture is shorter than 4 s, two frames at one per 2 s"]
    metric.update(Item(clip=made.replace(waveform=made.waveform[:, :300])))
    assert metric.unmeasured["the sound is shorter than 0.025 s"] == 1


def test_javis_score_is_the_mean_of_the_lowest():
    cosines = torch.tensor([0.9, -0.2, 0.5, 0.1, 0.7, 0.3, 0.0, 0.4, 0.6, 0.8])
    pictures = torch.stack([cosines, (1 - cosines**2).sqrt()], dim=1)
    sound = torch.tensor([2.0, 0.0])
    whole = javis_score(pictures, [sound], [slice(0, 10)])
    assert whole == pytest.approx((-0.2 + 0.0 + 0.1 + 0.3) / 4)
    assert javis_score(pictures, [sound], [slice(0, 2)]) == pytest.approx(-0.2)  # at least one
    halves = javis_score(pictures, [sound, -sound], [slice(0, 5), slice(5, 10)])
    assert halves == pytest.approx(((-0.2 + 0.1) / 2 + (-0.8 - 0.6) / 2) / 2)


def test_javis_score_of_a_clip(imagebind):
    metric = JavisScore(imagebind)
    made = clip(2.5, fps=8, size=(8, 12))
    value = metric.score(Item(clip=made))["javis"]
    assert -1 <= value <= 1
    still = made.replace(frames=np.repeat(made.frames[:1], 16, axis=0))
    embedding = imagebind.embed_video(
        torch.stack([_still(still.frames[:1])] * 2, dim=2)
    )  # one picture: every window has one cosine
    sound = imagebind.embed_audio(sound_spectra(mono(still, 16_000))).mean(0)
    expected = F.cosine_similarity(embedding[0], sound, dim=0)
    assert metric.score(Item(clip=still))["javis"] == pytest.approx(float(expected), abs=1e-5)


def _still(frames: np.ndarray) -> torch.Tensor:
    from avgen_eval.weighted.imagebind import still_pairs

    return still_pairs(frames)[:, :, 0]
