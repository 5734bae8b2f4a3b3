from itertools import pairwise

import numpy as np
import pytest
from avgen_eval.events import score_events
from avgen_eval.metrics.drift import Drift, fit_drift, measure_drift, windowed_offsets
from avgen_eval.metrics.mouth import NOT_MEASURABLE, mouth_voice_lag
from avgen_eval.metrics.sync import (
    SyncMetric,
    chance_corrected_f1,
    clip_offset,
    count_matches,
    graded_f1,
    within,
)
from eval_media import flash_and_beep
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from avgen.measure.motion import measure_motion, picture_impacts
from avgen.measure.onsets import Curve, find_onsets

FPS, DURATION = 25, 6.0


def irregular(seed: int, num: int, duration: float, margin: float = 0.5) -> np.ndarray:
    """Times whose gaps are all different and at least 0.2 s."""
    rng = np.random.default_rng(seed)
    gaps = rng.permutation(np.linspace(0.3, 1.0, num + 1))
    times = np.cumsum(gaps)[:-1] / gaps.sum()
    return margin + times * (duration - 2 * margin)


def seen(times: np.ndarray, duration: float = DURATION, noise: float = 0.02) -> Curve:
    """Strength of impacts at these times, each shared between the two nearest frames."""
    rng = np.random.default_rng(len(times))
    values = noise * rng.random(round(duration * FPS))
    for time in times:
        frame, share = divmod(time * FPS, 1.0)
        values[int(frame)] += 1 - share
        values[int(frame) + 1] += share
    return Curve(values, 1 / FPS)


def clip(late: float = 0.0, seed: int = 0, num: int = 8) -> dict:
    """What is extracted from a clip whose sound is ``late`` seconds late."""
    times = irregular(seed, num, DURATION)
    return {
        "sound_times": (times + late).tolist(),
        "sound_strengths": [10.0] * num,
        "picture_times": times.tolist(),
        "picture_strength": seen(times),
        "duration": DURATION,
    }


def test_matching_finds_as_many_pairs_as_hopcroft_and_karp() -> None:
    rng = np.random.default_rng(0)
    total = 0
    for _ in range(1000):
        asked, found = (rng.uniform(0, 3, rng.integers(1, 16)) for _ in range(2))
        window = float(rng.choice([0.06, 0.12, 0.4]))
        near = np.abs(asked[:, None] - found[None, :]) <= window
        most = int((maximum_bipartite_matching(csr_array(near)) >= 0).sum())
        assert score_events(asked.tolist(), found.tolist(), 1000 * window).num_matched == most
        assert count_matches(np.sort(asked).tolist(), np.sort(found).tolist(), window) == most
        total += most
    assert total > 3000


def test_random_times_match_no_better_than_chance() -> None:
    rng = np.random.default_rng(1)
    results = []
    for _ in range(150):
        sound, picture = (rng.uniform(0, 4, 7).tolist() for _ in range(2))
        results.append(chance_corrected_f1(sound, picture, 4.0, 120))
    corrected = np.array([r.corrected for r in results if r is not None])
    z = np.array([r.z for r in results if r is not None])
    assert len(corrected) == 150
    assert np.mean([r.f1 for r in results if r is not None]) > 0.25
    assert abs(corrected.mean()) < 0.025
    assert abs(z.mean()) < 0.2
    assert np.mean(np.abs(z) < 2) > 0.9


def test_shifting_the_sound_takes_a_synced_clip_to_chance() -> None:
    times = irregular(3, 6, DURATION).tolist()
    synced = chance_corrected_f1(times, times, DURATION, 60)
    assert synced is not None
    assert synced.f1 == 1
    assert synced.corrected == pytest.approx(1 - synced.chance)
    assert synced.corrected > 0.8
    assert synced.z is not None
    assert synced.z > 4
    late = chance_corrected_f1([t + 0.1 for t in times], times, DURATION, 60)
    assert late is not None
    assert late.corrected < 0.05


def test_rhythm_and_bustle_are_worth_less_than_irregular_events() -> None:
    beat = np.arange(0.25, DURATION, 0.25).tolist()
    regular = chance_corrected_f1(beat, beat, DURATION, 60)
    bustle = chance_corrected_f1(beat, [t + 0.06 for t in beat], DURATION, 120)
    assert regular is not None
    assert bustle is not None
    # A beat of 250 ms is met by 120 of every 250 ms of shift.
    assert regular.corrected == pytest.approx(1 - 120 / 250, abs=0.03)
    assert bustle.f1 == 1
    assert bustle.corrected < 0.1


def test_chance_of_empty_lists_and_wrong_arguments() -> None:
    assert chance_corrected_f1([], [], 2.0, 60) is None
    silent = chance_corrected_f1([], [1.0], 2.0, 60)
    assert silent is not None
    assert (silent.f1, silent.corrected, silent.z) == (0, 0, None)
    with pytest.raises(ValueError, match=r"duration is 0.*above 0"):
        chance_corrected_f1([1.0], [1.0], 0.0, 60)
    with pytest.raises(ValueError, match="num_shifts is 0"):
        chance_corrected_f1([1.0], [1.0], 2.0, 60, num_shifts=0)


