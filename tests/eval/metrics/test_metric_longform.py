import numpy as np
import pytest
from avgen_eval.metrics.longform import (
    LongClipMetric,
    last_to_first,
    similarity_at,
    slope_per_second,
)

from avgen.measure.onsets import Curve


def curve(*values: float, step: float = 0.5) -> Curve:
    return Curve(np.array(values), step, start=step / 2)


def test_slope_of_a_line_is_per_second() -> None:
    assert slope_per_second(curve(1, 3, 5, 7)) == pytest.approx(4)
    assert slope_per_second(curve(1, 3, 5, 7, step=2)) == pytest.approx(1)
    assert slope_per_second(curve(2, 2, 2)) == 0


def test_slope_is_that_of_least_squares() -> None:
    noisy = Curve(np.random.default_rng(0).normal(0, 1, 40), 0.25, 3.0)
    expected = np.polyfit(noisy.times, noisy.values, 1)[0]
    assert slope_per_second(noisy) == pytest.approx(expected)


def test_windows_without_a_value_do_not_count() -> None:
    assert slope_per_second(curve(1, np.nan, 5, np.nan, 9)) == pytest.approx(4)
    assert slope_per_second(curve(np.nan, 1, np.nan)) is None
    assert slope_per_second(curve(3)) is None
    assert last_to_first(curve(2, np.nan, 4, np.nan, 5, 5), share=0.5) == pytest.approx(5 / 3)


def test_ratio_of_the_ends() -> None:
    assert last_to_first(curve(4, 9, 9, 9, 2)) == 0.5
    assert last_to_first(curve(*[4] * 3, 9, 9, 9, 9, 9, 9, *[6] * 6)) == 1.5
    assert last_to_first(curve(0, 1, 2)) is None
    assert last_to_first(curve(np.nan, 1, 2)) is None
    assert last_to_first(curve(1)) is None
    with pytest.raises(ValueError, match=r"share 0\.6"):
        last_to_first(curve(1, 2), share=0.6)


def test_similarity_of_a_turning_vector() -> None:
    angles = np.deg2rad(6) * np.arange(60)
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.linspace(1, 9, 60)[:, None]
    for distance in (1, 2, 5, 10, 20, 50):
        expected = np.cos(np.deg2rad(6) * distance)
        assert similarity_at(features, distance) == pytest.approx(expected)
    assert similarity_at(features, 60) is None
    assert similarity_at(features, 99) is None


def test_zero_vectors_have_no_angle() -> None:
    features = np.array([[1.0, 0], [0, 0], [1, 0], [0, 1]])
    assert similarity_at(features, 1) == 0
    assert similarity_at(features, 2) == 1
    assert similarity_at(np.zeros((4, 3)), 1) is None


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="steps, dimensions"):
        similarity_at(np.ones(4), 1)
    with pytest.raises(ValueError, match="finite"):
        similarity_at(np.full((4, 2), np.nan), 1)
    with pytest.raises(ValueError, match="distance 0"):
        similarity_at(np.ones((4, 2)), 0)
    with pytest.raises(ValueError, match=r"not values of shape \(0,\)"):
        slope_per_second(curve())
    with pytest.raises(ValueError, match="infinite"):
        last_to_first(curve(1, np.inf))


def test_metric_of_a_clip_that_fades() -> None:
    metric = LongClipMetric()
    scenes = np.eye(12)[np.arange(60) // 5]
    metric.update({"brightness": curve(*np.linspace(1, 0.5, 6), step=1)}, scenes)
    metric.update({"brightness": curve(*np.linspace(0.5, 1, 6), step=1)}, None, scenes)
    values = metric.compute()
    assert values["brightness_slope"] == pytest.approx(0)
    assert values["brightness_slope_abs"] == pytest.approx(0.1)
    assert values["brightness_last_to_first"] == pytest.approx((0.5 + 2) / 2)
    assert values["picture_similarity_2s"] == values["sound_similarity_2s"]
    assert values["sound_similarity_2s"] == pytest.approx(36 / 58)
    assert values["picture_similarity_5s"] == 0
    assert values["loudness_slope"].isnan()


def test_a_curve_of_few_windows_says_nothing() -> None:
    few = curve(5, np.nan, 4, 3, 2, np.nan)
    values = LongClipMetric().measure({"motion": few})
    assert values["motion_slope"] is values["motion_slope_abs"] is None
    enough = LongClipMetric().measure({"motion": curve(5, np.nan, 4, 3, 2, 1)})
    assert enough["motion_slope"] is not None


def test_units_are_those_of_the_curves() -> None:
    fields = LongClipMetric.fields
    assert fields["loudness_slope"].unit == "LU/s"
    assert fields["offset_slope_abs"].better == "lower"
    assert "loudness_last_to_first" not in fields  # decibels have no zero
    assert "motion_last_to_first" in fields


def test_unknown_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="'bright' is not known; use offset, motion"):
        LongClipMetric().measure({"bright": curve(1, 2)})
