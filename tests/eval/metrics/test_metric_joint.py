import numpy as np
import pytest
from avgen_eval.metrics.frechet import frechet_distance
from avgen_eval.metrics.joint import (
    cross_covariance,
    dependence_strength,
    joint_distance,
)
from avgen_eval.metrics.shuffle import set_shuffle_gap, shuffle_gap
from scipy.stats import kstest


def correlated(rho: float, n: int = 100, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of mean 0 and variance 1 (over N) whose correlation is exactly ``rho``."""
    raw = np.random.default_rng(seed).normal(size=(n, 2))
    white = np.linalg.qr(raw - raw.mean(axis=0))[0] * np.sqrt(n)
    return white[:, :1], rho * white[:, :1] + np.sqrt(1 - rho**2) * white[:, 1:]


def streams(n: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sound and picture that have a part in common."""
    rng = np.random.default_rng(seed)
    common = share * rng.normal(size=(n, 3))
    return common + rng.normal(size=(n, 3)), common + rng.normal(size=(n, 3))


def product(sound: np.ndarray, picture: np.ndarray) -> float:
    return float(sound @ picture)


def test_dependence_by_closed_form() -> None:
    tested, reference = correlated(0.8, seed=1), correlated(-0.3, seed=2)
    result = joint_distance(*tested, *reference, ddof=0)
    # The covariances commute, with eigenvalues 1 + rho and 1 - rho.
    expected = (1.8**0.5 - 0.7**0.5) ** 2 + (0.2**0.5 - 1.3**0.5) ** 2
    assert result.joint == pytest.approx(expected)
    assert result.audio == pytest.approx(0, abs=1e-9)
    assert result.video == pytest.approx(0, abs=1e-9)
    assert result.dependence == pytest.approx(expected)


def test_without_cross_covariance_the_parts_add_up() -> None:
    tested, reference = correlated(0.0, seed=1), correlated(0.0, seed=2)
    result = joint_distance(3 * tested[0], tested[1] + 1, *reference, ddof=0)
    assert result.audio == pytest.approx(4)
    assert result.video == pytest.approx(1)
    assert result.joint == pytest.approx(5)
    assert result.dependence == pytest.approx(0, abs=1e-9)


def test_units_of_a_stream_do_not_matter() -> None:
    tested, reference = streams(80, 1.0), streams(90, 0.2, seed=1)
    plain = joint_distance(*tested, *reference)
    scaled = joint_distance(tested[0] * 1e4 + 5, tested[1], reference[0] * 1e4 + 5, reference[1])
    assert scaled.joint == pytest.approx(plain.joint)
    assert plain.dependence > 0.1


def test_a_constant_feature_is_harmless() -> None:
    (sound, picture), reference = streams(60, 1.0), streams(60, 1.0, seed=1)
    flat = np.full((60, 1), 0.1)
    result = joint_distance(
        np.hstack([sound, flat]), picture, np.hstack([reference[0], flat]), reference[1]
    )
    assert result.joint == pytest.approx(joint_distance(sound, picture, *reference).joint)


def test_groups_of_the_picture_are_averaged() -> None:
    (sound, one), reference = streams(60, 1.0), streams(70, 0.5, seed=1)
    other, other_reference = one**3, reference[1] ** 3
    both = joint_distance(
        sound,
        np.hstack([one, other]),
        reference[0],
        np.hstack([reference[1], other_reference]),
        video_groups=2,
    )
    parts = [
        joint_distance(sound, one, *reference),
        joint_distance(sound, other, reference[0], other_reference),
    ]
    for name in ("joint", "audio", "video", "dependence"):
        expected = np.mean([getattr(part, name) for part in parts])
        assert getattr(both, name) == pytest.approx(expected)


def test_small_or_unpaired_sets_are_refused() -> None:
    tested, reference = streams(11, 1.0), streams(60, 1.0, seed=1)
    with pytest.raises(ValueError, match=r"n = 11 .* d = 6"):
        joint_distance(*tested, *reference)
    with pytest.raises(ValueError, match="10 sounds and 11 pictures do not pair up"):
        joint_distance(tested[0][:10], tested[1], *reference, force=True)
    with pytest.raises(ValueError, match="1 pairs cannot be exchanged"):
        shuffle_gap(product, tested[0][:1], tested[1][:1], np.random.default_rng(0))


def test_dependent_streams_have_a_gap_and_independent_ones_none() -> None:
    rng = np.random.default_rng(0)
    dependent = shuffle_gap(product, *streams(60, 1.0), rng)
    independent = shuffle_gap(product, *streams(60, 0.0, seed=5), rng)
    assert dependent.gap > 1.5
    assert dependent.z is not None
    assert dependent.z > 5
    assert dependent.p_value == pytest.approx(1 / 1001)
    assert independent.z is not None
    assert abs(independent.z) < 2
    assert independent.p_value > 0.05


def test_gap_is_the_trace_against_the_whole_matrix() -> None:
    matrix = np.random.default_rng(1).normal(size=(7, 7)) + 2 * np.eye(7)
    asked = []

    def score(i: int, j: int) -> float:
        asked.append((i, j))
        return float(matrix[i, j])

    result = shuffle_gap(score, range(7), range(7), np.random.default_rng(0), permutations=4000)
    assert result.paired == pytest.approx(matrix.trace() / 7)
    assert result.shuffled == pytest.approx(matrix.mean(), abs=0.02)
    assert result.gap == pytest.approx(result.paired - result.shuffled)
    assert result.num_pairs == 7
    assert len(asked) == len(set(asked)) == 49


def test_lower_is_better_turns_the_gap() -> None:
    rng = np.random.default_rng(0)
    sound, picture = streams(40, 2.0)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a - b))

    good = shuffle_gap(distance, sound, picture, rng, better="lower")
    wrong = shuffle_gap(distance, sound, picture, rng, better="higher")
    assert good.gap > 0.5 > 0 > wrong.gap
    assert good.p_value < 0.01
    assert wrong.p_value > 0.99


