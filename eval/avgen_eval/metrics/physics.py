"""Whether things move where and when they do in a real take: the Physics-IQ formulas.

S. Motamed, L. Culp, K. Swersky, P. Jaini and R. Geirhos, "Do generative video models understand
physical principles?", arXiv 2501.09038, 2025. There, clips of five seconds continue one filmed twice;
how far the second take is from the first says how well one can do.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from scipy.ndimage import correlate1d, maximum_filter, minimum_filter
from torch import Tensor

from avgen_eval.metrics.base import ClipMetric, Field, Values

AVERAGE_RATE = 0.3
MIN_CHANGE = 10
SQUARE = (5, 5)
BLUR = np.array([1, 4, 6, 4, 1]) / 16
GREY = np.array([0.299, 0.587, 0.114])
OVERLAPS = ("spatial_iou", "spatiotemporal_iou", "weighted_spatial_iou")
COMPARED = (*OVERLAPS, "mse")


def motion_masks(frames: np.ndarray) -> np.ndarray:
    """Where something moves, ``(F, H, W)`` of bool.

    Grey frames in whole levels, blurred by the binomial kernel of 5x5, are compared to their running
    average ``a <- 0.7 a + 0.3 grey`` (which the frame has entered): moving is what differs by more
    than 10 levels, after opening and closing with a square of 5x5. The first frame has no motion.

    Fails on: moving cameras, where everything moves; things of less than about 5 pixels, which the
    opening takes away; and things as bright as what is behind them.

    Args:
        frames: ``(F, H, W, 3)`` uint8. Masks depend on the size: bring all clips to one first.

    Raises:
        ValueError: The frames have another shape or type, or there is none.
    """
    _check(frames)
    average = _grey(frames[0])
    masks = np.zeros(frames.shape[:3], bool)
    for mask, frame in zip(masks[1:], frames[1:], strict=True):
        grey = _grey(frame)
        average += AVERAGE_RATE * (grey - average)
        moving = (np.abs(grey - np.round(average)) > MIN_CHANGE).astype(np.uint8)
        opened = maximum_filter(minimum_filter(moving, SQUARE), SQUARE)
        mask[:] = minimum_filter(maximum_filter(opened, SQUARE), SQUARE)
    return masks


def spatial_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Where it moved at any time: intersection over union; 1 where nothing moved in either.

    Args:
        first: Masks ``(F, H, W)``.
        second: Masks of the same shape.

    Raises:
        ValueError: The shapes differ.
    """
    _check_pair(first, second)
    return _overlap(np.asarray(first.any(axis=0)), np.asarray(second.any(axis=0)))


def spatiotemporal_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Where and when it moved: mean over frames of intersection over union; see `spatial_iou`.

    Frames without motion in either count as 1, so that still scenes score high by themselves.
    """
    _check_pair(first, second)
    return float(np.mean([_overlap(a, b) for a, b in zip(first, second, strict=True)]))


def weighted_spatial_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Where and how long it moved; see `spatial_iou`.

    ``sum min(a, b) / sum max(a, b)`` over pixels, of the shares of frames with motion at each.
    """
    _check_pair(first, second)
    return _overlap(first.sum(axis=0), second.sum(axis=0))


def picture_error(first: np.ndarray, second: np.ndarray) -> float:
    """Mean squared error of frames ``(F, H, W, 3)`` uint8, with white as 1.

    Raises:
        ValueError: The shapes differ.
    """
    _check_pair(first, second)
    errors = [
        np.mean(((a.astype(np.float32) - b) / 255) ** 2) for a, b in zip(first, second, strict=True)
    ]
    return float(np.mean(errors))


def physics_iq(values: Mapping[str, float], variance: Mapping[str, float]) -> float | None:
    """Total score, 0 to 100: ``100 clip[mean_k(IoU_k / IoU_k') - (MSE - MSE')]``.

    100 stands for as close to the first take as the second one is.

    Fails on: a still generated clip in a scene with little motion, and pictures whose colours drift,
    which hardly change the squared error.

    Args:
        values: ``spatial_iou``, ``spatiotemporal_iou``, ``weighted_spatial_iou`` and ``mse`` of
            generated clips against first takes. The paper takes means over all clips first.
        variance: The same of second takes against first ones.

    Returns:
        None where an overlap of the takes is 0 or a value is missing (NaN).
    """
    if not all(variance[name] > 0 for name in OVERLAPS):
        return None
    overlap = np.mean([values[name] / variance[name] for name in OVERLAPS])
    score = float(overlap - (values["mse"] - variance["mse"]))
    return 100 * float(np.clip(score, 0, 1)) if np.isfinite(score) else None


