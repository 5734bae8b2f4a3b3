"""Can a seam be told: a small classifier of what surrounds it, cross-validated.

Shapes: N clips, D features.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from avgen.clip import Clip
from avgen_eval.statistics import clustered_interval
from avgen_eval.summary import Figure
from avgen_eval.tasks.continuity import half_frame_spectra, measure_jumps

REACH = 6
FOLDS = 8
REGULARISATION = 0.05
BAND_GROUPS = 8
CLICK = 0.002


def seam_features(clip: Clip, seconds: float) -> np.ndarray:
    """What a seam at ``seconds`` could give away, ``(D,)``.

    Of the six frames on either side: jumps of picture, motion and sound at every boundary (logarithms), level of
    every half frame, the difference right minus left of mean colour, contrast, sharpness and spectrum, how far the
    jumps in the middle stand out, and the sharpest bend of the waveform within 2 ms of it.

    Raises:
        ValueError: Less than six frames on a side.
    """
    middle = round(seconds * clip.fps)
    if middle < REACH or middle + REACH > clip.num_frames:
        raise ValueError(
            f"a seam at {seconds} s of {clip} has fewer than {REACH} frames on a side; move it inwards"
        )
    first, last = (float((middle + side) / clip.fps) for side in (-REACH, REACH))
    window = clip.slice(first, last)
    jumps = measure_jumps(window)
    curves = [np.log(1e-2 + values) for values in (jumps.picture, jumps.motion, jumps.sound)]
    spectra = half_frame_spectra(window)
    groups = spectra.reshape(len(spectra), BAND_GROUPS, -1).mean(axis=2)
    stand_out = [curve[REACH - 1] - np.delete(curve, REACH - 1).max() for curve in curves]
    return np.concatenate(
        [
            *curves,
            spectra.mean(axis=1),
            _difference(_picture_statistics(window)),
            _difference(groups),
            stand_out,
            [_click(window)],
        ]
    )


def classifier_accuracy(
    with_seam: Sequence[np.ndarray],
    without: Sequence[np.ndarray],
    groups: Sequence[Hashable],
) -> Figure:
    """Share of windows that a logistic regression puts right which has not seen their clips.

    Features are standardised and regularised (ridge); clips of one group are in one fold of eight. 0.5 is chance. The
    95% interval resamples groups.

    Args:
        with_seam: Features of each window with a seam.
        without: Features of as many without.
        groups: What the windows at each index have in common, such as their caption.

    Raises:
        ValueError: Unequal numbers, or fewer than two groups.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not len(with_seam) == len(without) == len(groups) or len(set(groups)) < 2:
        raise ValueError(
            f"{len(with_seam)} windows with a seam, {len(without)} without and {len(set(groups))} groups; "
            "give as many of each, in at least 2 groups"
        )
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    rows = np.stack([*with_seam, *without])
    labels = np.repeat([1, 0], len(groups))
    group = np.array([numbers[g] for g in groups] * 2)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=1000))
    folds = GroupKFold(min(FOLDS, len(numbers)), shuffle=True, random_state=0)
    told = cross_val_predict(model, rows, labels, groups=group, cv=folds)
    right = np.equal(np.asarray(told), labels).astype(float).tolist()
    interval = clustered_interval(right, group.tolist(), np.random.default_rng(0))
    assert interval is not None
    return Figure(value=interval.value, low=interval.low, high=interval.high, num_clips=len(right))


def _picture_statistics(clip: Clip) -> np.ndarray:
    """Mean colour, contrast and log sharpness of each frame, ``(F, 6)``."""
    assert clip.frames is not None
    levels = clip.frames.astype(np.float64)
    steps = [np.abs(np.diff(levels, axis=axis)).mean(axis=(1, 2, 3)) for axis in (1, 2)]
    return np.column_stack(
        [levels.mean(axis=(1, 2)), levels.std(axis=(1, 2, 3)), np.log(1e-2 + np.array(steps)).T]
    )


def _difference(values: np.ndarray) -> np.ndarray:
    """Mean of the later half of the rows less that of the earlier one, with its sign and without."""
    half = len(values) // 2
    change = values[half:].mean(axis=0) - values[:half].mean(axis=0)
    return np.concatenate([change, np.abs(change)])


def _click(clip: Clip) -> float:
    """Log of the largest second difference of the waveform in the middle against its usual size."""
    assert clip.waveform is not None
    bend = np.abs(np.diff(clip.waveform.mean(axis=0), n=2))
    middle, reach = len(bend) // 2, max(1, round(CLICK * clip.sample_rate))
    usual = float(np.sqrt(np.mean(bend**2)))
    return float(np.log((bend[middle - reach : middle + reach].max() + 1e-6) / (usual + 1e-6)))
