import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from avgen.data.sampler import Group, PureSampler, apportion, permute


def groups(*sizes: int, weights: tuple[float, ...] | None = None) -> list[Group]:
    starts = np.cumsum([0, *sizes])
    shares = weights or tuple(float(size) for size in sizes)
    return [
        Group(np.arange(start, start + size), share)
        for start, size, share in zip(starts, sizes, shares, strict=False)
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000, 4097])
def test_permute_is_a_permutation_that_depends_on_its_key(size: int) -> None:
    images = [permute(np.arange(size), size, key) for key in (0, 1, -5)]
    for image in images:
        assert np.array_equal(np.sort(image), np.arange(size))
    if size > 7:
        assert not np.array_equal(images[0], images[1])


def test_permutation_of_hundred_million_costs_nothing_to_enter() -> None:
    size = 100_000_000
    positions = np.array([0, 1, size // 2, size - 1])
    images = permute(positions, size, 3)
    assert len(set(images.tolist())) == 4
    assert images.min() >= 0
    assert images.max() < size
    assert np.array_equal(images[2:], permute(positions[2:], size, 3))


def test_permutations_mix() -> None:
    """Positions far apart and near are dealt alike: no correlation with the order of the data."""
    image = permute(np.arange(4096), 4096, 11)
    assert abs(np.corrcoef(np.arange(4096), image)[0, 1]) < 0.05
    assert np.abs(np.diff(image)).mean() == pytest.approx(4096 / 3, rel=0.1)


def test_batch_is_a_function_of_seed_and_step() -> None:
    first, second = (PureSampler(groups(40, 23), 8, seed=5) for _ in range(2))
    forward = [first.batch(step) for step in range(30)]
    backward = [second.batch(step) for step in reversed(range(30))]
    assert forward == backward[::-1]
    assert forward != [PureSampler(groups(40, 23), 8, seed=6).batch(step) for step in range(30)]


def test_batches_come_from_one_group_and_carry_their_step() -> None:
    sampler = PureSampler(groups(40, 23), 8)
    for step in range(24):
        batch = sampler.batch(step)
        assert len({draw.example < 40 for draw in batch}) == 1
        assert [draw.slot for draw in batch] == list(range(8))
        assert {draw.step for draw in batch} == {step}


def test_an_epoch_deals_each_example_once_where_batches_fit() -> None:
    sampler = PureSampler(groups(40, 24), 8)
    assert len(sampler) == 8
    for epoch in range(3):
        seen = [draw.example for step in range(8) for draw in sampler.batch(8 * epoch + step)]
        assert sorted(seen) == list(range(64))


def test_every_example_is_dealt_equally_often_where_batches_do_not_fit() -> None:
    sampler = PureSampler(groups(37), 8)
    steps = 37 * 5
    counts = Counter(draw.example for step in range(steps) for draw in sampler.batch(step))
    assert set(counts.values()) == {steps * 8 // 37}


def test_small_groups_give_small_batches_without_repeats() -> None:
    sampler = PureSampler(groups(32, 3), 8)
    small = [b for b in map(sampler.batch, range(len(sampler))) if b[0].example >= 32]
    assert [sorted(draw.example for draw in batch) for batch in small] == [[32, 33, 34]]


def test_epochs_differ_in_order() -> None:
    sampler = PureSampler(groups(64), 8)
    epochs = [[sampler.batch(8 * e + s) for s in range(8)] for e in range(2)]
    first, second = ([draw.example for batch in epoch for draw in batch] for epoch in epochs)
    assert first != second


def test_weights_set_the_shares_of_the_batches() -> None:
    sampler = PureSampler(groups(100, 20, weights=(1.0, 3.0)), 4, steps_per_epoch=20)
    kinds = Counter(sampler.batch(step)[0].example >= 100 for step in range(200))
    assert kinds == {True: 150, False: 50}


def test_state_is_the_step() -> None:
    sampler = PureSampler(groups(40), 8)
    sampler.load_state_dict({"step": 13})
    assert sampler.state_dict() == {"step": 13}
    assert next(iter(sampler)) == PureSampler(groups(40), 8).batch(13)
    assert len(list(sampler)) == len(sampler) == 5


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_batch_that_one_would_have(ranks: int) -> None:
    alone = PureSampler(groups(40, 6), 8, seed=2)
    several = [PureSampler(groups(40, 6), 8, seed=2, rank=r, num_ranks=ranks) for r in range(ranks)]
    for step in range(3 * len(alone)):
        parts = [sampler.batch(step) for sampler in several]
        assert len({len(part) for part in parts}) == 1
        joined = [draw.example for part in parts for draw in part]
        assert set(joined) == {draw.example for draw in alone.batch(step)}
        assert len(joined) - len(alone.batch(step)) < ranks


def test_a_range_stands_for_the_indices_it_spans() -> None:
    listed = PureSampler([Group(np.arange(30, 90, 2), 1.0)], 8, seed=3)
    spanned = PureSampler([Group(range(30, 90, 2), 1.0)], 8, seed=3)
    assert [listed.batch(s) for s in range(12)] == [spanned.batch(s) for s in range(12)]


def test_a_hundred_million_examples_cost_neither_time_nor_memory_to_start() -> None:
    tracemalloc.start()
    start = time.perf_counter()
    sampler = PureSampler(
        [Group(range(100_000_000), 1e6), Group(range(10**8, 10**8 + 40), 1.0)], 64
    )
    sampler.load_state_dict({"step": len(sampler) * 3 // 2})
    first = next(iter(sampler))
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len({draw.example for draw in first}) == 64
    assert seconds < 1
    assert peak < 1 << 20


def test_apportion_gives_everyone_something_and_adds_up() -> None:
    assert apportion([1, 1, 2], 8) == [2, 2, 4]
    assert apportion([1000, 1, 1], 10) == [8, 1, 1]
    assert sum(apportion([0.3, 0.3, 0.4], 11)) == 11
    with pytest.raises(ValueError, match="2 steps cannot serve 3 groups"):
        apportion([1, 1, 1], 2)


def test_senseless_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="no examples"):
        PureSampler([], 8)
    with pytest.raises(ValueError, match="batch_size 0"):
        PureSampler(groups(4), 0)
    with pytest.raises(ValueError, match="multiple of the number of ranks"):
        PureSampler(groups(4), 3, num_ranks=2)
