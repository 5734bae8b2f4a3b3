import numpy as np
import pytest
from avgen_eval import damage
from avgen_eval.known import get_world
from avgen_eval.requested import requested_moments

from avgen.clip import Clip
from avgen.measure.onsets import sound_onsets


@pytest.fixture(scope="module")
def drums() -> tuple[Clip, list[float]]:
    example = get_world("drums").render(3, duration=1.96, fps=25, size=48, sample_rate=16_000)
    return example.clip, list(requested_moments(example.captions[0]).sound)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("offset_ms", [-320, -40, 0, 20, 160])
def test_shift_moves_every_onset(drums: tuple[Clip, list[float]], offset_ms: float) -> None:
    clip, times = drums
    moved = damage.shift_sound(clip, offset_ms)
    assert moved.waveform is not None
    assert clip.waveform is not None
    assert moved.waveform.shape == clip.waveform.shape
    found = sound_onsets(moved.waveform, moved.sample_rate)
    inside = [t + offset_ms / 1000 for t in times if 0.05 < t + offset_ms / 1000 < 1.85]
    assert all(min(abs(f - t) for f in found) < 0.01 for t in inside)


def test_stretch_grows_with_time(drums: tuple[Clip, list[float]]) -> None:
    clip, times = drums
    slow = damage.stretch_sound(clip, 1.02)
    assert slow.waveform is not None
    found = sound_onsets(slow.waveform, slow.sample_rate)
    late = [t for t in times if t * 1.02 < 1.85][-1]
    assert min(abs(f - late * 1.02) for f in found) < 0.006


def test_dropped_events_are_not_heard_and_others_are(drums: tuple[Clip, list[float]]) -> None:
    clip, times = drums
    fewer, left = damage.drop_events(clip, times, 0.5, rng())
    assert fewer.waveform is not None
    found = sound_onsets(fewer.waveform, fewer.sample_rate)
    assert len(left) == len(times) - max(1, round(0.5 * len(times)))
    assert len(found) == len(left)
    assert np.abs(np.array(found) - np.array(left)).max() < 0.01


def test_added_events_are_heard_where_it_says(drums: tuple[Clip, list[float]]) -> None:
    clip, times = drums
    more, present = damage.add_events(clip, times, 2, rng())
    assert more.waveform is not None
    found = sound_onsets(more.waveform, more.sample_rate)
    added = sorted(set(present) - set(times))
    assert len(added) == 2
    assert all(min(abs(f - t) for f in found) < 0.02 for t in added)


def test_noise_has_the_ratio_asked_for(drums: tuple[Clip, list[float]]) -> None:
    clip, _ = drums
    assert clip.waveform is not None
    noisy = damage.add_noise_to_sound(clip, 20, rng())
    noise = np.asarray(noisy.waveform) - clip.waveform
    ratio = 10 * np.log10((clip.waveform**2).mean() / (noise**2).mean())
    assert ratio == pytest.approx(20, abs=0.3)


def test_low_pass_keeps_the_low_and_removes_the_high() -> None:
    time = np.arange(16_000) / 16_000
    low, high = (0.4 * np.sin(2 * np.pi * f * time) for f in (300, 5000))
    clip = Clip(frames=None, waveform=(low + high)[None].astype(np.float32))
    passed = np.asarray(damage.low_pass_sound(clip, 1500).waveform)[0, 1000:-1000]
    assert np.abs(passed - low[1000:-1000]).max() < 0.01


def test_picture_damage_is_what_it_says(drums: tuple[Clip, list[float]]) -> None:
    clip, _ = drums
    assert clip.frames is not None
    frozen = damage.freeze_picture(clip, 0.8).frames
    assert frozen is not None
    assert (frozen[20:] == frozen[20]).all()
    assert (frozen[:21] == clip.frames[:21]).all()
    blurred = damage.blur_picture(clip, 2).frames
    assert blurred is not None
    assert (
        np.diff(blurred.astype(int), axis=1).std() < np.diff(clip.frames.astype(int), axis=1).std()
    )
    noisy = damage.add_noise_to_picture(
        clip.replace(frames=np.full_like(clip.frames, 128)), 5, rng()
    ).frames
    assert noisy is not None
    assert noisy.std() == pytest.approx(5, abs=0.2)


def test_damage_needs_its_stream(drums: tuple[Clip, list[float]]) -> None:
    silent = drums[0].replace(waveform=None)
    with pytest.raises(ValueError, match="no sound to damage"):
        damage.mute(silent)
    with pytest.raises(ValueError, match="exchange those of one rate"):
        damage.exchange_sound(drums[0], drums[0].replace(sample_rate=8_000))
