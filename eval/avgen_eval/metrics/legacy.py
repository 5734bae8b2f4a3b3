"""Legacy: four formulas that are all published as "AV-Align", kept so that old numbers can be understood.

Source of the idea: G. Yariv et al., "Diverse and Aligned Audio-to-Video Generation via Text-to-Video Model Adaptation",
AAAI 2024, arXiv 2309.16429. Do not use them to judge a model. The peaks of the *magnitude* of optical flow lie in
mid-flight and not at the impact; a window of one frame makes the value depend on the frame rate, and a threshold in
pixels on the resolution. On bouncing balls the 2025 variant tells true sound from that of another clip with an area
under the curve of 0.67, and rates sound that is 40 ms late above sound that is in sync. Use `avgen_eval.metrics.sync`
instead.

Times are seconds. Audio peaks were librosa's onsets (22,050 Hz, hop 512, no backtracking), and flow the mean magnitude
of Farneback's in pixels of the frames as decoded; other detectors give other values.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from avgen_eval.metrics.base import ClipMetric, Field, Values

MIN_FLOW_PX = 0.1
README_FRAMES = 3.0
Times = Sequence[float] | np.ndarray


def flow_peaks(flow: Times, fps: float, *, min_flow: float = 0.0) -> list[float]:
    """Legacy: strict local maxima of flow magnitude, seconds.

    The first value is put before itself once more, so that value i of the longer list is dated ``i / fps``: the flow
    from frame i - 1 to frame i counts at frame i. A plateau and the first and last values are never maxima.

    Args:
        flow: Mean magnitude between consecutive frames in pixels, ``(F - 1,)``.
        fps: Frames per second.
        min_flow: Maxima below this many pixels are left out: 0 in 2023, 0.1 in 2025 (whose text says that it was
            always so).

    Raises:
        ValueError: ``fps`` is not positive, or the flow is not one row of finite numbers.
    """
    _check_rate(fps)
    values = np.asarray(flow, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(
            f"flow of shape {values.shape} must be one row of finite magnitudes, one per pair of consecutive frames"
        )
    if len(values) < 2:
        return []
    longer = np.concatenate([values[:1], values])
    middle = longer[1:-1]
    peak = (longer[:-2] < middle) & (middle > longer[2:]) & (middle >= min_flow)
    return ((1 + np.flatnonzero(peak)) / fps).tolist()


def av_align_tempotokens_2023(audio_peaks: Times, video_peaks: Times, fps: float) -> float | None:
    """Legacy, ``tempotokens-2023``: ``c / (|A| + |V| - c)``, c = audio peaks with any video peak near.

    Near is strictly less than one frame. Source: guyyariv/TempoTokens 34d9502.

    Fails on: several sounds at one video peak, which all count, so that the value can exceed 1 (issue 11 there: three
    sounds at one peak give 3); no peaks at all, 0/0, where the original raises ZeroDivisionError and this gives None.
    """
    _check_rate(fps)
    near = int(_near_strictly(audio_peaks, video_peaks, fps).any(axis=1).sum())
    return _ratio(near, len(audio_peaks) + len(video_peaks) - near)


def av_align_tempotokens_2025(audio_peaks: Times, video_peaks: Times, fps: float) -> float | None:
    """Legacy, ``tempotokens-2025``: the same with each video peak used once, and peaks of at least 0.1 pixels.

    Each audio peak in turn takes the first free video peak less than a frame away, which loses no pair as long as both
    lists are in order. Source: guyyariv/TempoTokens bf0b1e3. Take the video peaks with ``min_flow=0.1``.

    Fails on: no peaks at all, as in 2023; small pictures and slow motion, whose flow never reaches 0.1 pixels.
    """
    _check_rate(fps)
    free = np.ones(len(video_peaks), dtype=bool)
    pairs = 0
    for near in _near_strictly(audio_peaks, video_peaks, fps):
        candidates = np.flatnonzero(near & free)
        if len(candidates):
            free[candidates[0]] = False
            pairs += 1
    return _ratio(pairs, len(audio_peaks) + len(video_peaks) - pairs)


def av_align_javis_code(audio_peaks: Times, video_peaks: Times, fps: float) -> float | None:
    """Legacy, ``javis-code``: the 2023 formula with a millionth added to the denominator.

    Source: JavisVerse/JavisDiT b505b37, whose benchmark runs this while its README prints `av_align_javis_readme`.

    Fails on: what 2023 fails on; a clip without any peaks scores 0 in the original, here None. Frames may have been
    resized before the flow was taken, which moves the peaks.
    """
    _check_rate(fps)
    if not len(audio_peaks) and not len(video_peaks):
        return None
    near = int(_near_strictly(audio_peaks, video_peaks, fps).any(axis=1).sum())
    return near / (len(audio_peaks) + len(video_peaks) - near + 1e-6)


def av_align_javis_readme(
    audio_peaks: Times, video_peaks: Times, fps: float, *, frames: float = README_FRAMES
) -> float | None:
    """Legacy, ``javis-readme``: share of all peaks, of both streams, with a peak of the other within ``frames``.

    ``(sum over A of [some v within tau] + sum over V of [some a within tau]) / (|A| + |V|)``. Source: README of
    JavisDiT's benchmark, "for example 3 frames"; no code there computes it.

    Fails on: bursts, as one peak may answer for many (the value stays at or below 1); windows of several frames, within
    which busy clips match by chance. None without any peaks.
    """
    _check_rate(fps)
    audio, video = _columns(audio_peaks, video_peaks)
    near = np.abs(audio - video) <= frames / fps + 1e-9
    matched = int(near.any(axis=1).sum() + near.any(axis=0).sum())
    return _ratio(matched, len(audio_peaks) + len(video_peaks))


Variant = Callable[[Times, Times, float], float | None]
VARIANTS: Mapping[str, tuple[Variant, float]] = {
    "tempotokens-2023": (av_align_tempotokens_2023, 0.0),
    "tempotokens-2025": (av_align_tempotokens_2025, MIN_FLOW_PX),
    "javis-code": (av_align_javis_code, 0.0),
    "javis-readme": (av_align_javis_readme, 0.0),
}
"""Formula and least flow of a video peak in pixels, by name."""


class LegacyAVAlign(ClipMetric):
    """Legacy: all four variants of AV-Align. For comparison with published numbers only; see the module."""

    fields: ClassVar = {name: Field(unit="ratio", better="none") for name in VARIANTS}

    def measure(self, *, audio_peaks: Times, flow: Times, fps: float) -> Values:
        """Values of one clip by name of the variant; None where it has no peaks.

        Args:
            audio_peaks: Seconds.
            flow: Mean magnitude of optical flow between consecutive frames in pixels, ``(F - 1,)``.
            fps: Frames per second.
        """
        return {
            name: formula(audio_peaks, flow_peaks(flow, fps, min_flow=least), fps)
            for name, (formula, least) in VARIANTS.items()
        }


def _columns(audio_peaks: Times, video_peaks: Times) -> tuple[np.ndarray, np.ndarray]:
    """``(A, 1)`` and ``(1, V)``, to be compared."""
    audio, video = (np.asarray(peaks, dtype=np.float64) for peaks in (audio_peaks, video_peaks))
    return audio.reshape(-1, 1), video.reshape(1, -1)


def _near_strictly(audio_peaks: Times, video_peaks: Times, fps: float) -> np.ndarray:
    """``(A, V)`` bool: less than a frame apart, rounded as ``v - 1/fps < a < v + 1/fps`` is."""
    audio, video = _columns(audio_peaks, video_peaks)
    return (video - 1 / fps < audio) & (audio < video + 1 / fps)


def _check_rate(fps: float) -> None:
    if not (np.isfinite(fps) and fps > 0):
        raise ValueError(f"fps is {fps}; give the frames per second of the clip, such as 25")


def _ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None
