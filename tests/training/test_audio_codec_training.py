"""Training the audio codec: it learns, its losses tell clips apart, and the recipe describes it."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.objective.spectral import (
    flux_distance,
    log_mel_distance,
    magnitudes,
    onset_distance,
    reconstruction_losses,
    signal_distance,
    timbre_distance,
)
from avgen.training.audio_codec import AudioCodecTraining

RECIPE = Path(__file__).parents[2] / "recipes" / "audio_codec.yaml"
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*",
    "ignore:.*no `val_dataloader`.*",
    "ignore:.*isinstance\\(treespec, LeafSpec\\).*",
)


class Tones(IterableDataset):
    """Decaying tones that start somewhere."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        while True:
            yield {"waveform": tones(4, 1280, generator)}


def tones(batch: int, samples: int, generator: torch.Generator) -> Tensor:
    start, pitch = torch.rand(2, batch, 1, 1, generator=generator)
    time = torch.arange(samples) / 16_000 - 0.5 * start * samples / 16_000
    sound = torch.sin(2 * torch.pi * (300 + 600 * pitch) * time) * torch.exp(-30 * time)
    return 0.5 * torch.where(time >= 0, sound, 0.0)


def small_training(**changes: object) -> AudioCodecTraining:
    torch.manual_seed(0)
    codec = SeanetAudioCodec(
        num_filters=8, latent_channels=8, num_codebooks=2, codebook_size=16, patch=16
    )
    return AudioCodecTraining(codec, quantise_after=20, warmup_steps=5, **changes)  # type: ignore[arg-type]


def fit(training: AudioCodecTraining, steps: int) -> None:
    trainer = Trainer(max_steps=steps, gradient_clip_val=1.0, **QUIET)  # type: ignore[arg-type]
    trainer.fit(training, DataLoader(Tones(), batch_size=None))


def test_training_improves_fits_codebooks_and_exports(tmp_path: Path) -> None:
    path = tmp_path / "codec.safetensors"
    training = small_training(learning_rate=3e-3, export_to=str(path), calibration_batches=4)
    waveform = tones(8, 1280, torch.Generator().manual_seed(9))

    def loss() -> float:
        with torch.no_grad():
            decoded = training.codec.decoder(training.codec.encoder(waveform)[0])[0]
            return float(sum(reconstruction_losses(decoded, waveform, 16_000).values()))

    before = loss()
    fit(training, 50)
    assert loss() < 0.9 * before
    codec = SeanetAudioCodec.from_file(path)
    assert codec.quantiser.ready
    assert len(codec.encode_codes(waveform)[:, 0].unique()) > 2
    latents = codec.encode(tones(32, 1280, torch.Generator().manual_seed(10)))
    assert 0.6 < float(latents.std()) < 1.4


def test_decoder_only_keeps_latents_and_identity(tmp_path: Path) -> None:
    first = small_training(export_to=str(tmp_path / "first.safetensors"), calibration_batches=2)
    fit(first, 21)
    second = small_training(
        initial=str(tmp_path / "first.safetensors"),
        export_to=str(tmp_path / "second.safetensors"),
        decoder_only=True,
    )
    fit(second, 5)
    one, two = (
        SeanetAudioCodec.from_file(tmp_path / f"{n}.safetensors") for n in ("first", "second")
    )
    waveform = tones(2, 1280, torch.Generator().manual_seed(3))
    assert one.identity == two.identity
    assert torch.equal(one.encode(waveform), two.encode(waveform))
    assert not torch.equal(one.decode(one.encode(waveform)), two.decode(one.encode(waveform)))