def test_expensive_scores_are_called_for_few_partners() -> None:
    calls = 0

    def score(a: np.ndarray, b: np.ndarray) -> float:
        nonlocal calls
        calls += 1
        return product(a, b)

    result = shuffle_gap(score, *streams(50, 1.5), np.random.default_rng(0), max_partners=9)
    assert calls == 50 * 10
    assert result.p_value == pytest.approx(1 / 10)
    assert result.gap > 1


def test_what_cannot_be_scored_is_left_out() -> None:
    def score(a: int, b: int) -> float | None:
        return None if 0 in (a, b) else float(a == b)

    result = shuffle_gap(score, range(5), range(5), np.random.default_rng(0))
    assert result.paired == 1
    with pytest.raises(ValueError, match="none of the 3 pairs"):
        shuffle_gap(lambda a, b: None, range(3), range(3), np.random.default_rng(0))


def test_scores_that_never_differ_have_no_z() -> None:
    result = shuffle_gap(lambda a, b: 0.3, range(6), range(6), np.random.default_rng(0))
    assert result.z is None
    assert result.gap == pytest.approx(0, abs=1e-12)
    assert result.p_value == 1


def test_p_values_are_uniform_for_independent_streams() -> None:
    rng = np.random.default_rng(0)
    p_values = []
    for seed in range(250):
        sound, picture = streams(12, 0.0, seed)
        result = set_shuffle_gap(
            lambda a, v: float(np.sum(a * v)), sound, picture, rng, better="higher", permutations=99
        )
        p_values.append(result.p_value)
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_joint_distance_of_sets_rises_when_partners_are_exchanged() -> None:
    reference = streams(120, 1.5, seed=1)
    sound, picture = streams(100, 1.5)

    def distance(a: np.ndarray, v: np.ndarray) -> float:
        return joint_distance(a, v, *reference).joint

    result = set_shuffle_gap(distance, sound, picture, np.random.default_rng(0))
    assert result.paired == pytest.approx(distance(sound, picture))
    assert result.gap > 0.2
    assert result.z is not None
    assert result.z > 5
    # Each stream alone cannot tell: its vectors are the same in any order.
    alone = frechet_distance(picture, reference[1])
    assert frechet_distance(picture[::-1], reference[1]) == pytest.approx(alone)


def test_cross_covariance_and_strength() -> None:
    sound, picture = streams(30, 1.0)
    whole = np.cov(np.hstack([sound, picture]).T)
    assert cross_covariance(sound, picture) == pytest.approx(whole[:3, 3:])
    assert dependence_strength(*correlated(-0.6)) == pytest.approx(0.6)
    assert dependence_strength(
        np.hstack([correlated(0.6)[0], np.ones((100, 1))]), correlated(0.6)[1]
    ) == (pytest.approx(0.6 / 2**0.5))


