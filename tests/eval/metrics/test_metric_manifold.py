import numpy as np
import pytest
import torch
from avgen_eval.metrics.inception import inception_score
from avgen_eval.metrics.manifold import (
    ManifoldMetric,
    density_coverage,
    expected_coverage,
    neighbour_radii,
    precision_recall,
)

LINE = np.arange(10.0)[:, None]


def test_radii_on_a_line() -> None:
    assert neighbour_radii(LINE, 1).tolist() == [1] * 10
    assert neighbour_radii(LINE, 2).tolist() == [2, *[1] * 8, 2]


def test_equal_sets_and_sets_far_apart() -> None:
    points = np.random.default_rng(0).normal(size=(40, 5))
    assert precision_recall(points, points) == (1, 1)
    density, coverage = density_coverage(points, points)
    # Every ball holds its centre and its k neighbours.
    assert density == pytest.approx(6 / 5)
    assert coverage == 1
    assert precision_recall(points, points + 100) == (0, 0)
    assert density_coverage(points, points + 100) == (0, 0)


def test_half_of_the_vectors_outside_and_half_of_the_reference_missed() -> None:
    far = LINE + 1000
    near_and_far = np.concatenate([LINE, far])
    assert precision_recall(near_and_far, LINE) == (0.5, 1.0)
    assert precision_recall(LINE, near_and_far) == (1.0, 0.5)
    assert density_coverage(LINE, near_and_far, 1)[1] == 0.5


def test_counts_by_hand() -> None:
    # Balls of one neighbour reach 1 to both sides of 0, 1, ..., 9.
    tested = np.array([[0.5], [4.25], [-0.75], [20.0]])
    density, coverage = density_coverage(tested, LINE, neighbours=1)
    # 0.5 is in the balls of 0 and 1, 4.25 in those of 4 and 5, -0.75 in that of 0.
    assert density == (2 + 2 + 1 + 0) / 4
    assert coverage == 4 / 10
    assert precision_recall(tested, LINE, neighbours=1)[0] == 3 / 4


def test_an_outlier_of_the_reference_raises_precision_but_hardly_density() -> None:
    rng = np.random.default_rng(0)
    reference = np.concatenate([rng.normal(size=(50, 2)), [[30.0, 0.0]]])
    tested = rng.normal(size=(50, 2)) * 0.5 + [15.0, 0.0]
    assert precision_recall(tested, reference)[0] == 1
    assert density_coverage(tested, reference)[0] == pytest.approx(1 / 5)


def test_expectations_for_one_distribution() -> None:
    rng = np.random.default_rng(0)
    n, m, k = 30, 20, 3
    values = [
        density_coverage(rng.normal(size=(n, 2)), rng.normal(size=(m, 2)), k) for _ in range(400)
    ]
    density, coverage = np.mean(values, axis=0)
    assert density == pytest.approx(1, abs=0.02)
    assert coverage == pytest.approx(expected_coverage(n, m, k), abs=0.01)
    assert expected_coverage(1, 2, 1) == 0.5


def test_metric_equals_the_functions_over_processes() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(20, 3)), rng.normal(0.5, 1, (24, 3))
    parts = [ManifoldMetric(neighbours=2, coverage_neighbours=4) for _ in range(2)]
    for i in range(2):
        parts[i].update(torch.from_numpy(first[i::2]), reference=False)
        parts[i].update(torch.from_numpy(second[i::2]), reference=True)
    parts[0].merge_state(parts[1])
    values = parts[0].compute()
    assert list(values) == ["precision", "recall", "density", "coverage"]
    expected = [*precision_recall(first, second, 2), *density_coverage(first, second, 4)]
    assert [float(value) for value in values.values()] == pytest.approx(expected)


def test_metric_is_nan_where_sets_are_too_small() -> None:
    metric = ManifoldMetric()
    metric.update(torch.randn(3, 2), reference=True)
    assert all(value.isnan() for value in metric.compute().values())
    metric.update(torch.randn(3, 2), reference=False)
    metric.update(torch.randn(3, 2), reference=True)
    values = metric.compute()
    assert values["precision"].isnan()
    assert values["recall"].isnan()
    assert not values["density"].isnan()


def test_too_few_vectors_for_the_neighbours() -> None:
    with pytest.raises(ValueError, match="3 vectors have no 3 neighbours each; give at least 4"):
        precision_recall(LINE, LINE[:3])
    with pytest.raises(ValueError, match="neighbours is 0"):
        ManifoldMetric(neighbours=0)
    with pytest.raises(ValueError, match="sets of 0 and 10 vectors"):
        density_coverage(LINE[:0], LINE)


def test_inception_score_of_unsure_and_of_sure_and_varied_clips() -> None:
    assert inception_score(np.zeros((40, 7))) == pytest.approx((1, 0))
    classes = np.tile(np.arange(8), 25)
    logits = np.where(np.arange(8) == classes[:, None], 1000.0, 0.0)
    assert inception_score(logits, splits=1) == pytest.approx((8, 0))
    one_class = np.where(np.arange(8) == 3, 1000.0, np.zeros((20, 1)))
    assert inception_score(one_class, splits=4) == pytest.approx((1, 0))


def test_inception_score_shuffles_before_it_splits() -> None:
    classes = np.repeat(np.arange(4), 50)
    logits = torch.from_numpy(np.where(np.arange(4) == classes[:, None], 50.0, 0.0))
    mean, deviation = inception_score(logits, splits=4, generator=np.random.default_rng(3))
    assert mean > 3.7
    assert 0 < deviation < 0.2
    assert inception_score(logits, 4) == inception_score(logits, 4)
    with pytest.raises(ValueError, match="200 clips do not make 201 splits"):
        inception_score(logits, splits=201)
