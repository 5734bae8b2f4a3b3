"""What networks are given: golden values, and parity with other implementations."""

from fractions import Fraction

import librosa.filters
import numpy as np
import pytest
import torch
from avgen_eval.weighted import imagebind, synchformer, syncnet, vggish
from avgen_eval.weighted.base import NotMeasurableError
from avgen_eval.weighted.clip import evenly
from avgen_eval.weighted.i3d import i3d_input
from avgen_eval.weighted.pictures import (
    centre_crop,
    frames_at,
    normalised,
    short_side,
    stretched,
    three_crops,
)
from avgen_eval.weighted.sounds import fitted, mono
from PIL import Image
from weighted_models import chirp, clip


def numbered(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


@pytest.mark.parametrize(
    ("fps", "rate", "expected"),
    [
        (25, 25, [0, 1, 2, 3, 4, 5]),
        (50, 25, [1, 3, 5]),
        (Fraction(25, 2), 25, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
        (24, 25, [0, 1, 2, 3, 4, 5]),
        (3, 2, [0, 2, 3, 5]),
    ],
)
def test_frames_are_those_shown_in_the_middle(fps, rate, expected):
    assert frames_at(numbered(6), fps, rate)[:, 0, 0, 0].tolist() == expected


def test_a_rate_keeps_the_time_of_frames():
    source = frames_at(numbered(240), 30, 25)[:, 0, 0, 0].astype(float)
    shown, middles = (source + 0.5) / 30, (np.arange(200) + 0.5) / 25
    assert len(source) == 200
    assert np.abs(shown - middles).max() <= 0.5 / 30 + 1e-9
    assert abs(np.mean(shown - middles)) < 0.004  # a frame lasts 0.033


def test_resizing_is_that_of_pillow():
    frames = clip(0.2, size=(40, 61)).frames
    pixels = short_side(frames, 24)
    assert pixels.shape == (5, 3, 24, 36)  # 24 * 61 / 40 = 36.6, rounded down
    image = Image.fromarray(frames[1]).resize((36, 24), Image.Resampling.BICUBIC)
    # Pillow rounds to bytes between its two passes.
    difference = np.abs(np.asarray(image).astype(float) - pixels[1].permute(1, 2, 0).numpy())
    assert difference.max() <= 3
    assert difference.mean() < 0.5
    assert torch.equal(short_side(frames, 40)[0].permute(1, 2, 0), torch.tensor(frames[0]).float())
    assert stretched(frames, 8, antialias=False).shape == (5, 3, 8, 8)


def test_crops_and_normalisation():
    pixels = torch.arange(12.0).reshape(1, 1, 3, 4).expand(1, 3, 3, 4)
    assert centre_crop(pixels, 2)[0, 0].tolist() == [[1, 2], [5, 6]]
    assert [crop[0, 0].tolist() for crop in three_crops(pixels, 3)] == [
        [[0, 1, 2], [4, 5, 6], [8, 9, 10]],
        [[1, 2, 3], [5, 6, 7], [9, 10, 11]],
        [[1, 2, 3], [5, 6, 7], [9, 10, 11]],
    ]
    tall = three_crops(pixels.transpose(-1, -2), 3)
    assert torch.equal(tall[0], three_crops(pixels, 3)[0].transpose(-1, -2))
    values = normalised(torch.full((2, 3, 1, 1), 255.0), (0.5, 0.0, 1.0), (0.5, 2.0, 0.1))
    assert values[0].flatten().tolist() == [1.0, 0.5, 0.0]


def test_sound_is_mixed_resampled_and_fitted():
    stereo = np.stack([np.ones(4800), np.zeros(4800)]).astype(np.float32)
    samples = mono(clip(0.1, waveform=stereo, sample_rate=48_000), 16_000)
    assert samples.shape == (1600,)
    assert samples[400:1200].numpy() == pytest.approx(0.5, abs=1e-3)
    assert fitted(torch.tensor([[1.0, 2.0]]), 3).tolist() == [[1, 2, 0]]
    assert fitted(torch.tensor([1.0, 2.0]), 1).tolist() == [1]
    with pytest.raises(NotMeasurableError, match="no sound"):
        mono(clip(0.1, waveform=None), 16_000)
    assert len(mono(clip(0.1), 16_000, shortest=0.1)) == 1600
    with pytest.raises(NotMeasurableError, match=r"the sound is shorter than 0.101 s"):
        mono(clip(0.1), 16_000, shortest=0.101)


@pytest.mark.parametrize(
    ("frames", "segments"), [(15, 0), (16, 1), (23, 1), (24, 2), (100, 11), (120, 14), (200, 24)]
)
def test_segment_counts(frames, segments):
    assert synchformer.num_segments(frames, 16, 8) == segments
    assert synchformer.num_segments(frames * 640, 10_240, 5_120) == segments


def test_video_segments_of_eight_seconds_at_another_rate():
    made = clip(8, fps=10, size=(12, 16))
    segments = synchformer.video_segments(made)
    assert segments.shape == (24, 16, 3, 224, 224)
    assert torch.equal(segments[0, 8:], segments[1, :8])
    assert segments[0].aminmax().min == -1
    assert segments[0].aminmax().max == 1
    middle = short_side(made.frames[:1], 224)[..., 37:261]  # (298 - 224) / 2
    assert segments[0, 0].numpy() == pytest.approx(middle[0].numpy() / 127.5 - 1, abs=1e-6)
    assert synchformer.video_segments(clip(0.5)).shape == (0, 16, 3, 224, 224)


def test_audio_segments_of_eight_seconds():
    assert synchformer.audio_segments(clip(8, size=(2, 2))).shape == (24, 1, 128, 66)
    assert synchformer.audio_segments(clip(0.5)).shape == (0, 1, 128, 66)


def test_log_mel_of_synchformer():
    segments = chirp()[:20_480].reshape(2, -1)
    padded = np.pad(segments.astype(np.float64), ((0, 0), (512, 512)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 1024, axis=1)[:, ::160]
    hann = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400), 312)
    power = np.abs(np.fft.rfft(windows * hann)) ** 2
    bands = librosa.filters.mel(sr=16_000, n_fft=1024, n_mels=128, htk=True, norm=None)
    mel = np.swapaxes(power @ bands.T, 1, 2)
    level = np.pad(np.log(mel + 1e-6), ((0, 0), (0, 0), (0, 1)))
    found = synchformer.log_mel(torch.from_numpy(segments)).numpy()
    assert found == pytest.approx((level + 4.2677393) / (2 * 4.5689974), abs=1e-3)
    # A step that is missing is zero before the normalisation.
    assert found[:, :, 65] == pytest.approx(4.2677393 / (2 * 4.5689974))
    golden = [0.27836, -0.73523, -0.88934]
    assert found[0, [10, 20, 30], [5, 30, 60]] == pytest.approx(golden, abs=1e-3)


def test_cepstrum_of_syncnet_is_that_of_python_speech_features():
    # Values of python_speech_features 0.6 on the same integers; see the docstring of `mfcc`.
    samples = np.round(chirp().astype(np.float64) * 32_768)
    found = syncnet.mfcc(samples)
    assert found.shape == (13, 199)
    assert found[[0, 1, 5, 12], [0, 10, 100, 150]] == pytest.approx(
        [19.1001347, 19.1687406, -19.9438003, 19.9175811], abs=1e-6
    )
    assert syncnet.mfcc(samples[:300]).shape == (13, 1)
    assert syncnet.mfcc(samples[:401]).shape == (13, 2)
    silence = syncnet.mfcc(np.zeros(1000))
    assert silence[0] == pytest.approx(np.log(np.finfo(np.float64).eps))


def test_voice_windows_move_by_one_video_frame():
    made = clip(2, waveform=chirp()[None])
    windows = syncnet.voice_windows(made, 45)
    assert windows.shape == (45, 1, 13, 20)
    assert torch.equal(windows[3, 0, :, 4:], windows[4, 0, :, :-4])
    whole = syncnet.mfcc(np.round(chirp().astype(np.float64) * 32_768))
    assert windows[7, 0].numpy() == pytest.approx(whole[:, 28:48].astype(np.float32), rel=1e-5)


def test_lip_windows_are_blue_green_red_of_the_box():
    frames = np.zeros((60, 20, 40, 3), np.uint8)
    frames[:, 5:10, 10:30] = (200, 100, 50)
    frames[10, 5:10, 10:30] = (0, 0, 0)
    windows = syncnet.lip_windows(clip(2, frames=frames), (0.25, 0.25, 0.75, 0.5), 40)
    assert windows.shape == (40, 3, 5, 224, 224)
    assert windows[0].mean(dim=(1, 2, 3)).tolist() == pytest.approx([50, 100, 200])
    assert [float(windows[i, 0].mean()) for i in (5, 6, 10, 11)] == pytest.approx([50, 40, 40, 50])


def test_log_mel_of_vggish():
    # Values of the mel_features module of VGGish (torchvggish 0.2) on the same samples.
    windows = vggish.log_mel_windows(torch.from_numpy(chirp()))
    assert windows.shape == (2, 1, 96, 64)
    golden = [3.608323, 2.021502, 0.786372]
    assert windows[0, 0, [0, 50, 80], [3, 20, 30]].numpy() == pytest.approx(golden, abs=1e-4)
    silence = vggish.log_mel_windows(torch.zeros(15_600))
    assert silence.numpy() == pytest.approx(np.log(0.01))
    assert len(vggish.log_mel_windows(torch.zeros(15_599))) == 0
    assert vggish.SHORTEST == 15_600 / 16_000
    assert len(vggish.log_mel_windows(torch.zeros(100))) == 0


def test_spectra_of_imagebind():
    samples = torch.from_numpy(chirp(64_000))
    spectra = imagebind.sound_spectra(samples)
    assert spectra.shape == (3, 1, 128, 204)
    # 198 windows fit into 2 s; the rest is zero before the normalisation.
    assert spectra[:, :, :, 198:].numpy() == pytest.approx(4.268 / 9.138)
    assert torch.equal(spectra[1], imagebind.sound_spectra(samples[16_000:48_000])[0])
    assert torch.equal(spectra[2], imagebind.sound_spectra(samples[32_000:])[2])
    short = imagebind.sound_spectra(samples[:8_000])
    assert torch.equal(short[0], short[2])
    assert torch.equal(short[0], imagebind.sound_spectra(samples[:8_000] + 0.25)[0]) is False
    assert short[0].numpy() == pytest.approx(
        imagebind.sound_spectra(samples[:8_000] + 0.25)[0].numpy(), abs=0.05
    )


def test_pairs_of_imagebind():
    made = clip(8, fps=10, size=(8, 12))
    pairs = imagebind.neighbour_pairs(made.frames, made.fps)
    assert pairs.shape == (9, 3, 2, 224, 224)  # frames at 1, 3, 5 and 7 s: three pairs, three crops
    assert torch.equal(pairs[0, :, 1], pairs[1, :, 0])
    chosen = short_side(made.frames[[10]], 224)[0, :, :, :224]
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    assert torch.allclose(pairs[0, :, 0], (chosen / 255 - mean) / deviation, atol=1e-6)
    stills = imagebind.still_pairs(made.frames[:3])
    assert stills.shape == (3, 3, 2, 224, 224)
    assert torch.equal(stills[:, :, 0], stills[:, :, 1])


def naive_windows(length: int, size: int, step: int) -> list[tuple[int, int]]:
    """Step on until the end is reached, and move the last window back."""
    found, start = [], 0
    while True:
        start = min(start, length - size)
        found.append((start, start + size))
        if start + size >= length:
            return found
        start += step


@pytest.mark.parametrize(
    ("frames", "fps", "samples"), [(100, 25, 64_000), (101, 25, 65_000), (240, 30, 128_000), (95, 16, 70_000)]
)  # fmt: skip
def test_windows_of_javis(frames, fps, samples):
    found = imagebind.javis_windows(frames, fps, samples)
    size, step = 2 * fps, 2 * fps - int(1.5 * fps)
    pictures, sounds = naive_windows(frames, size, step), naive_windows(samples, 32_000, 8_000)
    assert len(found) == min(len(pictures), len(sounds))
    assert [(a.start, a.stop) for a, _ in found] == pictures[: len(found)]
    assert [(b.start, b.stop) for _, b in found] == sounds[: len(found)]


def test_a_short_clip_is_one_window_of_javis():
    whole = [(slice(0, 50), slice(0, 40_000))]
    assert imagebind.javis_windows(50, 25, 40_000) == whole
    assert imagebind.javis_windows(80, 25, 32_000) == [(slice(0, 80), slice(0, 32_000))]


def test_input_of_i3d():
    made = clip(0.8, size=(9, 13))
    video = i3d_input(made)
    assert video.shape == (1, 3, 16, 224, 224)
    assert float(video.abs().max()) <= 1 + 1e-6
    assert video[0, 1, :, 0, 0].numpy() == pytest.approx(
        made.frames[:16, 0, 0, 1] / 127.5 - 1, abs=1e-6
    )
    with pytest.raises(NotMeasurableError, match="15 frames; FVD needs 16"):
        i3d_input(clip(0.6))


def test_frames_are_chosen_evenly():
    assert evenly(3, 48).tolist() == [0, 1, 2]
    assert evenly(100, 4).tolist() == [12, 37, 62, 87]
