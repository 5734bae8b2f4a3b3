"""Whether picture and sound belong together: joint distances, and the strength of their dependence.

Shapes: N clips under test, M of the reference, A features of the sound, V of the picture.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from avgen_eval.metrics.features import feature_matrix, feature_pair
from avgen_eval.metrics.frechet import frechet_distance
from avgen_eval.metrics.shuffle import num_pairs


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
        num_pairs(sound, picture)
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


def cross_covariance(audio: Any, video: Any, ddof: int = 1) -> np.ndarray:
    """``(A, V)`` covariances between features of the sound and of the picture.

    Raises:
        ValueError: Fewer than two pairs, or unequal numbers.
    """
    audio, video = feature_matrix(audio, "audio"), feature_matrix(video, "video")
    size = num_pairs(audio, video)
    return (audio - audio.mean(axis=0)).T @ (video - video.mean(axis=0)) / (size - ddof)


def dependence_strength(audio: Any, video: Any) -> float:
    """Root mean square of the correlations between all features of sound and picture, 0 to 1.

    A statistic for `avgen_eval.metrics.shuffle.set_shuffle_gap` that needs no reference
    (``better="higher"``). Features that are constant count as uncorrelated.

    Raises:
        ValueError: Fewer than two pairs, or unequal numbers.
    """
    audio, video = feature_matrix(audio, "audio"), feature_matrix(video, "video")
    covariance = cross_covariance(audio, video, ddof=0)
    scale = audio.std(axis=0)[:, None] * video.std(axis=0)[None, :]
    correlation = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
    return float(np.sqrt(np.mean(correlation**2)))


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
