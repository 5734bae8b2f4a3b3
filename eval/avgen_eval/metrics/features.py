"""Feature extractors without trained weights: what turns a clip into vectors for distances between sets.

They order and guard: the same extractor, count of clips and resolution compare two models or two
revisions. They know no meaning, and their distances are comparable only where the signatures match.
Shapes: N vectors, D features, F frames, C channels, S samples.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avgen import clock
from avgen.clip import Clip
from avgen.measure.onsets import band_power, fft_size, mel_filters, to_mono
from avgen.media.resample import resample

SPECTRUM_WINDOW = 0.025
SPECTRUM_HOP = 0.010
FLOOR_DB = -80.0

FRAMES = 16
SIZE = 64
WIDTHS = (3, 16, 32, 32)
STRIDES = ((1, 2, 2), (2, 2, 2), (2, 2, 2))
SEEDS = (0, 1, 2, 3, 4)


class FeatureExtractor(ABC):
    """Describes a clip by vectors of one length.

    Attributes:
        name: Name and version, such as ``rand3d-v1``; a change of any value needs a new version.
        groups: The vector is that many independent descriptions of equal length. Distances are
            taken in each and averaged.
    """

    name: str
    groups: int = 1

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length of a vector, all groups together."""

    @property
    @abstractmethod
    def signature(self) -> str:
        """Everything that the values depend on; distances with different signatures do not compare."""

    @abstractmethod
    def extract(self, clip: Clip) -> np.ndarray:
        """Vectors of one clip, ``(N, dim)`` float64; they do not depend on any other clip.

        Raises:
            ValueError: The clip lacks the stream that is described.
        """


def extract_all(extractor: FeatureExtractor, clips: Sequence[Clip]) -> np.ndarray:
    """Vectors of all clips, one below the other, ``(N, dim)``."""
    vectors = [extractor.extract(clip) for clip in clips]
    return np.concatenate(vectors) if vectors else np.empty((0, extractor.dim))


def feature_matrix(features: Any, name: str = "features") -> np.ndarray:
    """Vectors as ``(N, D)`` float64.

    Args:
        features: Array, tensor or nested list.
        name: What to call it in the error.

    Raises:
        ValueError: Not two dimensions, no features, or values that are not finite.
    """
    if isinstance(features, Tensor):
        features = features.detach().cpu()
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(
            f"{name} has shape {matrix.shape}; give (vectors, features), one row per vector"
        )
    if not np.isfinite(matrix).all():
        rows = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        raise ValueError(
            f"{name}: {len(rows)} vectors hold NaN or infinite values, first row {rows[0]}; "
            "leave those clips out and report how many"
        )
    return matrix


