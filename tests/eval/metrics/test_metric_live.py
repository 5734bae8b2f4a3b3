import numpy as np
import pytest
from avgen_eval.metrics.live import (
    Arrivals,
    LiveMetric,
    gap_percentiles,
    play,
    real_time_factor,
    steady_factor,
)

CHUNK = 0.16


class Clock:
    """A simulated clock that a generator of chunks moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def stream(self, seconds_per_chunk: list[float], duration: float = CHUNK) -> Arrivals:
        times = []
        for seconds in seconds_per_chunk:
            self.now += seconds
            times.append(self.now)
        return Arrivals(np.array(times), np.full(len(times), duration))


def chunks(*seconds: float, duration: float = CHUNK) -> Arrivals:
    return Clock().stream(list(seconds), duration)


def test_fast_stream_never_waits() -> None:
    playback = play([chunks(1.0, *[0.1] * 9)], 0)
    assert playback.start_s == pytest.approx(1)
    assert (playback.stalls, playback.stall_s, playback.miss_share) == (0, 0, 0)


def test_stream_at_exactly_real_time_never_waits() -> None:
    assert play([chunks(1.0, *[CHUNK] * 999)], 0).stalls == 0


def test_slow_stream_waits_for_each_chunk() -> None:
    playback = play([chunks(1.0, *[0.2] * 9)], 0)
    assert playback.stalls == 9
    assert playback.stall_s == pytest.approx(9 * 0.04)
    assert playback.miss_share == pytest.approx(0.9)


def test_one_hiccup_is_one_stall_as_long_as_what_the_buffer_lacks() -> None:
    late = chunks(1.0, *[0.1] * 4, 1.0, *[0.1] * 4)
    ahead = 4 * (CHUNK - 0.1) + CHUNK
    assert play([late], 0).stalls == 1
    assert play([late], 0).stall_s == pytest.approx(1.0 - ahead)
    assert play([late], 0).miss_share == pytest.approx(5 / 10)


def test_a_start_buffer_trades_delay_for_stalls() -> None:
    """Chunk k is there at 0.5 + 0.2 k; four of them fill the buffer, at 1.1, and k is due at 1.1 + 0.16 k."""
    slow = chunks(0.5, *[0.2] * 39)
    buffered = play([slow], 0.5)
    assert buffered.start_s == pytest.approx(1.1)
    assert buffered.stalls == 39 - 15
    assert buffered.stall_s == pytest.approx(0.04 * 39 - 0.6)
    assert play([slow], 0).stall_s == pytest.approx(0.04 * 39)
    assert play([slow], 99).start_s == pytest.approx(0.5 + 39 * 0.2)
    assert play([slow], 99).stalls == 0


def test_both_streams_wait_for_the_later_one() -> None:
    picture, sound = chunks(0.5, *[0.1] * 4), chunks(0.8, 0.1, 0.5, 0.1, 0.1)
    both = play([picture, sound], 0)
    assert both.start_s == pytest.approx(0.8)
    assert both.stalls == 1
    assert both.stall_s == pytest.approx(1.4 - (0.8 + 2 * CHUNK))
    assert play([sound, picture], 0) == both


def test_chunks_of_one_instant_make_one_stall() -> None:
    picture, sound = chunks(1.0, 0.5), chunks(1.0, 0.7)
    both = play([picture, sound], 0)
    assert (both.stalls, both.miss_share) == (1, 0.5)
    assert both.stall_s == pytest.approx(0.7 - CHUNK)


def test_streams_may_differ_in_their_chunks() -> None:
    picture = chunks(1.0, 0.3, 0.3, duration=0.4)
    sound = chunks(0.2, *[0.1] * 11, duration=0.1)
    playback = play([picture, sound], 0)
    assert playback.start_s == pytest.approx(1)
    assert playback.stalls == 0


def test_gaps() -> None:
    times = np.cumsum([0.7, *[0.1] * 98, 0.5])
    p50, p95, p99 = gap_percentiles(times) or (0, 0, 0)
    assert (p50, p95) == (pytest.approx(100), pytest.approx(100))
    assert p99 == pytest.approx(100 + 0.02 * 400)
    assert gap_percentiles(times[:1]) is None


def test_real_time_factors() -> None:
    fast, slow = chunks(2.0, *[0.08] * 10), chunks(2.0, *[0.32] * 10)
    assert real_time_factor([fast]) == pytest.approx((2 + 0.8) / (11 * CHUNK))
    assert steady_factor([fast]) == pytest.approx(0.5)
    assert steady_factor([fast, slow]) == pytest.approx(2)
    assert real_time_factor([fast, slow]) == pytest.approx((2 + 3.2) / (11 * CHUNK))
    assert steady_factor([fast, chunks(1.0)]) is None


def test_metric_of_picture_and_sound() -> None:
    metric = LiveMetric(buffer=0.3)
    metric.update(chunks(0.6, *[0.1] * 9), chunks(0.4, *[0.1] * 9))
    values = {name: float(value) for name, value in metric.compute().items()}
    assert values["first_frame_s"] == pytest.approx(0.6)
    assert values["first_sound_s"] == pytest.approx(0.4)
    assert values["first_both_s"] == pytest.approx(0.6)
    assert values["start_s"] == pytest.approx(0.7)
    assert values["stalls"] == values["stall_s"] == values["miss_share"] == 0
    assert values["picture_gap_p95_ms"] == pytest.approx(100)
    assert values["sound_gap_p50_ms"] == pytest.approx(100)


def test_metric_without_sound() -> None:
    metric = LiveMetric()
    metric.update(chunks(0.6), None)
    values = metric.compute()
    assert values["first_frame_s"] == pytest.approx(0.6)
    missing = {name for name, value in values.items() if value.isnan()}
    gaps = {f"{stream}_gap_p{p}_ms" for stream in ("picture", "sound") for p in (50, 95, 99)}
    assert missing == {"first_sound_s", "first_both_s", "steady_factor", *gaps}


def test_bad_arrivals_are_refused() -> None:
    for times, durations, message in (
        ([], [], "at least one chunk"),
        ([1.0, 2.0], [1.0], "one length"),
        ([2.0, 1.0], [1.0, 1.0], "do not decrease"),
        ([-1.0, 1.0], [1.0, 1.0], "since the request"),
        ([np.nan], [1.0], "do not decrease"),
        ([1.0], [0.0], "must be positive; the least is 0.0 s"),
    ):
        with pytest.raises(ValueError, match=message):
            Arrivals(np.array(times), np.array(durations))
    with pytest.raises(ValueError, match="at least one stream"):
        LiveMetric().update(None, None)
    with pytest.raises(ValueError, match="not -1"):
        play([chunks(1.0)], -1)
