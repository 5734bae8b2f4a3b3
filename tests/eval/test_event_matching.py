from itertools import permutations

import mir_eval.onset
import mir_eval.util
import numpy as np
import pytest
from avgen_eval.events import distinct, match_events, pool, score_events, timing_error
from hypothesis import given, settings
from hypothesis import strategies as st

TIMES = st.lists(st.floats(0, 2, allow_nan=False), max_size=5)
WINDOWS = st.floats(0, 0.6)


def brute_force(asked: list[float], found: list[float], window: float) -> tuple[int, float]:
    """Most pairs, then least distance, over every one-to-one matching."""
    if len(asked) > len(found):
        asked, found = found, asked
    best = (0, 0.0)
    for order in permutations(range(len(found)), len(asked)):
        gaps = [abs(asked[i] - found[j]) for i, j in enumerate(order)]
        kept = [gap for gap in gaps if gap <= window + 1e-9]
        best = max(best, (len(kept), -sum(kept)))
    return best


@settings(max_examples=150, deadline=None)
@given(TIMES, TIMES, WINDOWS)
def test_matching_is_optimal(asked: list[float], found: list[float], window: float) -> None:
    pairs = match_events(asked, found, window)
    gaps = [abs(asked[i] - found[j]) for i, j in pairs]
    assert all(gap <= window + 1e-8 for gap in gaps)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    most, least = brute_force(asked, found, window)
    assert len(pairs) == most
    assert sum(gaps) == pytest.approx(-least, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(TIMES, TIMES, WINDOWS, st.floats(-3, 3))
def test_scores_are_symmetric_and_do_not_depend_on_where_time_starts(
    asked: list[float], found: list[float], window: float, shift: float
) -> None:
    score = score_events(asked, found, 1000 * window)
    swapped = score_events(found, asked, 1000 * window)
    assert (score.precision, score.recall, score.f1) == (
        swapped.recall,
        swapped.precision,
        swapped.f1,
    )
    # Away from the edge of the window, rounding cannot change what matches.
    gaps = np.abs(np.subtract.outer(asked, found))
    if not np.any(np.abs(gaps - window) < 1e-6):
        moved = score_events([t + shift for t in asked], [t + shift for t in found], 1000 * window)
        assert moved.num_matched == score.num_matched


@settings(max_examples=100, deadline=None)
@given(TIMES, TIMES, WINDOWS, WINDOWS)
def test_a_wider_window_never_matches_less(
    asked: list[float], found: list[float], first: float, second: float
) -> None:
    narrow, wide = sorted((first, second))
    assert len(match_events(asked, found, narrow)) <= len(match_events(asked, found, wide))


@given(st.lists(st.floats(0, 2), min_size=1, max_size=6))
def test_what_was_asked_for_exactly_scores_one(times: list[float]) -> None:
    score = score_events(times, times, 60)
    assert score.precision == score.recall == score.f1 == 1
    assert max(map(abs, score.errors_ms)) == 0


def test_optimal_beats_greedy() -> None:
    assert match_events([0.0, 1.0], [0.9, 1.8], 1.0) == [(0, 0), (1, 1)]


def test_the_edge_of_the_window_counts() -> None:
    assert score_events([1.0], [1.06], 60).f1 == 1
    assert score_events([1.0], [1.0601], 60).f1 == 0


def test_empty_lists() -> None:
    nothing = score_events([], [], 60)
    assert (nothing.precision, nothing.recall, nothing.f1) == (None, None, None)
    silent = score_events([1.0], [], 60)
    assert (silent.precision, silent.recall, silent.f1) == (None, 0, 0)
    babble = score_events([], [1.0], 60)
    assert (babble.precision, babble.recall, babble.f1) == (0, None, 0)


def test_pooling_weighs_by_events() -> None:
    total = pool([score_events([1.0], [1.0], 60), score_events([0.0, 1.0, 2.0], [5.0], 60)])
    assert total is not None
    assert (total.num_requested, total.num_detected, total.num_matched) == (4, 2, 1)
    assert total.f1 == pytest.approx(2 / 6)
    assert pool([]) is None
    with pytest.raises(ValueError, match="windows"):
        pool([score_events([], [], 60), score_events([], [], 120)])


def test_timing_error_is_signed_in_its_bias_only() -> None:
    errors = timing_error([-10.0, 30.0])
    assert errors is not None
    assert (errors.mean_ms, errors.median_ms, errors.bias_ms) == (20, 20, 10)
    assert errors.p90_ms == pytest.approx(28)
    assert timing_error([]) is None


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        match_events([0.0], [0.0], -0.1)
    with pytest.raises(ValueError, match="finite"):
        match_events([float("nan")], [0.0], 0.1)


def test_events_at_one_instant_count_once() -> None:
    assert distinct([1.0, 0.5, 1.01, 1.025]) == [0.5, 1.0, 1.025]


def test_matching_is_that_of_mir_eval() -> None:
    rng = np.random.default_rng(0)
    for _ in range(1000):
        window = rng.choice([0.01, 0.05, 0.06, 0.12, 0.5])
        asked, found = (np.sort(rng.uniform(0, 3, rng.integers(0, 16))) for _ in range(2))
        score = score_events(asked.tolist(), found.tolist(), 1000 * window)
        assert score.num_matched == len(mir_eval.util.match_events(asked, found, window))
        if len(asked) and len(found):
            f1, precision, recall = mir_eval.onset.f_measure(asked, found, window)
            assert score.f1 == pytest.approx(f1, abs=1e-12)
            assert (score.precision, score.recall) == (precision, recall)