def seeds_of_prompts(seed: int, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Independent streams, each of which is much the same for all seeds of a prompt."""
    rng = np.random.default_rng(seed)
    prompts = np.repeat(np.arange(len(sizes)), sizes)
    sound, picture = (
        rng.normal(size=(len(sizes), 2))[prompts] + 0.5 * rng.normal(size=(len(prompts), 2))
        for _ in range(2)
    )
    mixed = rng.permutation(len(prompts))
    return sound[mixed], picture[mixed], prompts[mixed]


def false_alarms(sizes: np.ndarray, *, by_prompt: bool, sets: int = 200) -> float:
    """Share of sets without dependence that are called dependent at 5%."""
    rng = np.random.default_rng(0)
    alarms = 0
    for seed in range(sets):
        sound, picture, prompts = seeds_of_prompts(seed, sizes)
        result = set_shuffle_gap(
            lambda a, v: float(np.sum(a * v)),
            sound,
            picture,
            rng,
            prompts=prompts.tolist() if by_prompt else None,
            better="higher",
            permutations=99,
        )
        alarms += result.p_value <= 0.05
    return alarms / sets


def test_seeds_of_a_prompt_raise_no_false_alarms() -> None:
    three = np.full(60, 3)
    # 5% with a standard error of 1.5% over 200 sets.
    assert 0.02 <= false_alarms(three, by_prompt=True) <= 0.08
    assert false_alarms(three, by_prompt=False) > 0.1
    assert 0.02 <= false_alarms(np.tile([1, 2, 3, 4, 5], 12), by_prompt=True) <= 0.08


def test_dependent_seeds_are_found() -> None:
    sound, picture, prompts = seeds_of_prompts(0, np.full(60, 3))
    rng = np.random.default_rng(0)
    result = shuffle_gap(product, sound, sound + picture, rng, prompts=prompts.tolist())
    assert result.p_value == pytest.approx(1 / 1001)
    assert (result.num_pairs, result.num_prompts) == (180, 60)


def test_copies_of_each_clip_change_nothing() -> None:
    sound, picture = streams(12, 0.3)
    prompts = np.arange(12)
    once = shuffle_gap(product, sound, picture, np.random.default_rng(0), prompts=prompts.tolist())
    sounds, pictures = (np.repeat(array, 3, axis=0) for array in (sound, picture))
    owners = np.repeat(prompts, 3).tolist()
    copied = shuffle_gap(product, sounds, pictures, np.random.default_rng(0), prompts=owners)
    assert copied.p_value == once.p_value
    assert (copied.gap, copied.z) == (pytest.approx(once.gap), pytest.approx(once.z))
    assert (copied.num_pairs, copied.num_prompts) == (36, 12)


@pytest.mark.parametrize("max_partners", [None, 2])
def test_partners_come_from_another_prompt_and_keep_their_seeds(max_partners: int | None) -> None:
    prompts = ["a", "b", "a", "c", "b", "a", "c"]
    places = [(p, prompts[:i].count(p)) for i, p in enumerate(prompts)]
    sizes = {p: prompts.count(p) for p in prompts}
    asked: set[tuple[int, int]] = set()

    def score(i: int, j: int) -> float:
        asked.add((i, j))
        return 0.0

    shuffle_gap(
        score,
        range(7),
        range(7),
        np.random.default_rng(0),
        prompts=prompts,
        max_partners=max_partners,
    )
    for i, j in asked:
        (own, seed), (other, partner) = places[i], places[j]
        assert i == j if own == other else partner == seed % sizes[other]
    assert {(places[i][0], places[j][0]) for i, j in asked} == {
        (p, q) for p in "abc" for q in "abc"
    }


def test_prompts_must_fit_and_differ() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="2 prompts for 3 pairs"):
        shuffle_gap(product, *streams(3, 0.0), rng, prompts=["a", "b"])
    with pytest.raises(ValueError, match="all 3 pairs are of one prompt"):
        set_shuffle_gap(lambda a, v: 0.0, *streams(3, 0.0), rng, prompts=["a"] * 3)
