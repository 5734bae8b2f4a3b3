"""Whether picture and sound belong together: joint distances, and what exchanging partners costs.

Shapes: N clips under test, M of the reference, A features of the sound, V of the picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from avgen_eval.metrics.features import feature_matrix, feature_pair
from avgen_eval.metrics.frechet import frechet_distance


@dataclass(frozen=True, kw_only=True)
class JointDistance:
    """Frechet distance of pairs, and what it is made of.

    Attributes:
        joint: Of the concatenated vectors, whose covariance has the cross-covariance of the streams.
        audio: Of the sound alone.
        video: Of the picture alone.
        dependence: ``joint - audio - video``, never negative: the part that is due to how the streams
            go together. It is 0 where neither set has cross-covariance.
    """

    joint: float
    audio: float
    video: float
    dependence: float


@dataclass(frozen=True, kw_only=True)
class ShuffleGap:
    """What exchanging the partners of pairs does to a score.

    Attributes:
        paired: The score of the pairs as they are.
        shuffled: Mean score over exchanges.
        gap: By how much pairs are better than exchanged ones; near 0 where streams do not depend on
            each other. A random order leaves one pair in place on average, so it is 1 / N short.
        z: ``gap`` in standard deviations over exchanges; None where all exchanges score alike.
        p_value: Share of exchanges, the given order included, that are at least as good.
        num_pairs: N.
    """

    paired: float
    shuffled: float
    gap: float
    z: float | None
    p_value: float
    num_pairs: int


def joint_distance(
    audio: Any,
    video: Any,
    reference_audio: Any,
    reference_video: Any,
    *,
    video_groups: int = 1,
    ddof: int = 1,
    force: bool = False,
) -> JointDistance:
    """Frechet distance between pairs ``[audio, video]``, each feature in deviations of the reference.

    Row i of both matrices belongs to clip i. Dividing by the deviation of the reference keeps a stream
    with large numbers from hiding the other; a feature that is constant in the reference is only
    centred.

    Fails on: dependence that is not linear in the features, and small sets: with A + V features the
    bias is larger than that of either stream.

    Args:
        audio: ``(N, A)`` vectors of the sound under test.
        video: ``(N, V)`` vectors of its picture.
        reference_audio: ``(M, A)``.
        reference_video: ``(M, V)``.
        video_groups: Equal parts of the picture's vectors, each of which is paired with the sound; the
            distances are averaged, as in `frechet_distance`.
        ddof: See `frechet_distance`.
        force: See `frechet_distance`.

    Raises:
        ValueError: Rows do not pair up, or as `frechet_distance` with ``D = A + V / video_groups``.
    """
    audio, reference_audio = _standardised(audio, reference_audio)
    video, reference_video = _standardised(video, reference_video)
    for sound, picture in ((audio, video), (reference_audio, reference_video)):
        _num_pairs(sound, picture)
    # The sound is repeated so that each group is one pair of streams.
    pairs = _paired(audio, video, video_groups)
    reference = _paired(reference_audio, reference_video, video_groups)
    options: dict[str, Any] = {"ddof": ddof, "force": force}
    joint = frechet_distance(pairs, reference, groups=video_groups, **options)
    sound = frechet_distance(audio, reference_audio, **options)
    picture = frechet_distance(video, reference_video, groups=video_groups, **options)
    return JointDistance(
        joint=joint, audio=sound, video=picture, dependence=max(0.0, joint - sound - picture)
    )


def shuffle_gap(
    score: Callable[[Any, Any], float | None],
    audio: Sequence[Any] | np.ndarray,
    video: Sequence[Any] | np.ndarray,
    generator: np.random.Generator,
    *,
    better: Literal["higher", "lower"] = "higher",
    permutations: int = 1000,
    max_partners: int | None = None,
) -> ShuffleGap:
    """How much the mean score of pairs worsens when partners are exchanged.

    The control of any pair score: one that does not worsen measures something else. Each pair is
    scored once, so there are at most N^2 calls of ``score``.

    Fails on: clips that are alike, whose partners may well be exchanged; sets in which clips of one
    prompt come several times, which makes the p-value too large.

    Args:
        score: Of one sound and one picture; None where it cannot be measured, which is left out.
        audio: N sounds, or a matrix of one vector each.
        video: Their pictures, in the same order.
        generator: Draws the exchanges.
        better: Which direction of the score is better.
        permutations: How many exchanges.
        max_partners: Score each sound with so many pictures at most, where calls are expensive. The
            exchanges are then rotations of one random order, and the p-value is at least
            ``1 / (max_partners + 1)``.

    Raises:
        ValueError: Fewer than two pairs, unequal numbers, or pairs none of which can be scored.
    """
    size = _num_pairs(audio, video)
    rows = np.arange(size)
    scores, known = np.full((size, size), np.nan), np.zeros((size, size), bool)

    def mean_score(order: np.ndarray) -> float:
        for i in np.flatnonzero(~known[rows, order]).tolist():
            value = score(audio[i], video[int(order[i])])
            scores[i, order[i]] = np.nan if value is None else value
        known[rows, order] = True
        values = scores[rows, order]
        return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else np.nan

    return _gap(mean_score, _orders(size, permutations, max_partners, generator), better)


def set_shuffle_gap(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    audio: Any,
    video: Any,
    generator: np.random.Generator,
    *,
    better: Literal["higher", "lower"] = "lower",
    permutations: int = 100,
) -> ShuffleGap:
    """`shuffle_gap` of a statistic of whole sets, such as a `joint_distance` from a reference.

    Args:
        statistic: Of ``(N, A)`` and ``(N, V)`` vectors whose rows pair up.
        audio: ``(N, A)`` vectors of the sound.
        video: ``(N, V)`` vectors of the picture.
        generator: Draws the exchanges.
        better: Which direction of the statistic is better.
        permutations: How many exchanges, each with one call of ``statistic``.

    Raises:
        ValueError: Fewer than two pairs, or unequal numbers.
    """
    audio, video = feature_matrix(audio, "audio"), feature_matrix(video, "video")
    orders = _orders(_num_pairs(audio, video), permutations, None, generator)
    return _gap(lambda order: float(statistic(audio, video[order])), orders, better)


def cross_covariance(audio: Any, video: Any, ddof: int = 1) -> np.ndarray:
    """``(A, V)`` covariances between features of the sound and of the picture.

    Raises:
        ValueError: Fewer than two pairs, or unequal numbers.
    """
    audio, video = feature_matrix(audio, "audio"), feature_matrix(video, "video")
    size = _num_pairs(audio, video)
    return (audio - audio.mean(axis=0)).T @ (video - video.mean(axis=0)) / (size - ddof)


def dependence_strength(audio: Any, video: Any) -> float:
    """Root mean square of the correlations between all features of sound and picture, 0 to 1.

    A statistic for `set_shuffle_gap` that needs no reference (``better="higher"``). Features that are
    constant count as uncorrelated.

    Raises:
        ValueError: Fewer than two pairs, or unequal numbers.
    """
    audio, video = feature_matrix(audio, "audio"), feature_matrix(video, "video")
    covariance = cross_covariance(audio, video, ddof=0)
    scale = audio.std(axis=0)[:, None] * video.std(axis=0)[None, :]
    correlation = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
    return float(np.sqrt(np.mean(correlation**2)))


def _gap(
    statistic: Callable[[np.ndarray], float],
    orders: list[np.ndarray],
    better: Literal["higher", "lower"],
) -> ShuffleGap:
    if better not in ("higher", "lower"):
        raise ValueError(f"better is {better!r}; use 'higher' or 'lower'")
    size, sign = len(orders[0]), 1 if better == "higher" else -1
    paired = statistic(np.arange(size))
    shuffled = np.array([statistic(order) for order in orders])
    shuffled = shuffled[np.isfinite(shuffled)]
    if not np.isfinite(paired) or not len(shuffled):
        raise ValueError(
            f"none of the {size} pairs, or of the exchanged ones, could be scored; check the score on "
            "one of them"
        )
    gap = sign * (paired - float(shuffled.mean()))
    deviation = float(shuffled.std(ddof=1)) if len(shuffled) > 1 else 0.0
    slack = 1e-9 * max(1e-300, abs(paired), float(np.abs(shuffled).max()))
    as_good = int(np.sum(sign * (shuffled - paired) >= -slack))
    return ShuffleGap(
        paired=paired,
        shuffled=float(shuffled.mean()),
        gap=gap,
        z=gap / deviation if deviation > slack else None,
        p_value=(1 + as_good) / (1 + len(shuffled)),
        num_pairs=size,
    )


def _orders(
    size: int, permutations: int, max_partners: int | None, generator: np.random.Generator
) -> list[np.ndarray]:
    if permutations < 1 or (max_partners is not None and max_partners < 1):
        raise ValueError(
            f"permutations is {permutations} and max_partners {max_partners}; give at least 1"
        )
    if max_partners is None or max_partners >= size:
        return [generator.permutation(size) for _ in range(permutations)]
    order = generator.permutation(size)
    place = np.argsort(order)
    steps = 1 + generator.permutation(size - 1)[:max_partners]
    return [order[(place + step) % size] for step in steps]


def _num_pairs(audio: Sequence[Any] | np.ndarray, video: Sequence[Any] | np.ndarray) -> int:
    if len(audio) != len(video):
        raise ValueError(
            f"{len(audio)} sounds and {len(video)} pictures do not pair up; give one of each per clip"
        )
    if len(audio) < 2:
        raise ValueError(f"{len(audio)} pairs cannot be exchanged; give at least 2")
    return len(audio)


def _standardised(features: Any, reference: Any) -> tuple[np.ndarray, np.ndarray]:
    features, reference = feature_pair(features, reference, least=2)
    mean, deviation = reference.mean(axis=0), reference.std(axis=0)
    # A constant feature has a deviation of rounding only, which must not blow it up.
    scale = np.where(deviation > 1e-12 * (1 + np.abs(mean)), deviation, 1.0)
    return (features - mean) / scale, (reference - mean) / scale


def _paired(audio: np.ndarray, video: np.ndarray, groups: int) -> np.ndarray:
    """``[audio, first group, audio, second group, ...]``."""
    if groups < 1 or video.shape[1] % groups:
        raise ValueError(
            f"{video.shape[1]} features do not divide into {groups} groups; "
            "use the groups of the extractor"
        )
    parts = np.split(video, groups, axis=1)
    return np.concatenate([part for group in parts for part in (audio, group)], axis=1)