def test_offset_follows_injected_shifts() -> None:
    shifts = np.arange(-300, 301, 20)
    measured = []
    for seed in range(3):
        for shift in shifts:
            things = clip(shift / 1000, seed)
            del things["picture_times"]
            offset = clip_offset(**things).offset_ms
            assert offset is not None
            measured.append(offset)
    slope, bias = np.polyfit(np.tile(shifts, 3), measured, 1)
    assert slope == pytest.approx(1.0, abs=0.02)
    assert abs(bias) < 5
    assert np.abs(np.array(measured) - np.tile(shifts, 3)).max() < 10


@pytest.mark.parametrize(
    ("late_ms", "unnoticed", "acceptable"),
    [(0, 1, 1), (100, 1, 1), (-60, 0, 1), (150, 0, 1), (-120, 0, 0), (220, 0, 0)],
)
def test_late_sound_is_forgiven_more_than_early_sound(
    late_ms: int, unnoticed: int, acceptable: int
) -> None:
    values = SyncMetric().measure(**clip(late_ms / 1000))
    assert values["offset_ms"] == pytest.approx(late_ms, abs=8)
    assert values["within_detectability"] == unnoticed
    assert values["within_acceptability"] == acceptable


def test_a_tolerance_holds_at_its_ends_and_says_nothing_of_what_is_unknown() -> None:
    assert [within(x, (-45, 125)) for x in (-45.1, -45, 125, 125.1)] == [0, 1, 1, 0]
    assert within(None, (-45, 125)) is None


def drifting(stretch: float, duration: float = 14.0) -> Drift | None:
    times = irregular(5, 34, duration)
    sound = (times * stretch).tolist()
    return measure_drift(sound, [10.0] * len(sound), seen(times, duration), duration)


@pytest.mark.parametrize("stretch", [1.02, 0.98, 1.0])
def test_a_stretched_sound_drifts(stretch: float) -> None:
    drift = drifting(stretch)
    assert drift is not None
    assert drift.num_windows >= 10
    assert drift.ppm == pytest.approx(1e6 * (stretch - 1), abs=600)
    assert drift.ms_per_second == pytest.approx(drift.ppm / 1000)


def test_drift_needs_three_windows_and_survives_a_wrong_one() -> None:
    assert drifting(1.02, duration=3.5) is None
    assert fit_drift([(0.0, 0.0), (1.0, 20.0)]) is None
    points = [(float(t), 20.0 * t) for t in range(7)]
    points[5] = (5.0, -350.0)
    assert fit_drift(points) == Drift(ms_per_second=20.0, num_windows=7)
    with pytest.raises(ValueError, match="must be positive"):
        windowed_offsets([], [], seen(np.array([])), 5.0, hop=0)


def test_single_events_do_not_make_a_drift() -> None:
    times = np.array([1.0, 3.2, 5.0, 7.2, 9.0])
    strengths = [10.0] * len(times)
    assert measure_drift(times.tolist(), strengths, seen(times, 10.0), 10.0) is None


def speech(seed: int, duration: float = 5.0) -> np.ndarray:
    """Openness of a mouth every 5 ms: words of random length and pauses."""
    rng = np.random.default_rng(seed)
    values, filled = np.zeros(round(duration / 0.005)), 0.2
    while filled < duration:
        length, size = rng.uniform(0.1, 0.4), rng.uniform(0.4, 1.0)
        values[round(filled / 0.005) : round((filled + length) / 0.005)] = size
        filled += length + rng.uniform(0.08, 0.5)
    return gaussian_filter1d(values, 6)


@pytest.mark.parametrize("late", [-0.2, -0.04, 0.0, 0.037, 0.12])
def test_lag_of_the_voice_behind_the_mouth(late: float) -> None:
    opening = speech(1)
    fine = 0.005 * np.arange(len(opening))
    frames = np.arange(0, 5.0, 1 / FPS)
    mouth = Curve(3.0 + np.interp(frames, fine, opening), 1 / FPS)
    voice = Curve(0.1 * np.interp(fine - late, fine, opening)[20:], 0.005, start=0.1)
    lag = mouth_voice_lag(mouth, voice)
    assert lag.lag_ms == pytest.approx(1000 * late, abs=5)
    assert lag.confidence > 0.99


def test_another_voice_is_rarely_taken_for_the_mouths_own() -> None:
    curves = [Curve(speech(seed), 0.005) for seed in range(61)]
    lags = [mouth_voice_lag(a, b) for a, b in pairwise(curves)]
    assert np.mean([lag.lag_ms is not None for lag in lags]) <= 0.12
    assert all(mouth_voice_lag(c, c).lag_ms == pytest.approx(0, abs=1e-6) for c in curves[:20])


def test_two_words_are_too_few_for_a_lag() -> None:
    short = Curve(speech(1)[:200], 0.005)
    lag = mouth_voice_lag(short, short)
    assert lag.correlation == pytest.approx(1)
    assert mouth_voice_lag(Curve(speech(1)[:140], 0.005), short) == NOT_MEASURABLE


