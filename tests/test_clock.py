from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avgen import clock

quick = settings(max_examples=40, deadline=None, derandomize=True)
RATES = st.sampled_from(
    [Fraction(25), Fraction(24_000, 1001), Fraction(30_000, 1001), Fraction(60)]
)


@quick
@given(st.integers(-(10**12), 10**12))
def test_microseconds_survive_seconds(microseconds: int) -> None:
    assert clock.us_from_seconds(clock.seconds_from_us(microseconds)) == microseconds


@quick
@given(st.floats(-1e6, 1e6))
def test_seconds_survive_microseconds_to_half_a_microsecond(seconds: float) -> None:
    back = Fraction(clock.us_from_seconds(seconds), clock.MICROSECONDS)
    assert abs(back - Fraction(seconds)) <= Fraction(1, 2 * clock.MICROSECONDS)


@pytest.mark.parametrize(
    ("rate", "exact"),
    [
        (25, Fraction(25)),
        (29.97, Fraction(30_000, 1001)),
        (23.976, Fraction(24_000, 1001)),
        (23.98, Fraction(24_000, 1001)),
        (59.94, Fraction(60_000, 1001)),
        (12.5, Fraction(25, 2)),
        (7.3, Fraction(73, 10)),
        (0.003, Fraction(3, 1000)),
        (Fraction(16_000), Fraction(16_000)),
    ],
)
def test_rates_are_exact(rate: float, exact: Fraction) -> None:
    assert clock.as_rate(rate) == exact


@quick
@given(st.fractions(Fraction(1, 100), 400_000, max_denominator=10_000))
def test_fractional_rates_are_kept(rate: Fraction) -> None:
    assert clock.as_rate(rate) == rate
    assert clock.as_rate(clock.as_rate(float(rate))) == clock.as_rate(float(rate))


@pytest.mark.parametrize("rate", [0, -25, 1e-9, float("nan"), float("inf")])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        clock.as_rate(rate)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), float("-inf")])
def test_times_that_are_not_numbers_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        clock.us_from_seconds(seconds)


@quick
@given(st.integers(1, 10**7), RATES)
def test_count_inverts_duration(steps: int, rate: Fraction) -> None:
    assert clock.count(clock.duration(steps, rate), rate) == steps


@quick
@given(st.integers(1, 10_000), st.sampled_from([1, 2, 4, 8]))
def test_grid_is_nearest_and_decodes_to_itself(frames: int, stride: int) -> None:
    snapped = clock.frames_on_grid(frames, stride)
    assert (snapped - 1) % stride == 0
    assert abs(snapped - frames) <= stride / 2
    steps = clock.latent_steps(snapped, stride)
    assert clock.frames_from_latent_steps(steps, stride) == snapped


@pytest.mark.parametrize("frames", [0, -3, 2, 48])
def test_frames_off_the_grid_are_refused_with_the_nearest(frames: int) -> None:
    with pytest.raises(ValueError, match=rf"for example {clock.frames_on_grid(frames, 4)}"):
        clock.latent_steps(frames, 4)
    with pytest.raises(ValueError, match="at least 1"):
        clock.frames_from_latent_steps(0, 4)


@quick
@given(st.integers(1, 500), st.sampled_from([1, 4]), RATES)
def test_intervals_tile_time(steps: int, stride: int, fps: Fraction) -> None:
    frames = clock.frames_from_latent_steps(steps, stride)
    for intervals, total in (
        (clock.latent_intervals(steps, stride, fps), clock.duration(frames, fps)),
        (clock.step_intervals(steps, fps), clock.duration(steps, fps)),
    ):
        assert len(intervals) == steps
        assert intervals[0][0] == 0
        assert intervals[-1][1] == pytest.approx(total)
        assert all(before[1] == after[0] for before, after in pairwise(intervals))
        assert all(start < end for start, end in intervals)


def test_one_audio_step_per_frame_and_four_per_latent() -> None:
    latents = clock.latent_intervals(13, 4, 25)
    audio = clock.step_intervals(49, Fraction(16_000, 640))
    inside = [
        sum(a + 1e-9 >= start and b - 1e-9 <= end for a, b in audio) for start, end in latents
    ]
    assert inside == [1] + [4] * 12
