import librosa
import numpy as np
import pytest
import torch
from avgen_eval.codec import log_mel_distance, psnr
from avgen_eval.metrics import reconstruction
from avgen_eval.metrics.reconstruction import (
    ReconstructionMetric,
    picture_fidelity,
    si_sdr,
    stft_distance,
)
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio
from torchmetrics.image import (
    MultiScaleStructuralSimilarityIndexMeasure,
    PeakSignalNoiseRatio,
    StructuralSimilarityIndexMeasure,
)

RATE = 16_000


def pictures(frames: int = 5, size: int = 32, noise: float = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    waves = np.sin(np.arange(size) / 5)
    base = 128 + 80 * waves[:, None, None] * waves[None, :, None] * rng.uniform(0.5, 1, 3)
    original = np.stack([np.roll(base, 2 * i, axis=1) for i in range(frames)])
    decoded = original + rng.normal(0, noise, original.shape)
    return original.astype(np.uint8), decoded.clip(0, 255).astype(np.uint8)


def sounds(channels: int = 1, seconds: float = 0.5) -> np.ndarray:
    shape = (channels, round(seconds * RATE))
    return np.random.default_rng(1).normal(0, 0.1, shape).astype(np.float32)


def images(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("at_once", [1, 2 * 32 * 32, 1 << 20])
def test_picture_figures_are_those_of_torchmetrics(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(reconstruction, "PIXELS_AT_ONCE", at_once)
    original, decoded = pictures()
    fidelity = picture_fidelity(original, decoded)
    pair = images(decoded), images(original)
    assert fidelity.psnr_db == pytest.approx(float(PeakSignalNoiseRatio(data_range=255)(*pair)))
    similarity = StructuralSimilarityIndexMeasure(data_range=255.0)
    assert fidelity.ssim == pytest.approx(float(similarity(*pair)), abs=1e-5)
    assert fidelity.ssim is not None
    assert 0.3 < fidelity.ssim < 0.99
    assert fidelity.psnr_db == pytest.approx(psnr(original, decoded), abs=1e-4)


def test_multiscale_similarity_is_that_of_torchmetrics() -> None:
    original, decoded = pictures(frames=2, size=176)
    expected = MultiScaleStructuralSimilarityIndexMeasure(data_range=255.0)
    assert picture_fidelity(original, decoded).ms_ssim == pytest.approx(
        float(expected(images(decoded), images(original))), abs=1e-5
    )


def test_small_pictures_have_no_similarity() -> None:
    assert picture_fidelity(*pictures(2, 175)).ms_ssim is None
    assert picture_fidelity(*pictures(2, 11)).ssim is not None
    tiny = picture_fidelity(*pictures(2, 10))
    assert tiny.ssim is None
    assert 10 < tiny.psnr_db < 40


def test_closed_forms_of_the_picture() -> None:
    original = np.full((2, 16, 16, 3), 100, np.uint8)
    equal = picture_fidelity(original, original)
    assert (equal.psnr_db, equal.ssim, equal.ms_ssim) == (100, pytest.approx(1), None)
    shifted = picture_fidelity(original, original + 5)
    assert shifted.psnr_db == pytest.approx(10 * np.log10(255**2 / 25))
    constant = (0.01 * 255) ** 2
    luminance = (2 * 100 * 105 + constant) / (100**2 + 105**2 + constant)
    assert shifted.ssim == pytest.approx(luminance, abs=5e-4)


def test_frames_that_do_not_fit_are_refused() -> None:
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    for other in (frames[:1], frames.astype(np.float32), frames[..., 0]):
        with pytest.raises(ValueError, match="uint8 arrays"):
            picture_fidelity(frames, other)
    with pytest.raises(ValueError, match="at least one frame"):
        picture_fidelity(frames[:0], frames[:0])


def test_si_sdr_is_the_ratio_of_orthogonal_parts() -> None:
    clock = np.arange(RATE) / RATE
    wanted, other = np.sin(2 * np.pi * 100 * clock), np.sin(2 * np.pi * 300 * clock)
    decoded = (0.3 * (wanted + 0.1 * other))[None]
    assert si_sdr(wanted[None], decoded) == pytest.approx(20, abs=1e-6)
    assert si_sdr(wanted[None], decoded + 0.2) == pytest.approx(20, abs=1e-6)
    assert si_sdr(wanted[None], 0.5 * wanted[None]) == 100
    assert si_sdr(wanted[None], other[None]) == -100


def test_si_sdr_is_that_of_torchmetrics() -> None:
    original = sounds(2)
    decoded = original + 0.02 * sounds(2)[:, ::-1]
    expected = scale_invariant_signal_distortion_ratio(
        torch.tensor(decoded).double(), torch.tensor(original).double(), zero_mean=True
    )
    assert si_sdr(original, decoded) == pytest.approx(float(expected.mean()))


def test_silent_channels_have_no_si_sdr() -> None:
    original = sounds(2)
    silent = np.zeros_like(original)
    assert si_sdr(silent, original) is None
    assert si_sdr(original, silent) is None
    half = np.stack([silent[0], original[1]])
    assert si_sdr(half, half) == 100


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_stft_distance_of_a_gain(gain: float) -> None:
    sound = 5 * sounds()
    distance = stft_distance(sound, gain * sound)
    assert distance.convergence == pytest.approx(abs(1 - gain), rel=1e-5)
    assert distance.log_magnitude == pytest.approx(abs(np.log(gain)), rel=1e-3)


def test_stft_distance_is_that_of_librosa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "SPECTRA_AT_ONCE", 7)
    original, decoded = sounds(2), sounds(2)[:, ::-1]
    convergence, logarithms = [], []
    for size, hop, window in reconstruction.STFT_SIZES:
        first, second = (
            np.abs(librosa.stft(x.astype(float), n_fft=size, hop_length=hop, win_length=window))
            for x in (original, decoded)
        )
        convergence.append(np.linalg.norm(first - second) / np.linalg.norm(first))
        logarithms.append(np.abs(np.log(first.clip(10**-3.5) / second.clip(10**-3.5))).mean())
    distance = stft_distance(original, decoded)
    assert distance.convergence == pytest.approx(np.mean(convergence), rel=0.01)
    assert distance.log_magnitude == pytest.approx(np.mean(logarithms), rel=0.01)


def test_silence_against_sound() -> None:
    sound = sounds()
    silence = np.zeros_like(sound)
    assert stft_distance(sound, silence).convergence == pytest.approx(1)
    assert stft_distance(sound, silence).log_magnitude > 3
    assert stft_distance(silence, sound).convergence is None
    assert stft_distance(silence, silence).log_magnitude == 0


def test_sounds_that_do_not_fit_are_refused() -> None:
    sound = sounds(2)
    for other in (sound[:, 1:], sound[:1]):
        with pytest.raises(ValueError, match="differ; bring both"):
            si_sdr(sound, other)
        with pytest.raises(ValueError, match="differ; bring both"):
            stft_distance(sound, other)
    with pytest.raises(ValueError, match="at least one sample"):
        stft_distance(sound[:, :0], sound[:, :0])


def test_metric_measures_what_it_is_given() -> None:
    metric = ReconstructionMetric()
    frames, sound = pictures(), sounds()
    metric.update(original_frames=frames[0], decoded_frames=frames[1])
    metric.update(original_waveform=sound, decoded_waveform=sound / 2, sample_rate=RATE)
    values = metric.compute()
    assert values["psnr_db"] == pytest.approx(psnr(*frames), abs=1e-4)
    assert values["log_mel_db"] == pytest.approx(log_mel_distance(sound, sound / 2, RATE))
    assert values["stft_convergence"] == pytest.approx(0.5)
    assert values["ms_ssim"].isnan()
    assert metric.counts.tolist() == [1, 1, 0, 1, 1, 1, 1]


def test_half_a_pair_is_refused() -> None:
    metric = ReconstructionMetric()
    with pytest.raises(ValueError, match="both original_frames"):
        metric.update(original_frames=pictures()[0])
    with pytest.raises(ValueError, match="sample_rate"):
        metric.update(original_waveform=sounds(), decoded_waveform=sounds())