def test_training_is_reproducible() -> None:
    runs = [small_training() for _ in range(2)]
    for training in runs:
        fit(training, 22)
    first, second = (training.codec.state_dict() for training in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_losses_are_zero_for_the_same_sound_and_grow_with_the_difference() -> None:
    waveform = tones(2, 4000, torch.Generator().manual_seed(0))
    same = reconstruction_losses(waveform, waveform, 16_000)
    assert all(float(loss) == pytest.approx(0, abs=1e-6) for loss in same.values())
    near = reconstruction_losses(0.9 * waveform, waveform, 16_000)
    far = reconstruction_losses(0.0 * waveform, waveform, 16_000)
    assert all(0 < float(near[name]) < float(far[name]) for name in same)


def test_log_mel_distance_of_a_gain_is_its_logarithm() -> None:
    generator = torch.Generator().manual_seed(0)
    waveform = 0.3 * torch.randn(1, 1, 16_000, generator=generator)
    distance = float(log_mel_distance(0.5 * waveform, waveform, 16_000))
    assert distance == pytest.approx(0.693, abs=0.08)


def test_timbre_weighs_the_strong_bands_and_not_the_level() -> None:
    time = torch.arange(16_000) / 16_000
    strong, weak = (
        level * torch.sin(2 * torch.pi * pitch * time)[None, None]
        for level, pitch in ((0.4, 500), (0.004, 3000))
    )
    sound = strong + weak
    without_weak = float(timbre_distance(strong, sound, 16_000))
    without_strong = float(timbre_distance(weak, sound, 16_000))
    assert 1e-3 < without_weak < 0.05 < 0.8 < without_strong
    quieter = float(timbre_distance(0.1 * strong, 0.1 * sound, 16_000))
    assert quieter == pytest.approx(without_weak, rel=0.05)


def test_flux_hears_the_dip_of_a_ringing_tone_better_than_onsets_do() -> None:
    time = torch.arange(16_000) / 16_000
    ring = (0.4 * torch.exp(-3 * time) * torch.sin(2 * torch.pi * 2_800 * time))[None, None]
    dip = 1 - 0.8 * torch.exp(-((time - 0.5) / 0.01).square())

    def flux(sound: Tensor, beside: Tensor) -> float:
        return float(flux_distance(sound + beside, ring + beside, 16_000))

    silence, softer = torch.zeros(()), 0.9 * ring
    onset_dip, onset_softer = (float(onset_distance(sound, ring)) for sound in (dip * ring, softer))
    assert flux(dip * ring, silence) > 5 * flux(softer, silence)
    assert flux(dip * ring, silence) / flux(softer, silence) > onset_dip / onset_softer
    louder = 0.6 * torch.sin(2 * torch.pi * 400 * time)
    assert flux(dip * ring, louder) < 0.7 * flux(dip * ring, silence)


def test_signal_distance_counts_decibels_and_phases_of_what_is_loud() -> None:
    sound = tones(2, 4000, torch.Generator().manual_seed(0))
    noise = torch.randn(sound.shape, generator=torch.Generator().manual_seed(1))
    noise = noise * (sound.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True))

    def distance(decibels: float) -> float:
        return float(signal_distance(sound + 10 ** (-decibels / 20) * noise, sound))

    assert distance(0) - distance(10) == pytest.approx(math.log(10), abs=0.02)
    assert distance(50) - distance(60) < 0.02
    assert float(signal_distance(torch.zeros_like(sound), sound)) == pytest.approx(6.91, abs=0.01)
    assert float(signal_distance(-sound, sound)) > 8
    silent = torch.zeros(1, 1, 4000)
    once, twice = (
        float(signal_distance(silent[..., :length] + 0.01, silent[..., :length]))
        for length in (2000, 4000)
    )
    assert once == pytest.approx(twice)
    assert math.isfinite(once)


def test_measuring_in_inference_mode_does_not_spoil_training() -> None:
    waveform = tones(1, 2000, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        log_mel_distance(waveform, waveform, 12_345)
    decoded = (0.5 * waveform).requires_grad_()
    log_mel_distance(decoded, waveform, 12_345).backward()
    assert decoded.grad is not None


def test_a_full_scale_sine_has_magnitude_one() -> None:
    time = torch.arange(16_000) / 16_000
    spectrum = magnitudes(torch.sin(2 * torch.pi * 1000 * time)[None, None], 256)
    assert float(spectrum[..., 20].max()) == pytest.approx(1, abs=0.02)


def test_recipe_builds_the_codec_with_one_latent_per_frame() -> None:
    recipe = yaml.safe_load(RECIPE.read_text())
    assert recipe["model"]["class_path"].endswith(AudioCodecTraining.__name__)
    arguments = recipe["model"]["init_args"]
    codec = SeanetAudioCodec(**arguments.pop("codec")["init_args"])
    AudioCodecTraining(codec, **arguments)
    assert codec.sample_rate / codec.hop == 25
    header = RECIPE.read_text().split("seed_everything")[0]
    for field in ("What", "Command", "Hardware", "Time", "Expected"):
        assert f"# {field}:" in header
