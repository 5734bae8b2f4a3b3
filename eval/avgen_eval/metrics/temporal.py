"""Whether a picture holds together in time: freezes, repeats, black, flicker, cuts, motion, sharpness."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np

from avgen.clock import Rate, as_rate
from avgen.measure.flow import PictureFlow, measure_flow, warp
from avgen_eval.metrics.base import ClipMetric, Field, Values

WHITE = 255.0
UNCHANGED = 1.01 / WHITE
MIN_FREEZE = 0.25
BLACK = 0.1
CUT_CHANGE, CUT_CONTRAST, CUT_LIKENESS = 8 / WHITE, 2.5, 0.85
CUT_SURROUND = 0.5
MIN_CONTRAST = 1 / WHITE
STATIC_SPEED = 0.005
GREY = np.array([0.299, 0.587, 0.114], np.float32)


def still_runs(grey: np.ndarray) -> list[int]:
    """Lengths of the runs of frames that do not differ from the first of their run.

    Two frames differ where any pixel of the picture, reduced to about 64 lines, differs by more than
    one of 255 levels. Each frame is compared to the first of its run, so that a slow fade is not
    still, but begins a run every few frames.

    Args:
        grey: ``(F, h, w)`` in [0, 1], from `avgen.measure.flow.reduce_frames`.
    """
    runs: list[int] = []
    first = 0
    for i in range(1, len(grey) + 1):
        if i == len(grey) or np.abs(grey[i] - grey[first]).max() > UNCHANGED:
            runs.append(i - first)
            first = i
    return runs


def freeze_share(runs: Sequence[int], fps: Rate) -> float | None:
    """Share of frames in still runs of at least two frames that last at least 0.25 s.

    Fails on: scenes in which nothing is meant to move, which are still by right; read it with the
    motion.

    Args:
        runs: From `still_runs`.
        fps: Frames per second.

    Returns:
        None for a single frame.
    """
    shortest = max(2.0, MIN_FREEZE * float(as_rate(fps)))
    total = sum(runs)
    return sum(run for run in runs if run >= shortest) / total if total > 1 else None


def duplicate_share(runs: Sequence[int]) -> float | None:
    """Share of frames after the first that repeat what is on the screen; None for a single frame.

    A picture at half its frame rate has 0.5, a frozen one 1.
    """
    total = sum(runs)
    return (total - len(runs)) / (total - 1) if total > 1 else None


def black_share(grey: np.ndarray) -> float:
    """Share of frames ``(F, h, w)`` in which no pixel is brighter than a tenth of white.

    Fails on: black frames with a caption or a logo.
    """
    return float((grey.max(axis=(1, 2)) < BLACK).mean())


def temporal_flickering(frames: np.ndarray) -> float | None:
    """``(255 - d) / 255``, d the mean absolute difference of consecutive frames, in levels.

    The temporal flickering of VBench (Z. Huang and others, CVPR 2024), there for static scenes; 1 is
    no flicker.

    Fails on: motion, which it takes for flicker: a still picture has the best score.

    Args:
        frames: ``(F, H, W, 3)`` uint8.

    Returns:
        0 to 1; None for a single frame.
    """
    if len(frames) < 2:
        return None
    total = 0
    for before, after in pairwise(frames):
        difference = np.maximum(before, after) - np.minimum(before, after)
        total += int(difference.sum(dtype=np.uint64))
    return 1 - total / frames[1:].size / WHITE


def luminance_flicker(grey: np.ndarray, flow: np.ndarray) -> float | None:
    """Change of mean brightness, unexplained by motion, that the next frame takes back, in levels.

    ``mean_i min(|b_i|, |b_(i+1)|)`` where b changes its sign, else 0; b_i is the mean difference of
    frame i and frame i - 1 moved along the flow. Frames that alternate by d levels have d; fades and
    lights that come on and stay have 0.

    Fails on: flicker slower than about a quarter of the frame rate, and flicker of parts of the
    picture that cancel out.

    Args:
        grey: ``(F, h, w)`` in [0, 1].
        flow: ``(F - 1, 2, h, w)``, from `avgen.measure.flow.steady_flow`.

    Returns:
        0 to 255; None below three frames.
    """
    if len(grey) < 3:
        return None
    change = WHITE * (grey[1:] - warp(grey[:-1], flow)).mean(axis=(1, 2), dtype=np.float64)
    taken_back = np.minimum(np.abs(change[1:]), np.abs(change[:-1]))
    return float(np.where(change[1:] * change[:-1] < 0, taken_back, 0).mean())


def find_cuts(grey: np.ndarray, fps: Rate) -> list[int]:
    """Frames with which another scene begins, in order.

    The change at frame i is the smallest median absolute difference of a frame of {i - 2, i - 1} and
    one of {i, i + 1}: a flash of one frame changes nothing in that sense, nor does an object that
    covers less than half of the picture. A cut changes at least 8 levels, 2.5 times what changes at
    its neighbours and typically within half a second around, and leaves pictures that correlate by
    less than 0.85, which a light that comes on does not.

    Fails on: dissolves, cuts between pictures with one large common background, several cuts within
    two frames, and flat pictures that change their brightness for good.

    Args:
        grey: ``(F, h, w)`` in [0, 1].
        fps: Frames per second.
    """
    change = _lasting_change(grey)
    reach = max(1, round(CUT_SURROUND * float(as_rate(fps))))
    cuts = []
    for i in np.flatnonzero(change > CUT_CHANGE).tolist():
        left, right = change[max(1, i - reach) : i], change[i + 1 : i + 1 + reach]
        others = np.concatenate([left, right])
        beside = max(left[-1:].max(initial=0), right[:1].max(initial=0))
        usual = max(float(np.median(others)), float(beside)) if others.size else 0.0
        if change[i] > CUT_CONTRAST * usual and _likeness(grey[i - 1], grey[i]) < CUT_LIKENESS:
            cuts.append(i)
    return cuts


def mean_speed(flow: np.ndarray, fps: Rate) -> float | None:
    """Mean optical flow in frame heights per second; None without flow.

    The mean of ``speed`` of `avgen.measure.motion.measure_motion`.

    Fails on: noise, which moves flat pictures by about 0.02 heights per second for each level of its
    deviation in the reduced picture, and textured ones by 0.002.

    Args:
        flow: ``(F - 1, 2, h, w)`` in pixels, from `avgen.measure.flow.steady_flow`.
        fps: Frames per second.
    """
    if not len(flow):
        return None
    pixels = np.mean([np.hypot(field[0], field[1]).mean(dtype=np.float64) for field in flow])
    return float(pixels * float(as_rate(fps)) / flow.shape[2])


def sharpness(frames: np.ndarray) -> float | None:
    """Variance of the Laplacian of the grey picture in squared levels, mean over frames.

    The kernel is ``[[0, 1, 0], [1, -4, 1], [0, 1, 0]]`` inside the border, at full size.

    Fails on: noise, which is sharp, and comparison of pictures of different size or content.

    Args:
        frames: ``(F, H, W, 3)`` uint8.

    Returns:
        None where a side is shorter than 3 pixels.
    """
    if min(frames.shape[1:3]) < 3:
        return None
    variances = []
    for frame in frames:
        grey = frame.astype(np.float32) @ GREY
        around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
        variances.append(float((around - 4 * grey[1:-1, 1:-1]).var()))
    return float(np.mean(variances))


def saturation(frames: np.ndarray) -> float:
    """Mean HSV saturation of all pixels, 0 to 1: ``(max - min) / max`` of the colours, 0 in black.

    Args:
        frames: ``(F, H, W, 3)`` uint8.
    """
    total = 0.0
    for frame in frames:
        red, green, blue = frame[..., 0], frame[..., 1], frame[..., 2]
        high = np.maximum(np.maximum(red, green), blue)
        spread = high - np.minimum(np.minimum(red, green), blue)
        total += float((spread / np.maximum(high, np.float32(1))).sum())
    return total / frames[..., 0].size


class TemporalMetric(ClipMetric):
    """Integrity of a picture in time; see the functions of this module.

    ``update(frames, fps)`` takes ``(F, H, W, 3)`` uint8, and ``flow=measure_flow(frames)`` where that
    is at hand. ``static`` is 1 where the mean flow is below
    0.005 heights per second, so that its mean over clips is the share of static ones.
    """

    fields: ClassVar = {
        "freeze_share": Field(unit="share", better="lower"),
        "duplicate_share": Field(unit="share", better="lower"),
        "black_share": Field(unit="share", better="lower"),
        "temporal_flickering": Field(better="higher"),
        "luminance_flicker": Field(unit="levels", better="lower"),
        "cuts": Field(unit="count"),
        "motion": Field(unit="heights/s"),
        "static": Field(unit="share", better="lower"),
        "sharpness": Field(unit="levels^2"),
        "saturation": Field(unit="share"),
    }

    def measure(self, frames: np.ndarray, fps: Rate, flow: PictureFlow | None = None) -> Values:
        """All values of one picture; ValueError for other frames, none, or a bad rate."""
        if not frames.size:
            raise ValueError(f"frames of shape {frames.shape} are empty; give at least one picture")
        picture = flow or measure_flow(frames)
        grey = picture.grey
        runs, speed = still_runs(grey), mean_speed(picture.flow, fps)
        return {
            "freeze_share": freeze_share(runs, fps),
            "duplicate_share": duplicate_share(runs),
            "black_share": black_share(grey),
            "temporal_flickering": temporal_flickering(frames),
            "luminance_flicker": luminance_flicker(grey, picture.flow),
            "cuts": len(find_cuts(grey, fps)) if len(grey) > 1 else None,
            "motion": speed,
            "static": None if speed is None else float(speed < STATIC_SPEED),
            "sharpness": sharpness(frames),
            "saturation": saturation(frames),
        }


def _lasting_change(grey: np.ndarray) -> np.ndarray:
    """Change from before frame i to after it that flashes and small objects do not cause, ``(F,)``."""
    total = len(grey)
    change = np.full(total, np.inf)
    for lag, starts in ((1, (0,)), (2, (0, 1)), (3, (1,))):
        if total <= lag:
            continue
        moved = np.abs(grey[lag:] - grey[:-lag]).reshape(total - lag, -1)
        between = np.median(moved, axis=1)
        for after in starts:
            # Frames i + after and i + after - lag lie on both sides of the border before frame i.
            first = lag - after
            change[first : total - after] = np.minimum(change[first : total - after], between)
    change[:1] = 0
    return change


def _likeness(before: np.ndarray, after: np.ndarray) -> float:
    """Correlation of two pictures; near 0 where one is flat."""
    before, after = before - before.mean(), after - after.mean()
    scale = max(float(before.std()), MIN_CONTRAST) * max(float(after.std()), MIN_CONTRAST)
    return float((before * after).mean()) / scale
