"""Figures of a variant over its seeds, and how it differs from the baseline, each with a 95% interval.

A run differs from another by its captions and by its seed. Clips and seeds are resampled together, the same clips for
all seeds and for the baseline, since all measure the same captions. With one seed the interval is over clips alone and
does not cover what another seed would give; the table says so.
Letters: S seeds, N clips, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class FigureKind:
    """A column: its title, where the values of a clip are found, and how they become one number.

    Attributes:
        title: Of the column.
        way: Way of asking; see `avgen_eval.ablations.measuring`.
        field: Field of a clip: counts, of which an F1 is made, or values, which are averaged.
    """

    title: str
    way: str
    field: str


FIGURES = {
    "sound_f1": FigureKind(title="sound F1", way="timed", field="sound"),
    "picture_f1": FigureKind(title="picture F1", way="timed", field="picture"),
    "pad": FigureKind(title="right pad", way="timed", field="pad"),
    "objects": FigureKind(title="described objects only", way="timed", field="objects"),
    "timbre": FigureKind(title="timbre right", way="timed", field="timbre"),
    "mel_db": FigureKind(title="log-mel distance to the render, dB", way="timed", field="mel_db"),
    "spread_db": FigureKind(title="diversity: log-mel distance of two seeds, dB", way="timed", field="spread_db"),
    "agree_f1": FigureKind(title="sound against own picture, no times, F1", way="untimed", field="agree"),
    "v2a_f1": FigureKind(title="sound for a true picture, no times, F1", way="v2a", field="sound"),
    "a2v_f1": FigureKind(title="picture for a true sound, no times, F1", way="a2v", field="picture"),
    "codec_psnr": FigureKind(title="codec: PSNR, dB", way="codec", field="psnr_db"),
    "codec_flicker": FigureKind(title="codec: added flicker, levels", way="codec", field="flicker"),
    "codec_f1": FigureKind(title="codec: picture F1", way="codec", field="picture"),
    "codec_ms": FigureKind(title="codec: picture events off, ms", way="codec", field="picture_ms"),
}  # fmt: skip
COSTS = {
    "seconds": "seconds a clip",
    "latents_per_second": "latent places a second",
    "block_ms": "a block lasts, ms",
    "decode_ms": "and is decoded in, ms",
}
"""Columns of what a run costs: the median over seeds, without an interval."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is shown."""
        return self.low > 0 or self.high < 0


def clip_values(rows: Sequence[Mapping[str, Any]], kind: FigureKind) -> np.ndarray:
    """Numerators and denominators, ``(S, N, 2)``: a figure is the ratio of their sums."""
    values = [row["ways"][kind.way][kind.field] for row in rows]
    if isinstance(values[0][0], list):
        counts = np.array(values, dtype=float)
        return np.stack([2 * counts[..., 0], counts[..., 1] + counts[..., 2]], axis=-1)
    known = np.array([[value is not None for value in of_seed] for of_seed in values], dtype=float)
    filled = np.array([[value or 0.0 for value in of_seed] for of_seed in values], dtype=float)
    return np.stack([filled, known], axis=-1)


def estimate(values: np.ndarray, baseline: np.ndarray | None = None) -> Estimate:
    """A figure, or its difference from a baseline measured on the same clips.

    Args:
        values: ``(S, N, 2)`` from `clip_values`.
        baseline: The same of the baseline, with its own number of seeds; None for the figure itself.
    """
    generator = np.random.default_rng(0)
    draws = generator.integers(values.shape[1], size=(RESAMPLES, values.shape[1]))
    drawn, value = _resampled(values, draws, generator), _ratio(values)
    if baseline is not None:
        drawn = drawn - _resampled(baseline, draws, generator)
        value -= _ratio(baseline)
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return Estimate(value=value, low=low, high=high)


def new_run_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Where a run with another seed should land, 19 times of 20: Student's t over seeds; None below three seeds."""
    from scipy.stats import t

    count = len(values)
    if count < 3:
        return None
    per_seed = np.array([_ratio(values[i : i + 1]) for i in range(count)])
    reach = float(t.ppf(0.975, count - 1)) * float(per_seed.std(ddof=1)) * (1 + 1 / count) ** 0.5
    return float(per_seed.mean()) - reach, float(per_seed.mean()) + reach


def _ratio(values: np.ndarray) -> float:
    above, below = values.sum(axis=(0, 1))
    return float(above / below) if below else float("nan")


def _resampled(values: np.ndarray, draws: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The figure of each resample, ``(R,)``: seeds drawn with replacement, clips as given."""
    seeds = generator.integers(len(values), size=(len(draws), len(values)))
    per_seed = np.stack([of_seed[draws].sum(axis=1) for of_seed in values], axis=1)
    sums = np.take_along_axis(per_seed, seeds[..., None], axis=1).sum(axis=1)
    return sums[:, 0] / np.maximum(sums[:, 1], 1e-9)
