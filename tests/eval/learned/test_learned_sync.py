from pathlib import Path

import numpy as np
import pytest
import torch
from avgen_eval.damage import exchange_sound, shift_sound
from avgen_eval.known import get_world
from avgen_eval.learned.sync import LearnedSyncMetric, at_network_rates, learned_offset
from avgen_eval.learned.sync_network import (
    FPS,
    MAX_LAG,
    NUM_CLASSES,
    SyncNetwork,
    class_scores,
    lag_means,
)
from avgen_eval.learned.sync_training import draw_cuts, true_class

from avgen.checkpoint import CheckpointError
from avgen.clip import Clip


def render(world: str, seed: int) -> Clip:
    options = {"duration": 3.96, "fps": 25, "size": 48, "sample_rate": 16_000}
    return get_world(world).render(1_000_000 + seed, **options).clip


def test_lag_of_a_shifted_diagonal_is_found() -> None:
    for lag in (-30, 0, 7):
        products = torch.diag(torch.ones(100 - abs(lag)), lag)[None]
        means = lag_means(products)
        assert int(means.argmax()) - MAX_LAG == lag
        assert means.shape == (1, 2 * MAX_LAG + 1)
    short = lag_means(torch.zeros(1, 20, 20))
    assert int(torch.isfinite(short).sum()) == 2 * 8 + 1  # at least 12 of 20 steps overlap


def test_classes_gather_lags_around_their_centre() -> None:
    assert true_class(torch.tensor([-52, -50, -3, -2, 0, 2, 3, 52])).tolist() == [
        0, 0, 9, 10, 10, 10, 11, 20,
    ]  # fmt: skip
    scores = class_scores(torch.randn(3, 2 * MAX_LAG + 1))
    assert scores.shape == (3, NUM_CLASSES)
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(3))


def test_cuts_are_as_far_apart_as_they_say() -> None:
    frames = torch.arange(150.0)[None, None, :, None, None].expand(16, 3, 150, 48, 48)
    waveform = torch.arange(150.0).repeat_interleave(640)[None, None].expand(16, 1, -1)
    batch = {"frames": frames, "waveform": waveform}
    pictures, sounds, lags = draw_cuts(batch, 100, torch.Generator().manual_seed(0))
    assert len(set(lags.tolist())) > 8
    for picture, sound, lag in zip(pictures, sounds, lags.tolist(), strict=True):
        assert float(picture[0, 0, 0, 0] - sound[0, 0]) == lag  # its sound comes lag frames later
    with pytest.raises(ValueError, match="too short for cuts of 150"):
        draw_cuts(batch, 150, torch.Generator())


def test_clip_is_brought_to_the_rates_of_the_network() -> None:
    frames = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    clip = Clip(
        frames=frames, fps=30, waveform=np.zeros((2, 88_200), np.float32), sample_rate=44_100
    )
    picture, sound = at_network_rates(clip)
    assert len(picture) == 2 * FPS
    assert picture[:, 0, 0, 0].tolist() == [int((i + 0.5) * 1.2) for i in range(50)]
    assert sound.shape == (1, 32_000)


def test_weights_come_back(tmp_path: Path) -> None:
    network = SyncNetwork(width=8, channels=4).eval()
    sha = network.save(tmp_path / "s.safetensors", steps=3)
    back, found = SyncNetwork.from_file(tmp_path / "s.safetensors")
    assert found == sha
    inputs = torch.randn(1, 3, 30, 48, 48), torch.randn(1, 1, 30 * 640)
    with torch.inference_mode():
        torch.testing.assert_close(back(*inputs), network(*inputs))
    (tmp_path / "s.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="not a readable"):
        SyncNetwork.from_file(tmp_path / "s.safetensors")


@pytest.mark.parametrize("world", ["bounce", "drums", "talker", "engine"])
def test_shipped_weights_follow_a_shift(world: str) -> None:
    errors = []
    for seed in range(6):
        clip = render(world, seed)
        for offset in (0, 400):
            found = learned_offset(shift_sound(clip, offset))
            assert found is not None
            errors.append(abs(found.offset_ms - offset))
    assert np.median(errors) <= 80


def test_a_short_clip_is_not_asked_for_offsets_that_it_has_no_room_for() -> None:
    found = [
        learned_offset(render(world, seed).slice(0, 1.96))
        for world in ("bounce", "engine")
        for seed in range(6)
    ]
    offsets = [abs(each.offset_ms) for each in found if each]
    assert len(offsets) == 12
    assert max(offsets) <= 960
    assert np.mean(np.array(offsets) <= 200) >= 0.75


def test_sound_of_another_clip_is_less_certain() -> None:
    clips = [render("drums", seed) for seed in range(6)]
    right = [learned_offset(clip) for clip in clips]
    wrong = [
        learned_offset(exchange_sound(clip, other))
        for clip, other in zip(clips, clips[1:] + clips[:1], strict=True)
    ]
    sure, unsure = (np.mean([o.confidence for o in found if o]) for found in (right, wrong))
    assert sure > unsure


def test_what_cannot_be_measured_is_none() -> None:
    clip = render("drums", 0)
    assert learned_offset(clip.replace(waveform=None)) is None
    assert learned_offset(clip.slice(0, 0.6)) is None
    metric = LearnedSyncMetric()
    metric.update(clip.replace(waveform=None))
    assert metric.compute()["offset_ms"].isnan()
