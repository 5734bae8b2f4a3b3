import itertools
import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from avgen_eval.statistics import (
    benjamini_hochberg,
    compare,
    holm,
    minimum_effect,
    prompt_means,
    sign_flip_test,
)
from scipy.stats import kstest, ttest_1samp


@pytest.mark.parametrize(("size", "exact"), [(10, True), (30, False)])
def test_p_values_are_uniform_without_a_difference(size: int, exact: bool) -> None:
    rng = np.random.default_rng(4)
    # Symmetric around zero, neither normal nor of one variance.
    sets = rng.laplace(size=(400, size)) * rng.uniform(0.1, 5, size)
    results = [sign_flip_test(differences, rng, flips=499) for differences in sets]
    p_values = np.array([p for p, _ in results])
    assert {kind for _, kind in results} == {exact}
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(p_values <= 0.05) < 0.08


def test_exact_test_counts_every_pattern() -> None:
    differences = [0.5, -0.2, 1.1, 0.4, 0.4]
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=5)]
    share = np.mean(np.array(sums) >= abs(sum(differences)) - 1e-12)
    assert sign_flip_test(differences, np.random.default_rng(0)) == (share, True)
    assert sign_flip_test([1.0] * 6, np.random.default_rng(0))[0] == 2 / 64
    assert sign_flip_test([0.0] * 3, np.random.default_rng(0))[0] == 1


def test_sampled_and_counted_patterns_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(0).normal(0.4, 1, 14)
    exact, _ = sign_flip_test(differences, np.random.default_rng(0))
    monkeypatch.setattr("avgen_eval.statistics.comparison.EXACT_UP_TO", 0)
    sampled, kind = sign_flip_test(differences, np.random.default_rng(0), flips=10_000)
    assert not kind
    assert sampled == pytest.approx(exact, abs=0.015)


def test_pairing_finds_what_prompts_hide() -> None:
    rng = np.random.default_rng(0)
    prompts = [f"p{i}" for i in range(40) for _ in range(3)]
    level = np.repeat(rng.normal(0, 3, 40), 3)
    baseline = prompt_means((level + 0.3 * rng.normal(size=120)).tolist(), prompts)
    candidate = prompt_means((level + 0.2 + 0.3 * rng.normal(size=120)).tolist(), prompts)
    result = compare(candidate, baseline, rng)
    assert result is not None
    assert result.p_value < 0.001
    assert result.low is not None
    assert result.high is not None
    assert 0 < result.low < 0.2 < result.high
    assert result.minimum_effect is not None
    assert result.minimum_effect < result.difference
    assert result.wins > 2 * result.losses
    assert result.wins + result.ties + result.losses == result.num_prompts == 40
    assert json.loads(json.dumps(result.to_dict()))["exact"] is False


def test_interval_of_the_difference_and_the_test_agree() -> None:
    rng = np.random.default_rng(0)
    agree = 0
    for _ in range(60):
        values = dict(enumerate(rng.normal(0.3, 1, 30)))
        result = compare(values, dict.fromkeys(values, 0.0), rng, flips=999)
        assert result is not None
        assert result.low is not None
        assert result.high is not None
        agree += (result.p_value <= 0.05) == (result.low > 0 or result.high < 0)
    assert agree >= 54


def test_wins_follow_the_direction_and_the_tolerance() -> None:
    candidate = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 5.0, "only": 9.0}
    baseline = {"d": 4.95, "c": 2.0, "b": 2.5, "a": 0.0, "x": 1.0, "y": 1.0}
    rng = np.random.default_rng(0)
    higher = compare(candidate, baseline, rng, tolerance=0.1)
    lower = compare(candidate, baseline, rng, better="lower")
    assert higher is not None
    assert lower is not None
    assert (higher.wins, higher.ties, higher.losses) == (2, 1, 1)
    assert (lower.wins, lower.ties, lower.losses) == (1, 0, 3)
    assert higher.difference == pytest.approx((1 - 0.5 + 1 + 0.05) / 4)
    assert (higher.num_prompts, higher.num_unpaired) == (4, 3)
    assert higher.exact


def test_seeds_are_averaged_and_unmeasured_clips_left_out() -> None:
    means = prompt_means([1.0, 3.0, None, None, 5.0], ["a", "a", "a", "b", "c"])
    assert means == {"a": 2.0, "c": 5.0}


def test_few_and_no_prompts() -> None:
    rng = np.random.default_rng(0)
    assert compare({}, {"a": 1.0}, rng) is None
    single = compare({"a": 2.0}, {"a": 1.0}, rng)
    assert single is not None
    assert (single.p_value, single.low, single.minimum_effect) == (1.0, None, None)
    with pytest.raises(ValueError, match="none of the 1 prompts of the candidate is among the 1"):
        compare({"a": 1.0}, {"b": 1.0}, rng)
    with pytest.raises(ValueError, match="better is 'target'"):
        compare({"a": 1.0}, {"a": 1.0}, rng, better="target")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a value of prompt 'a' is nan"):
        compare({"a": float("nan")}, {"a": 1.0}, rng)
    with pytest.raises(ValueError, match=r"differences of shape \(0,\)"):
        sign_flip_test([], rng)


def test_minimum_effect_is_found_in_four_of_five_cases() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20_000, 25))
    effect = minimum_effect(noise[0] / noise[0].std(ddof=1))
    assert effect is not None
    found = np.asarray(ttest_1samp(noise + effect, 0, axis=1)[1]) <= 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.015)
    # Four times the prompts, half the effect.
    more = minimum_effect(np.tile(noise[0] / noise[0].std(ddof=1), 4))
    assert more is not None
    assert more == pytest.approx(effect / 2, rel=0.06)
    with pytest.raises(ValueError, match="power 1"):
        minimum_effect([1.0, 2.0], power=1)


def test_corrections_by_hand() -> None:
    p_values = [0.01, 0.04, 0.03, 0.005]
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04, then never falling.
    assert holm(p_values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # Times 4/1, 4/2, 4/3, 4/4 is 0.02, 0.02, 0.04, 0.04, then never rising towards smaller ones.
    assert benjamini_hochberg(p_values) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert holm([0.6, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([0.9, 0.8, 0.7]) == [1.0, 1.0, 1.0]
    assert benjamini_hochberg([0.02, 0.9, 0.001]) == pytest.approx([0.03, 0.9, 0.003])
    assert holm([]) == benjamini_hochberg([]) == []


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
def test_corrections_keep_order_and_refuse_other_numbers(
    correct: Callable[[Sequence[float]], list[float]],
) -> None:
    p_values = np.random.default_rng(0).uniform(size=30)
    corrected = np.array(correct(p_values.tolist()))
    assert (corrected >= p_values).all()
    assert (np.diff(corrected[np.argsort(p_values)]) >= 0).all()
    with pytest.raises(ValueError, match=r"p-values are \[0\.1, 1\.2\]"):
        correct([0.1, 1.2])


def test_holm_keeps_false_finds_rare() -> None:
    p_values = np.random.default_rng(0).uniform(size=(2000, 8))
    finds = [min(holm(row)) <= 0.05 for row in p_values.tolist()]
    assert np.mean(finds) == pytest.approx(0.05, abs=0.012)