def feature_pair(features: Any, reference: Any, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of vectors of one length, each as `feature_matrix`.

    Raises:
        ValueError: As `feature_matrix`; lengths differ, or a set has fewer than ``least`` vectors.
    """
    features, reference = feature_matrix(features), feature_matrix(reference, "reference")
    if features.shape[1] != reference.shape[1]:
        raise ValueError(
            f"features have {features.shape[1]} dimensions and the reference {reference.shape[1]}; "
            "extract both with one extractor"
        )
    if min(len(features), len(reference)) < least:
        raise ValueError(
            f"sets of {len(features)} and {len(reference)} vectors; give at least {least} in each"
        )
    return features, reference


class LogMelStatistics(FeatureExtractor):
    """Mean, standard deviation and standard deviation of the change of a log-mel spectrum.

    ``L_b(t) = max(10 log10 P_b(t), -80)`` dB of full scale, in 25 ms Hann windows every 10 ms of the
    mean of the channels at ``sample_rate``; the change is ``L_b(t + 10 ms) - L_b(t)``. The vector is
    ``[mean_t L, std_t L, std_t dL]``, each ``num_bands`` long, in dB.

    Fails on: order in time (a clip played backwards has the same vector), stereo image, pitch finer
    than a band, and sounds below -80 dB.

    Args:
        sample_rate: Samples per second to which the sound is converted.
        num_bands: Mel bands from 60 Hz up to half the sample rate.
        window: Seconds per vector; one vector per clip if None. The end of a clip that does not fill
            a window is left out, and a clip shorter than one gives one vector.
    """

    name = "logmel-stats-v1"

    def __init__(
        self, sample_rate: int = 16_000, num_bands: int = 32, window: float | None = None
    ) -> None:
        self.sample_rate, self.num_bands = sample_rate, num_bands
        self.window = _positive(window)

    @property
    def dim(self) -> int:
        """Three statistics per band."""
        return 3 * self.num_bands

    @property
    def signature(self) -> str:
        """Name, sample rate, bands and window."""
        span = _span_text(self.window)
        return f"{self.name}|rate:{self.sample_rate}|bands:{self.num_bands}|{span}"

    def extract(self, clip: Clip) -> np.ndarray:
        """Vectors of the sound of a clip, ``(N, dim)``.

        Raises:
            ValueError: There is no sound, or less than 35 ms of it.
        """
        if clip.waveform is None:
            raise ValueError(f"the clip has no sound, which {self.name} describes; leave it out")
        waveform = resample(clip.waveform, clip.sample_rate, self.sample_rate)
        mono = to_mono(waveform)
        parts = [mono[span] for span in _spans(len(mono), self.sample_rate, self.window)]
        return np.stack([self._statistics(part) for part in parts])

    def _statistics(self, mono: np.ndarray) -> np.ndarray:
        level = self._levels(mono)
        if len(level) < 2:
            raise ValueError(
                f"{len(mono)} samples at {self.sample_rate} Hz are too short for {self.name}; "
                "give at least 35 ms of sound"
            )
        change = np.diff(level, axis=0)
        return np.concatenate([level.mean(axis=0), level.std(axis=0), change.std(axis=0)])

    def _levels(self, mono: np.ndarray) -> np.ndarray:
        """Decibels per hop and band."""
        width = clock.count(SPECTRUM_WINDOW, self.sample_rate)
        if len(mono) < width:
            return np.empty((0, self.num_bands))
        filters = mel_filters(self.sample_rate, fft_size(width), self.num_bands)
        hop = clock.count(SPECTRUM_HOP, self.sample_rate)
        power = band_power(mono, np.hanning(width), hop, filters)
        return 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))


class RandomConv3d(FeatureExtractor):
    """Random 3-D convolutions with pinned weights, one group of 64 features per seed.

    Each network has three convolutions of 3 x 3 x 3 with ReLU between 3, 16, 32 and 32 channels, at
    16 frames of 64 x 64 and strides 2 in space and 1, 2, 2 in time. Its features are the mean and
    the standard deviation of each last channel over time and place. Weights are uniform with the
    variance of He et al. 2015, drawn from the raw bits of the Philox generator, which are the same
    on every machine and in every version; all filters of the first layer but the first four sum to
    zero, so that texture and motion are not drowned by brightness.

    Sixteen frames at evenly spaced places are taken (a short clip repeats frames), and each is
    resized with an antialiasing filter, whatever its aspect ratio.

    Fails on: direction of time, meaning, and whatever happens between the frames that are taken.
    Which network is chosen changes a distance two- or threefold: always average over the groups, and
    report the ratio to the distance between two halves of the reference.

    Args:
        seeds: One network each.
        window: Seconds per vector; one vector per clip if None, as in `LogMelStatistics`.
    """

    name = "rand3d-v1"

    def __init__(self, seeds: Sequence[int] = SEEDS, window: float | None = None) -> None:
        if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError(f"seeds are {tuple(seeds)}; give distinct seeds of 0 or more")
        self.seeds = tuple(seeds)
        self.groups = len(self.seeds)
        self.window = _positive(window)

    @property
    def dim(self) -> int:
        """Twice the channels of the last layer, for each seed."""
        return 2 * WIDTHS[-1] * len(self.seeds)

    @property
    def signature(self) -> str:
        """Name, seeds, input size and window."""
        seeds = ",".join(map(str, self.seeds))
        size = f"{FRAMES}x{SIZE}x{SIZE}"
        return f"{self.name}|seeds:{seeds}|input:{size}|{_span_text(self.window)}"

    def extract(self, clip: Clip) -> np.ndarray:
        """Vectors of the picture of a clip, ``(N, dim)``.

        Raises:
            ValueError: There is no picture.
        """
        if clip.frames is None or not len(clip.frames):
            raise ValueError(f"the clip has no picture, which {self.name} describes; leave it out")
        spans = _spans(len(clip.frames), clip.fps, self.window)
        return np.stack([self._describe(clip.frames[span]) for span in spans])

    @cached_property
    def _networks(self) -> list[list[Tensor]]:
        return [random_weights(seed) for seed in self.seeds]

    def _describe(self, frames: np.ndarray) -> np.ndarray:
        video = network_input(frames)
        # One clip at a time: a batch may change the order of additions, and so the last bits.
        with torch.inference_mode():
            groups = [_forward(video, weights) for weights in self._networks]
        return torch.cat(groups).double().numpy()


def random_weights(seed: int) -> list[Tensor]:
    """Kernels of one random network, ``(out, in, 3, 3, 3)`` float32 each."""
    layers = list(pairwise(WIDTHS))
    counts = [27 * inner * outer for inner, outer in layers]
    bits = np.random.Philox(key=seed).random_raw(sum(counts))
    # The top 53 bits as a fraction, without `Generator`, whose methods may change between versions.
    values = 2 * ((bits >> np.uint64(11)) * 2.0**-53) - 1
    kernels = []
    for (inner, outer), part in zip(layers, np.split(values, np.cumsum(counts)[:-1]), strict=True):
        kernel = part.reshape(outer, inner, 3, 3, 3) * np.sqrt(6 / (27 * inner))
        kernels.append(kernel)
    kernels[0][4:] -= kernels[0][4:].mean(axis=(1, 2, 3, 4), keepdims=True)
    return [torch.from_numpy(kernel.astype(np.float32)) for kernel in kernels]


def network_input(frames: np.ndarray) -> Tensor:
    """Sixteen frames of 64 x 64 in [-1, 1] from ``(F, H, W, 3)`` uint8, ``(1, 3, 16, 64, 64)``."""
    picked = ((np.arange(FRAMES) + 0.5) * len(frames) / FRAMES).astype(int)
    pixels = torch.from_numpy(np.ascontiguousarray(frames[picked])).permute(0, 3, 1, 2).float()
    pixels = F.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    return (pixels / 127.5 - 1).transpose(0, 1)[None]


def _forward(video: Tensor, kernels: Sequence[Tensor]) -> Tensor:
    hidden = video
    for kernel, stride in zip(kernels, STRIDES, strict=True):
        padded = F.pad(hidden, (1,) * 6, mode="replicate")
        hidden = F.relu(F.conv3d(padded, kernel, stride=stride))
    places = hidden[0].flatten(1)
    return torch.cat([places.mean(1), places.std(1, correction=0)])


def _spans(length: int, rate: Any, window: float | None) -> list[slice]:
    """Whole windows of a sequence; all of it where it is shorter than one, or window is None."""
    size = length if window is None else clock.count(window, rate)
    if length <= size:
        return [slice(0, length)]
    return [slice(start, start + size) for start in range(0, length - size + 1, size)]


def _span_text(window: float | None) -> str:
    return "window:clip" if window is None else f"window:{window:g}s"


def _positive(window: float | None) -> float | None:
    if window is not None and not window > 0:
        raise ValueError(f"window is {window} s; give more than 0, or None for one vector per clip")
    return window