def test_mouths_that_cannot_be_measured() -> None:
    voice = Curve(speech(1), 0.005)
    assert mouth_voice_lag(Curve(np.full(125, 0.3), 1 / FPS), voice) == NOT_MEASURABLE
    assert mouth_voice_lag(voice, Curve(voice.values, 0.005, start=4.9)) == NOT_MEASURABLE
    assert mouth_voice_lag(Curve(np.zeros(0), 0.04), voice) == NOT_MEASURABLE
    # 315 ms late agrees best at the last lag that is looked at, which is not its lag.
    beyond = mouth_voice_lag(voice, Curve(voice.values, 0.005, start=0.315))
    assert beyond.confidence > 0.99
    assert beyond.lag_ms is None
    with pytest.raises(ValueError, match="voice curve holds NaN"):
        mouth_voice_lag(voice, Curve(np.array([0.0, np.nan]), 0.005))


def test_values_of_a_clip_have_the_names_and_sizes_promised() -> None:
    values = SyncMetric().measure(**clip(-0.03), mouth=Curve(speech(1), 0.005))
    assert values.keys() == SyncMetric.fields.keys()
    assert values["f1_60ms"] == values["precision_60ms"] == values["recall_120ms"] == 1
    assert values["pair_offset_ms"] == pytest.approx(-30)
    assert values["offset_abs_ms"] == pytest.approx(30, abs=8)
    assert values["offset_measurable"] == 1
    assert values["drift_ppm"] == pytest.approx(0, abs=2000)
    assert values["mouth_lag_ms"] is values["mouth_confidence"] is None


@pytest.mark.parametrize("late", [-0.08, 0.0, 0.1])
def test_real_onsets_and_impacts_of_a_rendered_clip(late: float) -> None:
    rendered = flash_and_beep((6, 20, 37), late)
    assert rendered.waveform is not None
    assert rendered.frames is not None
    times, strengths = find_onsets(rendered.waveform, rendered.sample_rate)
    motion = measure_motion(rendered.frames, rendered.fps)
    values = SyncMetric().measure(
        sound_times=times,
        sound_strengths=strengths,
        picture_times=picture_impacts(motion),
        picture_strength=motion.strength,
        duration=rendered.duration,
    )
    assert values["offset_ms"] == pytest.approx(1000 * late, abs=5)
    assert values["f1_60ms"] == (late == 0.0)
    assert values["f1_120ms"] == 1
    # Three events in two seconds are met by chance in about 3 * 120 of every 1960 ms of shift.
    assert values["f1_chance_60ms"] == pytest.approx(3 * 120 / 1960, abs=0.03)


def test_precision_is_of_sounds_and_recall_of_impacts() -> None:
    things = clip()
    things["sound_times"] = things["sound_times"][:4]
    things["sound_strengths"] = things["sound_strengths"][:4]
    values = SyncMetric().measure(**things)
    assert (values["precision_60ms"], values["recall_60ms"]) == (1, 0.5)


def test_silence_is_not_measurable_and_is_no_zero() -> None:
    values = SyncMetric().measure(**clip() | {"sound_times": [], "sound_strengths": []})
    assert values["offset_measurable"] == 0
    assert values["recall_60ms"] == 0
    names = ("precision_60ms", "offset_ms", "offset_abs_ms", "within_detectability", "drift_ppm")
    assert [values[name] for name in (*names, "pair_offset_ms")] == [None] * 6


def test_one_strength_per_sound() -> None:
    with pytest.raises(ValueError, match="8 sound times with 1 strengths"):
        SyncMetric().measure(**clip() | {"sound_strengths": [1.0]})
    with pytest.raises(ValueError, match="duration is nan"):
        SyncMetric().measure(**clip() | {"duration": float("nan")})


def test_two_processes_give_the_result_of_one() -> None:
    parts, whole = [SyncMetric(), SyncMetric()], SyncMetric()
    curve = Curve(speech(2), 0.005)
    silent = clip() | {"sound_times": [], "sound_strengths": []}
    talking = clip(0.02, 2) | {"mouth": curve, "voice": curve}
    for index, things in enumerate((clip(0.1), clip(-0.1, 1), talking, silent)):
        parts[index % 2].update(**things)
        whole.update(**things)
    parts[0].merge_state(parts[1])
    merged, single = parts[0].compute(), whole.compute()
    for name in SyncMetric.fields:
        assert merged[name].item() == pytest.approx(single[name].item(), nan_ok=True)
    assert single["offset_measurable"] == 0.75
    assert single["offset_abs_ms"] == pytest.approx((100 + 100 + 20) / 3, abs=6)
    assert single["mouth_lag_ms"] == pytest.approx(0, abs=1e-6)


def test_graded_f1_falls_with_every_step_of_shift() -> None:
    seen = [0.5, 1.3, 2.2, 3.4]
    values = [
        graded_f1([t + late / 1000 for t in seen], seen, 4.0) for late in (0, 30, 50, 70, 90, 110)
    ]
    assert all(value is not None for value in values)
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]
    assert len(set(values)) == len(values)
    assert graded_f1([], [], 4.0) is None
    assert graded_f1([], seen, 4.0) == 0
