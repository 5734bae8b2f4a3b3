"""Runs side by side: each against the first, paired by prompt, and refused where their signatures differ."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from avgen_eval.harness.result import Result, ResultError
from avgen_eval.statistics import Comparison, benjamini_hochberg, compare, holm, prompt_means

Correction = Literal["holm", "bh", "none"]
Verdict = Literal["better", "worse", "no difference shown"]
NAMES = {"holm": "Holm", "bh": "Benjamini-Hochberg", "none": "uncorrected"}
"""Corrections as people call them."""
SIGNIFICANT = 0.05
"""Corrected p below which a change counts as better or worse."""
_CORRECTIONS = {"holm": holm, "bh": benjamini_hochberg, "none": list}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One value of two runs.

    Attributes:
        id: Of the figure.
        unit: Of the values.
        better: Direction; ``lower`` is taken of the size where the value has a target.
        baseline: Mean of the baseline over the prompts that both have (without a comparison, over its clips).
        candidate: Mean of the candidate, likewise; the two differ by the change.
        comparison: None where it could not be compared.
        p_corrected: p-value after the correction over all rows.
        reason: Why it could not be compared.
        only_baseline: Prompts with this value in the baseline alone, left out of the comparison and both means.
        only_candidate: Likewise in the candidate alone.
    """

    id: str
    unit: str
    better: str
    baseline: float | None
    candidate: float | None
    comparison: Comparison | None
    p_corrected: float | None = None
    reason: str = ""
    only_baseline: int = 0
    only_candidate: int = 0

    @property
    def verdict(self) -> Verdict | None:
        """What the corrected p-value and the direction say; None where it could not be compared."""
        if self.comparison is None or self.p_corrected is None:
            return None
        if self.p_corrected >= SIGNIFICANT:
            return "no difference shown"
        gained = (self.comparison.difference > 0) == (self.better == "higher")
        return "better" if gained else "worse"


def compare_runs(
    baseline: Result,
    candidate: Result,
    *,
    correction: Correction = "holm",
    only: Sequence[str] = (),
    seed: int = 0,
) -> list[Row]:
    """`compare_all` with a single candidate."""
    return compare_all(baseline, [candidate], correction=correction, only=only, seed=seed)[0]


def compare_all(
    baseline: Result,
    candidates: Sequence[Result],
    *,
    correction: Correction = "holm",
    only: Sequence[str] = (),
    seed: int = 0,
) -> list[list[Row]]:
    """Every value that the baseline and a candidate have and that has a direction, for each candidate.

    Values without a direction are descriptions and are left out; so are values of sets, which have no pairs.

    Args:
        baseline: What is compared with.
        candidates: What is compared, each with the baseline.
        correction: For the number of comparisons, those of all candidates together: ``holm`` (few claims), ``bh`` (a
            search), ``none``.
        only: Ids or beginnings of ids to compare; all if empty.
        seed: Of resampling.

    Raises:
        ResultError: Signatures differ, the runs share no value, or no prompt.
    """
    compared = [_rows(baseline, candidate, only, seed) for candidate in candidates]
    tested = [row for rows in compared for row in rows if row.comparison is not None]
    corrected = _CORRECTIONS[correction]([row.comparison.p_value for row in tested])  # type: ignore[union-attr]
    p_values = iter(corrected)
    return [
        [replace(row, p_corrected=next(p_values)) if row.comparison else row for row in rows]
        for rows in compared
    ]


def verdict_line(rows: Sequence[Row]) -> str:
    """How many values got worse, how many better, and of how many prompts."""
    found = [row for row in rows if row.comparison is not None]
    if not found:
        return "no value could be compared"
    counts = Counter(row.verdict for row in found)
    pairs = sorted({row.comparison.num_prompts for row in found if row.comparison})
    told = f"{pairs[0]} to {pairs[-1]}" if len(pairs) > 1 else str(pairs[0])
    alone = max(row.only_baseline + row.only_candidate for row in found)
    left_out = f", up to {alone} prompts without a partner left out" if alone else ""
    return (
        f"worse in {counts['worse']} of {len(found)} values with a direction, better in "
        f"{counts['better']}, no difference shown in {counts['no difference shown']} "
        f"({told} pairs of prompts{left_out})"
    )


def correction_line(compared: Sequence[Sequence[Row]], correction: Correction = "holm") -> str:
    """Over how many values p was corrected, and what that means beside an interval."""
    num = sum(row.comparison is not None for rows in compared for row in rows)
    told = f"Better or worse: p below {SIGNIFICANT}"
    if correction == "none":
        return f"{told}; p is not corrected for the number of values ({num})."
    return (
        f"{told}. p is corrected ({NAMES[correction]}) over all {num} values, intervals are not: one that "
        "excludes 0 may stand beside a large p."
    )


def _rows(baseline: Result, candidate: Result, only: Sequence[str], seed: int) -> list[Row]:
    shared = [
        name
        for name, figure in candidate.figures.items()
        if name in baseline.figures
        and figure.better in ("higher", "lower")
        and (not only or any(name == o or name.startswith(f"{o}.") for o in only))
        and any(name in record.values for record in candidate.records[:1])
    ]
    if not shared:
        raise ResultError(
            f"{baseline.name} and {candidate.name} share no value that has a direction"
        )
    check_signatures([baseline, candidate], shared)
    generator = np.random.default_rng(seed)
    return [_row(name, baseline, candidate, generator) for name in shared]


def check_signatures(results: Sequence[Result], names: Sequence[str]) -> None:
    """Refuse to put figures side by side that were not measured alike.

    Raises:
        ResultError: Names the first value whose signatures differ, and the parts that do.
    """
    for name in names:
        figures = [(r.name, r.figures[name]) for r in results if name in r.figures]
        # A value that no clip of a run had has no conditions to speak of.
        signatures = [(run, f.signature) for run, f in figures if f.status == "ok"]
        if len({signature for _, signature in signatures}) > 1:
            parts = [set(signature.split("|")) for _, signature in signatures]
            common = set.intersection(*parts)
            told = "; ".join(
                f"{run}: {', '.join(sorted(set(signature.split('|')) - common)) or 'nothing more'}"
                for run, signature in signatures
            )
            raise ResultError(
                f"{name} was not measured alike, so the runs cannot be ranked by it ({told}); "
                "measure both with one version on clips of one rate and size, or leave it out of "
                "`avgen eval compare` with --only"
            )


def _row(name: str, baseline: Result, candidate: Result, generator: np.random.Generator) -> Row:
    figure = candidate.figures[name]
    means = [
        prompt_means([r.values[name] for r in run.records], [r.prompt for r in run.records])
        for run in (candidate, baseline)
    ]
    shared = [prompt for prompt in means[0] if prompt in means[1]]
    ours, theirs = (
        float(np.mean([of[prompt] for prompt in shared])) if shared else run.figures[name].value
        for of, run in zip(means, (candidate, baseline), strict=True)
    )
    found, reason = None, ""
    try:
        found = compare(means[0], means[1], generator, better=figure.better)  # type: ignore[arg-type]
        reason = "" if found else "no clip of a run has it"
    except ValueError as error:
        if means[0] and means[1]:
            raise ResultError(f"{name}: {error}") from error
    return Row(
        id=name,
        unit=figure.unit,
        better=figure.better,
        baseline=theirs,
        candidate=ours,
        comparison=found,
        reason=reason,
        only_baseline=len(means[1]) - len(shared),
        only_candidate=len(means[0]) - len(shared),
    )
