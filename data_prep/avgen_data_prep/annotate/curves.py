"""What a timeline shows of a clip besides its events: the waveform's outline and a curve of motion."""

from pathlib import Path
from typing import Any

import numpy as np

from avgen import media
from avgen.clip import Clip
from avgen.measure.flow import reduce_frames

MOST_STEPS = 4000
_WINDOW_SECONDS = 2.0
_STEP_SECONDS = 0.0025


def curves(path: Path) -> dict[str, Any]:
    """Outline of the waveform and motion of a clip's file, decoded window by window.

    Returns:
        ``wave``: lists ``low`` and ``high``, extremes over all channels in [-1, 1], and ``step``,
        the seconds of each; ``motion``: list ``values``, mean absolute grey difference to the frame
        before as a share of the clip's largest, and ``step``. At most `MOST_STEPS` values each; None
        where the stream is missing.

    Raises:
        MediaError: The file is missing or damaged.
    """
    wave, motion = _Wave(), _Motion()
    for window in media.read_windows(path, seconds=_WINDOW_SECONDS):
        wave.add(window)
        motion.add(window)
    return {"wave": wave.curve(), "motion": motion.curve()}


class _Wave:
    """Least and largest samples of equal steps, which go on from window to window."""

    def __init__(self) -> None:
        self._rate, self._rest = 0, np.zeros((1, 0), np.float32)
        self._parts: list[np.ndarray] = []

    def add(self, window: Clip) -> None:
        if window.waveform is not None:
            self._rate = window.sample_rate
            one = np.stack([-window.waveform.min(axis=0), window.waveform.max(axis=0)])
            joined = one if not self._rest.size else np.concatenate([self._rest, one], axis=1)
            whole = joined.shape[1] - joined.shape[1] % self._step
            self._take(joined[:, :whole])
            self._rest = joined[:, whole:]

    def curve(self) -> dict[str, Any] | None:
        if not self._rate:
            return None
        self._take(self._rest)
        values, run = _fewer(np.concatenate([np.zeros((2, 0)), *self._parts], axis=1))
        low, high = np.clip(values, -1, 1) * [[-1], [1]]
        return {"step": run * self._step / self._rate, "low": _listed(low), "high": _listed(high)}

    @property
    def _step(self) -> int:
        return max(1, round(self._rate * _STEP_SECONDS))

    def _take(self, samples: np.ndarray) -> None:
        if samples.shape[1]:
            starts = np.arange(0, samples.shape[1], self._step)
            self._parts.append(np.maximum.reduceat(samples, starts, axis=1))


class _Motion:
    """Difference of each frame to the one before, also across windows."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._frame = 0.0
        self._parts: list[np.ndarray] = []

    def add(self, window: Clip) -> None:
        if window.frames is not None and window.num_frames:
            grey = reduce_frames(window.frames)
            before = grey[:1] if self._before is None else self._before
            self._parts.append(np.abs(np.diff(grey, axis=0, prepend=before)).mean(axis=(1, 2)))
            self._before, self._frame = grey[-1:], float(1 / window.fps)

    def curve(self) -> dict[str, Any] | None:
        if not self._parts:
            return None
        values, run = _fewer(np.concatenate(self._parts)[None])
        largest = max(float(values.max()), 1e-6)
        return {"step": run * self._frame, "values": _listed(values[0] / largest)}


def _fewer(values: np.ndarray) -> tuple[np.ndarray, int]:
    """The largest of each run of neighbours, at most `MOST_STEPS` of them, and the length of a run."""
    count = values.shape[1]
    run = max(1, -(-count // MOST_STEPS))
    return (np.maximum.reduceat(values, np.arange(0, count, run), axis=1) if count else values), run


def _listed(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]
