import numpy as np
import pytest
from avgen_eval.harness.sets import Arrays, Distribution, ShuffleGapOfEvents, UnmeasurableError
from avgen_eval.metrics.kernel import kernel_distance, permutation_test
from avgen_eval.metrics.manifold import precision_recall


def events(num: int, *, together: bool, seed: int = 0) -> dict[str, list[np.ndarray | None]]:
    """Times of sounds and pictures of clips."""
    rng = np.random.default_rng(seed)
    heard: list[np.ndarray | None] = [rng.uniform(0, 4, 5) for _ in range(num)]
    seen: list[np.ndarray | None] = [rng.uniform(0, 4, 5) for _ in range(num)]
    return {"sound": heard, "picture": heard if together else seen}


def names(num: int, seeds: int = 1) -> list[str]:
    return [f"p{i // seeds}" for i in range(num * seeds)]


def thrice(arrays: Arrays) -> Arrays:
    return {name: [row for row in rows for _ in range(3)] for name, rows in arrays.items()}


@pytest.mark.parametrize("together", [True, False])
def test_copies_of_a_clip_are_no_evidence(together: bool) -> None:
    scorer, arrays = ShuffleGapOfEvents(), events(15, together=together)
    once = scorer.score(arrays, names(15), np.random.default_rng(0))
    copied = scorer.score(thrice(arrays), names(15, 3), np.random.default_rng(0))
    assert copied["p"].value == once["p"].value
    assert copied["f1_gap"].value == pytest.approx(once["f1_gap"].value)
    assert (once["p"].num, copied["p"].num) == (15, 45)
    assert (once["p"].value < 0.1) == together


def test_shuffle_gap_needs_ten_prompts_and_says_so() -> None:
    arrays = events(12, together=True)
    with pytest.raises(UnmeasurableError, match=r"12 clips .* of 4 prompts; needs 10 prompts"):
        ShuffleGapOfEvents().score(arrays, names(4, 3), np.random.default_rng(0))
    arrays["picture"][:3] = [None] * 3
    with pytest.raises(UnmeasurableError, match=r"9 clips .* of 9 prompts"):
        ShuffleGapOfEvents().score(arrays, names(12), np.random.default_rng(0))


def vectors(seed: int, num_prompts: int = 60, shift: float = 0.0) -> tuple[Arrays, list[str]]:
    """Three clips of each prompt, alike, with one reference for all three."""
    rng = np.random.default_rng(seed)
    own, reference = (rng.normal(size=(num_prompts, 4)) for _ in range(2))
    clips = np.repeat(own, 3, axis=0) + 0.2 * rng.normal(size=(3 * num_prompts, 4)) + shift
    shared = np.repeat(reference, 3, axis=0)
    return {"clip": [*clips[:, None]], "reference": [*shared[:, None]]}, names(num_prompts, 3)


def test_a_reference_that_seeds_share_counts_once() -> None:
    arrays, prompts = vectors(0)
    clips = np.concatenate([a for a in arrays["clip"] if a is not None])
    reference = np.concatenate([a for a in arrays["reference"][::3] if a is not None])
    found = Distribution(kind="logmel").score(arrays, prompts, np.random.default_rng(0))
    expected = kernel_distance(clips, reference, kernel="gaussian", scale=100)
    assert found["kernel"].value == pytest.approx(expected)
    assert found["precision"].value == precision_recall(clips, reference)[0]
    assert (found["kernel"].num, found["kernel_p"].num) == (180, 60)


def test_seeds_of_a_prompt_raise_no_false_alarms_of_the_kernel_test() -> None:
    scorer, rng = Distribution(kind="logmel"), np.random.default_rng(0)
    alarms = naive = 0
    for seed in range(60):
        arrays, prompts = vectors(seed, num_prompts=24)
        alarms += scorer.score(arrays, prompts, rng)["kernel_p"].value <= 0.05
        clips, shared = (
            np.concatenate([a for a in arrays[name] if a is not None])
            for name in ("clip", "reference")
        )
        naive += permutation_test(clips, shared, rng, permutations=99).p_value <= 0.05
    assert alarms <= 8  # 3 are expected; more than 8 has a chance of 0.4%
    assert naive > 20
    arrays, prompts = vectors(0, num_prompts=24, shift=1.0)
    assert scorer.score(arrays, prompts, rng)["kernel_p"].value < 0.01


def test_kernel_test_is_left_out_below_ten_prompts() -> None:
    arrays, _ = vectors(0, num_prompts=12)
    found = Distribution(kind="logmel").score(arrays, ["one"] * 36, np.random.default_rng(0))
    assert "kernel" in found
    assert "kernel_p" not in found
