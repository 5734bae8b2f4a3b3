from pathlib import Path

import pytest
import torch
from avgen_data_prep.rendering import RenderedWorlds, TrainingStream, render_batch
from avgen_data_prep.worlds import HELD_OUT_SEED
from lightning import Trainer

from avgen.codecs.video_vae import VideoVAE
from avgen.training.video_vae import (
    VideoVAETraining,
    kl_divergence,
    motion_weight,
    psnr,
    split_parameters,
)


def small_vae() -> VideoVAE:
    torch.manual_seed(0)
    return VideoVAE(
        latent_channels=8,
        encoder_widths=(24, 32),
        encoder_depths=(1, 1),
        decoder_widths=(24, 32),
        decoder_depths=(1, 1),
    )


def small_data(**changes: object) -> RenderedWorlds:
    options = {"size": 32, "num_frames": 5, "batch_size": 4, "duration": 0.52} | changes
    return RenderedWorlds(["bounce", "drums"], val_clips_per_world=2, **options)  # pyright: ignore[reportArgumentType]


def test_psnr_of_a_known_error() -> None:
    frames = torch.zeros(2, 3, 1, 4, 4)
    decoded = frames + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1, 1)
    torch.testing.assert_close(psnr(decoded, frames), torch.tensor([20.0, 40.0]))


def test_moving_pixels_count_more() -> None:
    frames = torch.zeros(1, 3, 4, 4, 4)
    frames[:, 0, :2, 1, 2] = 1
    weight = motion_weight(frames, gain=3.0)
    torch.testing.assert_close(weight.mean(), torch.tensor(1.0))
    torch.testing.assert_close(weight[0, 0, 0, 1, 2] / weight[0, 0, 0, 0, 0], torch.tensor(4.0))


def test_kl_is_zero_only_for_the_unit_gaussian() -> None:
    zero = torch.zeros(3)
    assert kl_divergence(zero, zero) == 0
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(1.0, 0.5), torch.distributions.Normal(0.0, 1.0)
    )
    log_variance = 2 * torch.tensor(0.5).log()
    torch.testing.assert_close(kl_divergence(torch.tensor(1.0), log_variance), expected)


def test_every_parameter_is_trained_once() -> None:
    vae = small_vae()
    matrices, others = split_parameters(vae)
    assert {id(p) for p in matrices + others} == {id(p) for p in vae.parameters()}
    assert len(matrices) + len(others) == len(list(vae.parameters()))
    assert all(p.ndim > 1 for p in matrices)


def test_batches_are_a_pure_function_of_the_step() -> None:
    settings = small_data().settings
    batch = render_batch(settings, 0, 5)
    assert batch["frames"].shape == (4, 3, 5, 32, 32)
    assert batch["waveform"].shape == (4, 1, 5 * 640)
    assert -1 <= batch["frames"].min() < batch["frames"].max() <= 1
    assert torch.equal(batch["frames"], render_batch(settings, 0, 5)["frames"])
    assert not torch.equal(batch["frames"], render_batch(settings, 0, 6)["frames"])
    resumed = next(iter(TrainingStream(settings, 0, first_step=5)))
    assert torch.equal(batch["waveform"], resumed["waveform"])


def test_modalities_can_be_left_out() -> None:
    assert set(render_batch(small_data(audio=False).settings, 0, 0)) == {"frames"}
    assert set(render_batch(small_data(video=False).settings, 0, 0)) == {"waveform"}


def test_validation_holds_whole_clips_of_every_world() -> None:
    batches = list(small_data().val_dataloader())
    assert [tuple(batch["frames"].shape) for batch in batches] == [(2, 3, 13, 32, 32)] * 2
    assert HELD_OUT_SEED == 1_000_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"sample_rate": 16_001}, "not a multiple"), ({"num_frames": 99}, "exceeds the 13 frames")],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_batch(small_data(**changes).settings, 0, 0)


def test_unknown_worlds_are_refused() -> None:
    with pytest.raises(ValueError, match="'mars'"):
        RenderedWorlds(["bounce", "mars"])


def fit(module: VideoVAETraining, data: RenderedWorlds, steps: int) -> None:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*(does not have many workers|`IterableDataset`):UserWarning")
def test_training_improves_calibrates_and_saves(tmp_path: Path) -> None:
    data = small_data(batch_size=4, audio=False)
    output = tmp_path / "vae.safetensors"
    module = VideoVAETraining(
        small_vae(), output=str(output), warmup_steps=5, calibration_batches=2, learning_rate=5e-3
    )
    held_out = next(iter(data.val_dataloader()))["frames"]
    with torch.no_grad():
        before = psnr(module.vae.decode(module.vae.encode(held_out)), held_out).mean()
    fit(module, data, 40)
    loaded = VideoVAE.from_file(output)
    assert loaded.identity == module.vae.identity
    with torch.no_grad():
        after = psnr(loaded.decode(loaded.encode(held_out)), held_out).mean()
        calibration = [render_batch(data.settings, 0, step)["frames"] for step in range(2)]
        values = loaded.encode(torch.cat(calibration)).transpose(0, 1).flatten(1)
    assert after > before + 2
    torch.testing.assert_close(values.std(1), torch.ones(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(values.mean(1), torch.zeros(8), atol=1e-3, rtol=0)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*(does not have many workers|`IterableDataset`):UserWarning")
def test_decoder_only_keeps_latents_and_identity(tmp_path: Path) -> None:
    before, after = small_vae(), tmp_path / "after.safetensors"
    data = small_data(audio=False)
    frames = next(iter(data.val_dataloader()))["frames"]
    before.calibrate([frames])
    before.save(tmp_path / "before.safetensors")
    module = VideoVAETraining(
        small_vae(),
        init_from=str(tmp_path / "before.safetensors"),
        output=str(after),
        decoder_only=True,
    )
    fit(module, data, 3)
    vae = VideoVAE.from_file(after)
    with torch.no_grad():
        latents = before.eval().encode(frames)
        assert vae.identity == before.identity
        assert torch.equal(vae.encode(frames), latents)
        assert not torch.equal(vae.decode(latents), before.decode(latents))
