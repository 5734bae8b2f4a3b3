"""How far a run is: rows per stage, reasons, and the funnel from files to clips as a table and a picture."""

from collections import Counter
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from avgen_data_prep.pipeline.ledger import SOURCE, Ledger, keys_of
from avgen_data_prep.pipeline.manifest import FAILED, MANIFEST
from avgen_data_prep.pipeline.runner import PIPELINE
from avgen_data_prep.pipeline.select import select
from avgen_data_prep.pipeline.sources import read_sources
from avgen_data_prep.pipeline.spec import PipelineError, load

_WIDTH, _BAR, _LEFT, _STEP, _TOP = 760, 26, 210, 56, 52


@dataclass
class Status:
    """Numbers of a run.

    Attributes:
        stages: Rows done, failed and left by stage.
        reasons: How often each reason was given, by stage and reason.
        funnel: What is left after each step.
    """

    stages: dict[str, dict[str, int]] = field(default_factory=dict)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    funnel: list[tuple[str, int]] = field(default_factory=list)


def read_status(folder: Path, where: str = "") -> Status:
    """The state of a run, also while it goes on.

    Args:
        folder: Of the run.
        where: A filter (see `select`) whose effect ends the funnel.

    Raises:
        PipelineError: The folder holds no run, or the filter is wrong.
    """
    if not (folder / PIPELINE).is_file():
        raise PipelineError(f"{folder}: holds no {PIPELINE}; give the folder of a run")
    pipeline = load(folder / PIPELINE)
    ledger, sources = Ledger(folder, pipeline), read_sources(folder)
    status = Status()
    of_sources = (*pipeline.of_sources, pipeline.split)
    for stage in (*of_sources, *pipeline.of_clips):
        status.stages[stage.name] = {"done": 0, "failed": 0, "left": 0}
    cut = clips = good = 0
    for source in sources:
        keys = keys_of(pipeline, source)
        part = ledger.read(source["source_sha256"]).current(pipeline, keys)
        for failure in part.failed.values():
            row = status.stages.setdefault(failure["stage"], {"done": 0, "failed": 0, "left": 0})
            row["failed"] += 1
            status.reasons[failure["stage"], failure["reason"]] += 1
        names = [(SOURCE, of_sources), *((name, pipeline.of_clips) for name in part.clips)]
        for name, stages in names:
            for stage in stages:
                if part.done.get(name, {}).get(stage.name) == keys[stage.name]:
                    status.stages[stage.name]["done"] += 1
                elif name not in part.failed and SOURCE not in part.failed:
                    status.stages[stage.name]["left"] += 1
        cut += bool(part.clips) and SOURCE not in part.failed
        clips += len(part.clips)
        last = [stage.name for stage in pipeline.of_clips]
        good += sum(
            all(part.done.get(clip["id"], {}).get(stage) == keys[stage] for stage in last)
            for clip in part.good_clips()
        )
    duplicates = _duplicates(folder, status)
    status.funnel = [
        ("media files", len(sources) + duplicates),
        ("without exact copies", len(sources)),
        ("files with clips", cut),
        ("clips cut", clips),
        ("clips through all stages", good),
    ]
    if where and (folder / MANIFEST).is_file():
        status.funnel.append(("clips that pass the filter", select(folder, where).num_rows))
    return status


def _duplicates(folder: Path, status: Status) -> int:
    try:
        outcomes = pq.ParquetFile(folder / FAILED).read().to_pylist()
    except (OSError, pa.ArrowException):
        return 0
    found = [row for row in outcomes if row["outcome"] == "duplicate"]
    if found:
        status.reasons["scan", "same contents as another file"] += len(found)
    return len(found)


def funnel_svg(status: Status) -> str:
    """The funnel as a picture: a bar a step, as wide as its share of the most files or the most clips."""
    steps = [
        (label, number, "clip" if label.startswith("clips") else "file")
        for label, number in status.funnel
    ]
    most = {unit: max(n for _, n, of in steps if of == unit) or 1 for _, _, unit in steps}
    height = _TOP + _STEP * len(steps) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="14" fill="#222">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        '<text x="16" y="28" font-size="17" font-weight="600">From files to clips</text>',
    ]
    for row, (label, number, unit) in enumerate(steps):
        y, width = _TOP + row * _STEP, (_WIDTH - _LEFT - 110) * number / most[unit]
        if row and unit != steps[row - 1][2]:
            between = y - (_STEP - _BAR) / 2
            parts.append(f'<path d="M16 {between}H{_WIDTH - 16}" stroke="#bbb"/>')
        parts += [
            f'<text x="{_LEFT - 12}" y="{y + 18}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="3" fill="#3b6ea5"/>',
            f'<text x="{_LEFT + width + 8:.1f}" y="{y + 18}">{number:,} {unit}{"s" * (number != 1)}'
            "</text>",
        ]
    return "\n".join([*parts, "</svg>\n"])
