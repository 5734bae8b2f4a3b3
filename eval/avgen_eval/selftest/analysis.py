"""Measuring damaged clips, and what the values say of the damage."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu, spearmanr

from avgen.clip import Clip
from avgen_eval.harness.cache import NOT_APPLICABLE, Extract
from avgen_eval.harness.decode import Decoded
from avgen_eval.harness.extractors import Extractor
from avgen_eval.harness.scorers import (
    About,
    ClipScorer,
    LearnedSync,
    Reconstruction,
    Signal,
    Sync,
    Temporal,
    Timing,
)
from avgen_eval.selftest.ladder import BLIND, LADDER, WITNESSES, Case

SCORERS: tuple[ClipScorer, ...] = (
    Sync(),
    Timing(),
    Signal(),
    Temporal(),
    Reconstruction(),
    LearnedSync(),
)
EXTRACTORS = tuple({e.signature: e for scorer in SCORERS for e in scorer.extractors}.values())
WHOLE = "whole"
Measured = dict[tuple[str, float], list[dict[str, float | None]]]
"""Values of all cases by damage and level."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one value answers one kind of damage.

    Attributes:
        damage: Kind.
        value: Id of the value.
        blind: Whether it should not notice.
        auc: By level: chance that a damaged clip looks worse than a whole one; 0.5 is blind.
        measured: By level: share of damaged clips of which there is a value at all.
        monotonic: Spearman correlation of level and mean value, in the direction of damage; None for one level.
    """

    damage: str
    value: str
    blind: bool
    auc: dict[float, float | None]
    measured: dict[float, float]
    monotonic: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """Everything that the self-test found.

    Attributes:
        rows: One per damage and value.
        offset_slope: Milliseconds of measured offset per millisecond of shift.
        offset_bias_ms: Measured offset without shift, mean.
        false_alarms: By finding: share of whole clips for which it is raised.
        num_clips: Whole clips.
    """

    rows: list[Row]
    offset_slope: float | None
    offset_bias_ms: float | None
    false_alarms: dict[str, float]
    num_clips: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**vars(self), "rows": [row.to_dict() for row in self.rows]}


def run_selftest(cases: Iterator[Case], step: Callable[[], None] = lambda: None) -> SelfTest:
    """Damage, measure, compare; ``step`` is called after each case."""
    values: Measured = {}
    for case in cases:
        known: dict[str, Extract] = {}
        whole = _measure(case, case.clip, known)
        values.setdefault((WHOLE, 0.0), []).append(whole)
        for rung in LADDER:
            damaged = _measure(case, rung.apply(case), dict(known))
            values.setdefault((rung.damage, rung.level), []).append(damaged)
        step()
    return _summarise(values)


def _measure(case: Case, clip: Clip, known: dict[str, Extract]) -> dict[str, float | None]:
    """Values of a damaged clip; what depends on the untouched stream alone is taken from ``known``."""
    decoded = Decoded(clip=clip, reference=case.clip, caption=case.caption)
    about = About(duration=clip.duration, fps=float(clip.fps), caption=case.caption)
    extracts = {}
    for extractor in EXTRACTORS:
        extract = _extract(extractor, decoded, case.clip, known)
        if NOT_APPLICABLE not in extract.values:
            extracts[extractor.signature] = extract
    found: dict[str, float | None] = {}
    for scorer in SCORERS:
        result = scorer.score(extracts, about)
        if not isinstance(result, str):
            found |= {f"{scorer.name}.{key}": value for key, value in result.items()}
    return found


def _extract(
    extractor: Extractor, decoded: Decoded, whole: Clip, known: dict[str, Extract]
) -> Extract:
    clip = decoded.clip
    assert clip is not None
    same = {"video": clip.frames is whole.frames, "audio": clip.waveform is whole.waveform}
    if (
        extractor.signature in known
        and extractor.needs
        and all(same.get(need, False) for need in extractor.needs)
    ):
        return known[extractor.signature]
    if not extractor.applies(decoded):
        return Extract(values={NOT_APPLICABLE: True})
    known[extractor.signature] = extractor.run(decoded)
    return known[extractor.signature]


def _summarise(values: Measured) -> SelfTest:
    whole = values[WHOLE, 0.0]
    rows = [_row(values, name, value, sign, blind=False) for name, value, sign in WITNESSES]
    rows += [_row(values, name, value, 1, blind=True) for name, value in BLIND]
    slope, bias = _offset_fit(values)
    alarms = {
        "outside detectability": _share([_not(v["sync.within_detectability"]) for v in whole]),
        "offset not measurable": _share([_not(v["sync.offset_measurable"]) for v in whole]),
        "frozen": _share([float((v["temporal.freeze_share"] or 0) > 0.5) for v in whole]),
        "cut": _share([float((v["temporal.cuts"] or 0) > 0) for v in whole]),
        "clipped": _share([float((v["signal.clipping_share"] or 0) > 1e-3) for v in whole]),
    }
    return SelfTest(
        rows=rows,
        offset_slope=slope,
        offset_bias_ms=bias,
        false_alarms={name: share for name, share in alarms.items() if share is not None},
        num_clips=len(whole),
    )


def _row(
    values: Measured,
    name: str,
    value: str,
    sign: int,
    *,
    blind: bool,
) -> Row:
    levels = sorted(level for damaged, level in values if damaged == name)
    whole = _present(values[WHOLE, 0.0], value)
    found = {level: _present(values[name, level], value) for level in levels}
    means = [sign * float(np.mean(found[level])) for level in levels if len(found[level])]
    monotonic = None
    if len(means) == len(levels) > 1 and len(set(means)) > 1:
        monotonic = float(spearmanr(levels, means)[0])  # pyright: ignore[reportArgumentType]
    return Row(
        damage=name,
        value=value,
        blind=blind,
        auc={level: _auc(whole, found[level], sign) for level in levels},
        measured={level: len(found[level]) / len(values[name, level]) for level in levels},
        monotonic=monotonic,
    )


def _auc(whole: np.ndarray, damaged: np.ndarray, sign: int) -> float | None:
    """Chance that a damaged clip has the worse value, ties counted half."""
    if not len(whole) or not len(damaged):
        return None
    wins = mannwhitneyu(sign * damaged, sign * whole).statistic
    return float(wins / (len(whole) * len(damaged)))


def _offset_fit(
    values: Measured,
) -> tuple[float | None, float | None]:
    """Slope of the measured offset over shifts within the range that is searched, and its mean without shift."""
    points: list[tuple[float, float]] = []
    for (name, level), rows in values.items():
        sign = {"sound late (ms)": 1, "sound early (ms)": -1, WHOLE: 0}.get(name)
        if sign is not None:
            points += [(sign * level, float(o)) for o in _present(rows, "sync.offset_ms")]
    bias = [offset for shift, offset in points if shift == 0]
    if len({shift for shift, _ in points}) < 2:
        return None, None
    shifts, offsets = np.array(points).T
    # Theil-Sen by shift: the median offset of each shift, so that a wrong peak of one clip does not tilt the line.
    medians = [(s, float(np.median(offsets[shifts == s]))) for s in np.unique(shifts)]
    x, y = np.array(medians).T
    slope = float(np.polyfit(x, y, 1)[0])
    return slope, float(np.median(bias)) if bias else None


def _present(rows: Sequence[dict[str, float | None]], value: str) -> np.ndarray:
    return np.array([row[value] for row in rows if row.get(value) is not None], np.float64)


def _not(value: float | None) -> float | None:
    return None if value is None else 1 - value


def _share(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
