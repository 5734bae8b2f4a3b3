"""The learned offset metric: by how much the sound is late, as a small network hears and sees it.

Trained on the worlds (`avgen_eval.learned.sync_training`), so it is valid for clips like them and for comparisons with
the same weights, whose hash is in every signature. Its grid is 40 ms; classes are 200 ms wide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from avgen import clock
from avgen.clip import Clip
from avgen.media.resample import resample
from avgen_eval.learned.sync_network import (
    CLASS_SECONDS,
    FPS,
    MAX_LAG,
    NUM_CLASSES,
    SAMPLE_RATE,
    SyncNetwork,
    class_scores,
)
from avgen_eval.learned.sync_training import SAMPLES_PER_FRAME, resized
from avgen_eval.metrics.base import ClipMetric, Field, Values

WEIGHTS = Path(__file__).parent / "sync.safetensors"
WINDOW = 100
HOP = 50
MIN_FRAMES = 25


@dataclass(frozen=True, kw_only=True)
class LearnedOffset:
    """What the network says of a clip, over its windows of four seconds.

    Attributes:
        offset_ms: Median of the best lags, on a grid of 40 ms; positive = the sound is late.
        offset_abs_ms: Mean size of the best lags.
        desync_ms: Mean size of the offset of the best class.
        confidence: Mean probability of the best class, 0 to 1.
    """

    offset_ms: float
    offset_abs_ms: float
    desync_ms: float
    confidence: float


def learned_offset(clip: Clip, weights: Path = WEIGHTS) -> LearnedOffset | None:
    """Measure a clip; None where it lacks a stream or is shorter than a second.

    Clips shorter than four seconds are asked for offsets up to half their length only; of 48 renders of 2 s, 46 in sync
    were found so within a class (without that limit 43). Fails on: clips unlike those of training; regular rhythms,
    whose period is an offset as good as none; offsets beyond that.

    Raises:
        CheckpointError: The weights cannot be read.
    """
    if clip.frames is None or clip.waveform is None:
        return None
    frames, waveform = at_network_rates(clip)
    if len(frames) < MIN_FRAMES:
        return None
    network, _ = load_network(weights)
    lags = torch.cat([_scores(network, frames, waveform, first) for first in _starts(len(frames))])
    probabilities = class_scores(lags).exp()
    classes = probabilities.argmax(-1) - NUM_CLASSES // 2
    best = lags.argmax(-1) - MAX_LAG
    return LearnedOffset(
        offset_ms=float(np.median(best.numpy())) * 1000 / FPS,
        offset_abs_ms=float(best.abs().float().mean()) * 1000 / FPS,
        desync_ms=1000 * CLASS_SECONDS * float(classes.abs().float().mean()),
        confidence=float(probabilities.amax(-1).mean()),
    )


@lru_cache(maxsize=2)
def load_network(weights: Path = WEIGHTS) -> tuple[SyncNetwork, str]:
    """The network and the SHA-256 of its weights."""
    return SyncNetwork.from_file(weights)


def at_network_rates(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Frames at 25 per second, the last one on screen at each time, and the mean of the channels at 16 kHz."""
    assert clip.frames is not None
    assert clip.waveform is not None
    count = clock.count(clip.num_frames / clip.fps, FPS)
    times = (np.arange(count) + 0.5) / FPS
    index = np.clip((times * float(clip.fps)).astype(int), 0, clip.num_frames - 1)
    mono = clip.waveform.mean(axis=0, keepdims=True)
    return clip.frames[index], resample(mono, clip.sample_rate, SAMPLE_RATE)


class LearnedSyncMetric(ClipMetric):
    """Mean over clips of `learned_offset`."""

    fields: ClassVar = {
        "offset_ms": Field(unit="ms", better="target"),
        "offset_abs_ms": Field(unit="ms", better="lower"),
        "desync_ms": Field(unit="ms", better="lower"),
        "confidence": Field(better="higher"),
    }

    def __init__(self, weights: Path = WEIGHTS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weights = weights

    def measure(self, clip: Clip) -> Values:
        """Values of one clip; None where it cannot be measured."""
        found = learned_offset(clip, self.weights)
        return dict.fromkeys(self.fields) if found is None else vars(found)


def _starts(num_frames: int) -> Sequence[int]:
    if num_frames <= WINDOW:
        return [0]
    return [*range(0, num_frames - WINDOW, HOP), num_frames - WINDOW]


@torch.inference_mode()
def _scores(network: SyncNetwork, frames: np.ndarray, waveform: np.ndarray, first: int) -> Tensor:
    """Scores of the lags in one window, ``(1, L)``."""
    part = torch.from_numpy(np.ascontiguousarray(frames[first : first + WINDOW]))
    picture = resized(part.permute(3, 0, 1, 2)[None].float() / 127.5 - 1)
    start = first * SAMPLES_PER_FRAME
    sound = torch.from_numpy(waveform[:, start : start + len(part) * SAMPLES_PER_FRAME].copy())
    missing = len(part) * SAMPLES_PER_FRAME - sound.shape[1]
    scores = network(picture, torch.nn.functional.pad(sound, (0, missing))[None])
    # The network has seen whole windows only: where less than half a short one overlaps, it guesses.
    lags = torch.arange(-MAX_LAG, MAX_LAG + 1)
    room = MAX_LAG if len(part) == WINDOW else len(part) // 2
    return scores.masked_fill(lags.abs() > room, -1e9)