class PhysicsMetric(ClipMetric):
    """Motion of generated clips against real takes, and the Physics-IQ score.

    ``update(generated, real, second_take)`` takes frames ``(F, H, W, 3)`` uint8 of one shape and
    rate; without a second take, ``variance_*`` and ``physics_iq`` are None. As in the paper, the
    total ``physics_iq`` is the score of the means, not the mean of scores; it is NaN where some of
    the clips lack a second take.

    Unlike the paper's program, which stores masks as lossy video and then reduces all by four, masks
    and errors are those of the frames given.
    """

    fields: ClassVar = {
        "spatial_iou": Field(better="higher"),
        "spatiotemporal_iou": Field(better="higher"),
        "weighted_spatial_iou": Field(better="higher"),
        "mse": Field(unit="share of white^2", better="lower"),
        "variance_spatial_iou": Field(),
        "variance_spatiotemporal_iou": Field(),
        "variance_weighted_spatial_iou": Field(),
        "variance_mse": Field(unit="share of white^2"),
        "physics_iq": Field(unit="percent", better="higher"),
    }

    def measure(
        self, generated: np.ndarray, real: np.ndarray, second_take: np.ndarray | None = None
    ) -> Values:
        """All values of one clip; ValueError for frames that do not fit or fewer than two."""
        values = dict[str, float | None].fromkeys(self.fields)
        target = motion_masks(real)
        compared = _compare(generated, real, target)
        values |= compared
        if second_take is not None:
            variance = _compare(second_take, real, target)
            values |= {f"variance_{name}": value for name, value in variance.items()}
            values["physics_iq"] = physics_iq(compared, variance)
        return values

    def compute(self) -> dict[str, Tensor]:
        """Means by name, and the score of the means."""
        means = super().compute()
        counts = dict(zip(self.fields, self.counts.tolist(), strict=True))
        score = None
        if counts["variance_mse"] == counts["mse"]:
            values = {name: float(means[name]) for name in COMPARED}
            variance = {name: float(means[f"variance_{name}"]) for name in COMPARED}
            score = physics_iq(values, variance)
        total = means["mse"].new_tensor(np.nan if score is None else score)
        return means | {"physics_iq": total}


def _compare(frames: np.ndarray, real: np.ndarray, target: np.ndarray) -> dict[str, float]:
    _check_pair(frames, real)
    if len(real) < 2:
        raise ValueError("a single frame has no motion; give at least two frames")
    masks = motion_masks(frames)
    return {
        "spatial_iou": spatial_iou(masks, target),
        "spatiotemporal_iou": spatiotemporal_iou(masks, target),
        "weighted_spatial_iou": weighted_spatial_iou(masks, target),
        "mse": picture_error(frames, real),
    }


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    union = int(np.maximum(first, second).sum())
    return int(np.minimum(first, second).sum()) / union if union else 1.0


def _grey(frame: np.ndarray) -> np.ndarray:
    """Grey frame in whole levels, blurred; ends are mirrored without repeating the border."""
    grey = np.round(frame @ GREY)
    return np.round(correlate1d(correlate1d(grey, BLUR, 0, mode="mirror"), BLUR, 1, mode="mirror"))


def _check(frames: np.ndarray) -> None:
    right = frames.ndim == 4 and frames.shape[-1] == 3 and frames.dtype == np.uint8
    if not right or not frames.size:
        raise ValueError(
            f"frames of shape {frames.shape} and type {frames.dtype} must be (F, H, W, 3) uint8 with "
            "at least one frame"
        )


def _check_pair(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        raise ValueError(
            f"clips of shape {first.shape} and {second.shape} cannot be compared: bring them to one "
            "frame rate, size and length"
        )
