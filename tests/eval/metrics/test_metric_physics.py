import numpy as np
import pytest
from avgen_eval.metrics.physics import (
    PhysicsMetric,
    motion_masks,
    physics_iq,
    picture_error,
    spatial_iou,
    spatiotemporal_iou,
    weighted_spatial_iou,
)

SIZE, SIDE = 64, 12
SQUARE = SIDE**2


def frames_of(*columns: int | None, row: int = 20, grey: int = 200) -> np.ndarray:
    """A grey square on black with its left side at a column per frame; None is no square."""
    frames = np.zeros((len(columns), SIZE, SIZE, 3), np.uint8)
    for frame, column in zip(frames, columns, strict=True):
        if column is not None:
            frame[row : row + SIDE, column : column + SIDE] = grey
    return frames


def masks_of(*columns: int | None, row: int = 20) -> np.ndarray:
    return frames_of(*columns, row=row)[..., 0] > 0


def test_still_pictures_have_no_motion() -> None:
    assert not motion_masks(frames_of(10, 10, 10, 10)).any()
    assert motion_masks(frames_of(10)).shape == (1, SIZE, SIZE)


def test_first_frame_is_the_background() -> None:
    masks = motion_masks(frames_of(None, 10, 10))
    assert masks.any(axis=(1, 2)).tolist() == [False, True, True]
    assert not masks[:, :15].any()
    assert masks[1, 20 : 20 + SIDE, 10 : 10 + SIDE].all()
    assert SQUARE <= masks[1].sum() <= (SIDE + 4) ** 2


@pytest.mark.parametrize(("levels", "moves"), [(14, False), (15, True)])
def test_threshold_is_ten_levels_after_the_average(levels: int, moves: bool) -> None:
    """The average has taken 30% of a change: 70% of 14 levels (9.8, whole: 10) is not above 10."""
    frames = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    frames[1] = levels
    assert motion_masks(frames)[1].all() == moves
    assert motion_masks(frames)[1].any() == moves


def test_the_average_forgets() -> None:
    """After n frames a step of 100 levels is 100 * 0.7^n from the average: 11.8 at 6, 8.2 at 7."""
    frames = np.zeros((9, SIZE, SIZE, 3), np.uint8)
    frames[1:] = 100
    assert motion_masks(frames)[:, 0, 0].tolist() == [False] + [True] * 6 + [False] * 2


def test_small_things_are_opened_away_and_small_holes_closed() -> None:
    frames = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    frames[1, 10, 10] = 255
    assert not motion_masks(frames).any()
    frames[1, 20:40, 20:40] = 200
    frames[1, 30, 30] = 0
    assert motion_masks(frames)[1, 20:40, 20:40].all()


def test_overlaps_of_squares() -> None:
    first, second = masks_of(0, 20, 40), masks_of(0, 26, 40)
    union = 2 * SQUARE + SIDE * (SIDE + 6)
    assert spatial_iou(first, second) == pytest.approx((2 * SQUARE + SIDE * (SIDE - 6)) / union)
    middle = (SIDE - 6) / (SIDE + 6)
    assert spatiotemporal_iou(first, second) == pytest.approx((1 + middle + 1) / 3)


def test_weighted_overlap_counts_how_long() -> None:
    assert weighted_spatial_iou(masks_of(5, 5, 5, 5), masks_of(5, None, None, None)) == 0.25
    assert spatial_iou(masks_of(5, 5, 5, 5), masks_of(5, None, None, None)) == 1
    first, second = masks_of(0, 0, 20), masks_of(0, 20, 20)
    assert weighted_spatial_iou(first, second) == pytest.approx((1 + 1) / (2 + 2))


def test_the_same_path_at_another_time() -> None:
    first, second = masks_of(0, 20, 40), masks_of(40, 0, 20)
    assert spatial_iou(first, second) == weighted_spatial_iou(first, second) == 1
    assert spatiotemporal_iou(first, second) == 0


def test_empty_masks_agree() -> None:
    nothing, something = masks_of(None, None), masks_of(None, 9)
    for overlap in (spatial_iou, spatiotemporal_iou, weighted_spatial_iou):
        assert overlap(nothing, nothing) == 1
    assert spatial_iou(nothing, something) == weighted_spatial_iou(nothing, something) == 0
    assert spatiotemporal_iou(nothing, something) == 0.5


def test_picture_error() -> None:
    first, second = frames_of(None, None), frames_of(10, None, grey=51)
    assert picture_error(first, second) == pytest.approx(0.2**2 * SQUARE / SIZE**2 / 2)


def test_score_formula() -> None:
    names = ["spatial_iou", "spatiotemporal_iou", "weighted_spatial_iou", "mse"]
    variance = dict(zip(names, (0.8, 0.5, 0.4, 0.01), strict=True))
    values = dict(zip(names, (0.4, 0.1, 0.3, 0.03), strict=True))
    expected = 100 * ((0.5 + 0.2 + 0.75) / 3 - 0.02)
    assert physics_iq(values, variance) == pytest.approx(expected)
    assert physics_iq(variance, variance) == pytest.approx(100)
    assert physics_iq(variance, values) == 100
    assert physics_iq(dict.fromkeys(names, 0) | {"mse": 1}, variance) == 0
    assert physics_iq(values, variance | {"spatial_iou": 0}) is None
    assert physics_iq(values | {"mse": float("nan")}, variance) is None


def test_a_second_take_that_is_the_clip_scores_100() -> None:
    real, other = frames_of(None, 8, 16, 24), frames_of(None, 6, 14, 22)
    values = PhysicsMetric().measure(other, real, other)
    assert values["physics_iq"] == pytest.approx(100)
    assert values["mse"] == values["variance_mse"]
    still = PhysicsMetric().measure(frames_of(None, None, None, None), real, other)["physics_iq"]
    assert still is not None
    assert still < 30


def test_score_is_that_of_the_means() -> None:
    metric = PhysicsMetric()
    real, take = frames_of(None, 8, 16, 24), frames_of(None, 6, 14, 22)
    metric.update(take, real, take)
    metric.update(frames_of(None, 40, 40, 40), real, frames_of(None, 8, 16, 26))
    means = {name: float(value) for name, value in metric.compute().items()}
    variance = {name[9:]: means[name] for name in means if name.startswith("variance_")}
    assert means["physics_iq"] == pytest.approx(physics_iq(means, variance))
    metric.update(take, real)
    assert metric.compute()["physics_iq"].isnan()
    assert not metric.compute()["spatial_iou"].isnan()


def test_clips_that_do_not_fit_are_refused() -> None:
    metric = PhysicsMetric()
    with pytest.raises(ValueError, match="one frame rate, size and length"):
        metric.update(frames_of(1, 2), frames_of(1, 2, 3))
    with pytest.raises(ValueError, match="one frame rate, size and length"):
        metric.update(frames_of(1, 2), frames_of(1, 2), frames_of(1, 2, 3))
    with pytest.raises(ValueError, match="uint8"):
        metric.update(frames_of(1, 2) / 255, frames_of(1, 2) / 255)
    with pytest.raises(ValueError, match="at least one frame"):
        metric.update(frames_of(), frames_of())
    with pytest.raises(ValueError, match="at least two"):
        metric.update(frames_of(1), frames_of(1))
