"""From extracts to records and figures: one row per clip, one figure per value, every clip accounted for."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from avgen.caption import TimedCaption
from avgen.measure.onsets import Curve
from avgen_eval.harness.cache import ERROR, NOT_APPLICABLE, Extract, ExtractCache
from avgen_eval.harness.decode import content_hash
from avgen_eval.harness.extractors import Extractor, Integrity
from avgen_eval.harness.manifest import Item
from avgen_eval.harness.scorers import About, ClipScorer, Moments
from avgen_eval.harness.sets import SetScorer, UnmeasurableError
from avgen_eval.harness.suite import Suite
from avgen_eval.metrics.base import Field, Values
from avgen_eval.statistics import clustered_interval


@dataclass(frozen=True, kw_only=True)
class Record:
    """One clip.

    Attributes:
        id: Of the manifest.
        prompt: Likewise.
        seed: Likewise.
        file: Of the picture, or of the sound where there is no picture.
        failed: Why nothing could be measured; empty where something could.
        findings: What is wrong with it, in words.
        values: By ``scorer.value``; None where it could not be measured.
        skipped: By scorer, why it has no values.
        curves: By ``scorer.curve``, seconds and values in the course of the clip.
        events: By scorer and stream, requested and found times.
    """

    id: str
    prompt: str
    seed: int | None
    file: str
    failed: str
    findings: tuple[str, ...]
    values: dict[str, float | None]
    skipped: dict[str, str]
    curves: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    events: dict[str, dict[str, Moments]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One value over all clips.

    Attributes:
        id: ``scorer.value``.
        status: ``ok``, or ``skipped`` or ``failed`` with the reason.
        value: None where it was skipped.
        low: Lower end of the 95% interval (of sets: of the spread); None where there is none.
        high: Upper end.
        floor: What the references score against themselves, where that is known.
        unit: Of the value.
        better: ``higher``, ``lower``, ``target`` or ``none``.
        num: Clips it rests on.
        signature: Everything it depends on; only figures of one signature compare.
        reason: Why it was skipped, or what limits it.
    """

    id: str
    status: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    unit: str = ""
    better: str = "none"
    num: int = 0
    signature: str = ""
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a suite says of a set of clips."""

    records: list[Record]
    figures: list[Figure]
    conditions: dict[str, Any] = field(default_factory=dict)


def score(
    suite: Suite,
    items: Sequence[Item],
    cache: ExtractCache,
    seed: int = 0,
    contents: Mapping[str, str] | None = None,
) -> Scores:
    """Score what was extracted; clips are read one by one, only what set scorers need stays in memory.

    Args:
        suite: What to measure.
        items: The clips; one that was not extracted counts as failed.
        cache: Where their extracts are.
        seed: Of resampling.
        contents: Hash of the content of items by id, as `Extraction.run_all` gives them; the files of
            others are hashed.
    """
    generator, known = np.random.default_rng(seed), contents or {}
    collected = {name: _Collected(scorer) for name, scorer in suite.sets.items()}
    records, seen = [], _Conditions()
    for item in items:
        content = known.get(item.id) or content_hash(item)
        extracts = _load(content, suite.extractors, cache)
        about = extracts.pop(Integrity().signature, None)
        records.append(_record(item, suite, about, extracts))
        seen.add(about)
        for rows in collected.values():
            rows.add(item.prompt, extracts)
    conditions = seen.to_dict()
    figures = _clip_figures(suite, records, conditions, generator)
    for name, rows in collected.items():
        figures += _set_figures(name, rows, conditions, generator)
    return Scores(records=records, figures=figures, conditions=conditions)


class _Collected:
    """Arrays of all clips that one set scorer reads."""

    def __init__(self, scorer: SetScorer) -> None:
        self.scorer = scorer
        self.arrays: dict[str, list[np.ndarray | None]] = {name: [] for name in scorer.wanted()}
        self.prompts: list[str] = []

    def add(self, prompt: str, extracts: Mapping[str, Extract]) -> None:
        self.prompts.append(prompt)
        for name, (extractor, array) in self.scorer.wanted().items():
            extract = extracts.get(extractor.signature)
            self.arrays[name].append(None if extract is None else extract.arrays.get(array))


class _Conditions:
    """Rates, sizes and durations that values depend on: one value, or a range."""

    def __init__(self) -> None:
        self.values: dict[str, set[Any]] = {
            "fps": set(),
            "size": set(),
            "sample_rate": set(),
            "duration": set(),
        }

    def add(self, about: Extract | None) -> None:
        for name, found in self.values.items():
            value = None if about is None else about.values.get(name)
            if value is not None:
                found.add(tuple(value) if isinstance(value, list) else round(value, 2))

    def to_dict(self) -> dict[str, Any]:
        return {name: sorted(found) for name, found in self.values.items()}


def _load(content: str, extractors: Sequence[Extractor], cache: ExtractCache) -> dict[str, Extract]:
    """Extracts by signature, errors among them; what does not apply is left out."""
    found = {}
    for extractor in (Integrity(), *extractors):
        extract = cache.get(content, extractor.signature)
        if extract is not None and NOT_APPLICABLE not in extract.values:
            found[extractor.signature] = extract
    return found


def _record(
    item: Item, suite: Suite, about: Extract | None, extracts: Mapping[str, Extract]
) -> Record:
    findings = [] if about is None else about.values.get("findings", [])
    texts = tuple(finding["text"] for finding in findings)
    failed = _failure(about)
    values: dict[str, float | None] = {}
    skipped: dict[str, str] = {}
    curves: dict[str, tuple[tuple[float, float], ...]] = {}
    events: dict[str, dict[str, Moments]] = {}
    for name, scorer in suite.clips.items():
        values |= {f"{name}.{key}": None for key in scorer.fields}
        if failed or about is None:
            continue
        result = _result(scorer, extracts, _about(about))
        if isinstance(result, str):
            skipped[name] = result
        else:
            values |= {f"{name}.{key}": result[key] for key in scorer.fields}
            found = scorer.curves(extracts, _about(about))
            curves |= {f"{name}.{key}": _points(curve) for key, curve in found.items()}
            if told := scorer.events(extracts, _about(about)):
                events[name] = told
    return Record(
        id=item.id,
        prompt=item.prompt,
        seed=item.seed,
        file=str(item.video or item.audio or ""),
        failed=failed,
        findings=texts,
        values=values,
        skipped=skipped,
        curves=curves,
        events=events,
    )


def _points(curve: Curve) -> tuple[tuple[float, float], ...]:
    """Where the curve has a value."""
    pairs = zip(curve.times.tolist(), curve.values.tolist(), strict=True)
    return tuple((time, value) for time, value in pairs if np.isfinite(value))


def _failure(about: Extract | None) -> str:
    """Why nothing could be measured; empty where something could."""
    if about is None:
        return "was not extracted; run `avgen eval extract` with this suite"
    if ERROR in about.values:
        return about.values[ERROR]
    findings = about.values["findings"]
    if any(finding["fatal"] for finding in findings):
        return "; ".join(finding["text"] for finding in findings)
    return ""


def _result(scorer: ClipScorer, extracts: Mapping[str, Extract], about: About) -> Values | str:
    for extractor in scorer.extractors:
        extract = extracts.get(extractor.signature)
        if extract is not None and ERROR in extract.values:
            return extract.values[ERROR]
    return scorer.score(extracts, about)


def _about(about: Extract) -> About:
    values = about.values
    caption = values.get("caption")
    return About(
        duration=values["duration"],
        fps=values["fps"] if values["size"] is not None else None,
        caption=None if caption is None else TimedCaption.from_json(caption),
    )


def _clip_figures(
    suite: Suite,
    records: Sequence[Record],
    conditions: Mapping[str, Any],
    generator: np.random.Generator,
) -> list[Figure]:
    figures = []
    prompts = [record.prompt for record in records]
    for name, scorer in suite.clips.items():
        signature = _signature(scorer.signature, conditions)
        for key, kind in scorer.fields.items():
            values = [record.values[f"{name}.{key}"] for record in records]
            interval = clustered_interval(values, prompts, generator)
            shared: dict[str, Any] = {
                "id": f"{name}.{key}",
                "unit": kind.unit,
                "better": kind.better,
                "signature": signature,
            }
            if interval is None:
                reason = _why(records, name)
                figures.append(Figure(status="skipped", reason=reason, **shared))
            else:
                ends = {"value": interval.value, "low": interval.low, "high": interval.high}
                figures.append(Figure(status="ok", num=interval.num_values, **ends, **shared))
    return figures


def _why(records: Sequence[Record], scorer: str) -> str:
    reasons = sorted({record.skipped[scorer] for record in records if scorer in record.skipped})
    return reasons[0] if reasons else "no clip has what it takes"


def _set_figures(
    name: str, rows: _Collected, conditions: Mapping[str, Any], generator: np.random.Generator
) -> list[Figure]:
    signature = _signature(rows.scorer.signature, conditions)
    try:
        values, missing = (
            rows.scorer.score(rows.arrays, rows.prompts, generator),
            "too few clips or prompts for it",
        )
    except UnmeasurableError as error:
        values, missing = {}, str(error)
    figures = []
    for key, kind in rows.scorer.fields.items():
        figures.append(_set_figure(f"{name}.{key}", kind, signature, values.get(key), missing))
    return figures


def _set_figure(name: str, kind: Field, signature: str, found: Any, missing: str) -> Figure:
    shared: dict[str, Any] = {
        "id": name,
        "unit": kind.unit,
        "better": kind.better,
        "signature": signature,
    }
    if found is None:
        return Figure(status="skipped", reason=missing, **shared)
    return Figure(
        status="ok",
        value=found.value,
        low=found.low,
        high=found.high,
        floor=found.floor,
        num=found.num,
        reason=found.note,
        **shared,
    )


def _signature(scorer: str, conditions: Mapping[str, Any]) -> str:
    """The scorer's, and the frame rate and size that its values depend on."""
    parts = [f"{name}={_listed(conditions[name])}" for name in ("fps", "size", "sample_rate")]
    return "|".join([scorer, *parts])


def _listed(values: Sequence[Any]) -> str:
    texts = ["x".join(map(str, v)) if isinstance(v, tuple) else f"{v:g}" for v in values]
    return ",".join(texts) if len(texts) <= 3 else f"{texts[0]}..{texts[-1]}"
