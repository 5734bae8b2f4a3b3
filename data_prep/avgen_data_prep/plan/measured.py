"""A corpus, and the tokens of its captions, as the folder of a run tells: nothing but what was measured there."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from avgen.clock import MICROSECONDS
from avgen_data_prep.pipeline.manifest import MANIFEST
from avgen_data_prep.pipeline.sources import read_sources
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.plan.corpus import Clips, Corpus
from avgen_data_prep.plan.ranges import Range, mean_of

_LOOKED_AT = 1000
_SHAPE = ("duration_us", "num_frames", "height", "width")
_SOURCE = ("source_duration_us", "source_height", "source_width", "source_fps")
_NEEDED = ("id", "source_sha256", "num_samples", *_SOURCE, *_SHAPE)
_SHOTS = "shot_us"


@dataclass(frozen=True, kw_only=True)
class CaptionTokens:
    """Tokens that a language model takes and gives to caption a clip.

    Attributes:
        input: Of a clip, on average.
        output: Of a clip, on average.
        rests_on: How they are known.
    """

    input: Range
    output: Range
    rests_on: str


def measured_corpus(folder: Path) -> Corpus:
    """The corpus that a run prepared.

    A source whose header tells no duration is as long as its shots; without shots it is left out of
    the footage.

    Raises:
        ValueError: The folder holds no finished run, or one without clips, without the columns of
            ``probe`` and ``cut``, or without a source of known length.
    """
    table = _manifest(folder, (*_NEEDED, _SHOTS, "captions"))
    missing = sorted(set(_NEEDED) - set(table.column_names))
    if missing:
        raise ValueError(
            f"{folder / MANIFEST}: lacks the columns {', '.join(missing)}; run a pipeline with the "
            "stages probe and cut"
        )
    if not table.num_rows:
        raise ValueError(f"{folder / MANIFEST}: holds no clips; see `avgen prep status {folder}`")
    files = read_sources(folder)
    footage, unknown = _footage(folder, table)
    seconds = sum(row["source_duration_us"] for row in footage) / MICROSECONDS
    pixels = sum(_pixel_rate(row) * row["source_duration_us"] for row in footage) / MICROSECONDS
    size, looked_at = _mean_size(folder, table)
    place = f"measured in {folder / MANIFEST}"
    left_out = f"; {unknown} of unknown length left out" if unknown else ""
    return Corpus(
        hours=seconds / 3600,
        num_sources=len(files),
        source_bytes=sum(row["source_bytes"] for row in files),
        source_pixel_rate=pixels / seconds,
        clips=_shapes(table),
        clip_bytes=size * table.num_rows,
        captions_per_clip=_captions_per_clip(table),
        sources_from=f"{place} ({len(files)} files, {len(footage)} with clips{left_out})",
        clips_from=f"{place} ({table.num_rows} clips)",
        clip_bytes_from=f"measured on {looked_at} of {table.num_rows} files of clips",
    )


def measured_tokens(folder: Path) -> CaptionTokens | None:
    """Tokens of the clips that a language model has captioned; None where it counted none."""
    table = _manifest(folder, ("caption_provenance",))
    if "caption_provenance" not in table.column_names:
        return None
    counts = []
    for told in table["caption_provenance"].to_pylist():
        usages = list(_usages(json.loads(told))) if told else []
        if usages:
            given = sum(usage.get("prompt_tokens", 0) for usage in usages)
            counts.append((given, sum(usage.get("completion_tokens", 0) for usage in usages)))
    if not counts:
        return None
    return CaptionTokens(
        input=mean_of(sum(count[0] for count in counts), len(counts)),
        output=mean_of(sum(count[1] for count in counts), len(counts)),
        rests_on=f"counted by the server on {len(counts)} clips of {folder / MANIFEST}",
    )


def _manifest(folder: Path, names: Sequence[str]) -> pa.Table:
    """Those of the columns that there are."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"{folder}: holds no {MANIFEST}; make one of some of the footage with "
            f"`avgen prep run FOLDER {folder} --limit 20`, or describe the corpus in a YAML file"
        )
    file = pq.ParquetFile(path)
    return file.read(columns=[name for name in names if name in file.schema_arrow.names])


def _footage(folder: Path, table: pa.Table) -> tuple[list[dict[str, Any]], int]:
    """The sources that gave clips and whose length is known, and the number of the others.

    Raises:
        ValueError: The length of none is known.
    """
    numbered = table.append_column("row", pa.array(range(table.num_rows)))
    first = numbered.group_by("source_sha256").aggregate([("row", "min")])["row_min"]
    names = [name for name in (*_SOURCE, _SHOTS) if name in table.column_names]
    sources = table.select(names).take(first).to_pylist()
    for row in sources:
        if row["source_duration_us"] is None and row.get(_SHOTS):
            row["source_duration_us"] = row[_SHOTS][-1] - row[_SHOTS][0]
    footage = [row for row in sources if row["source_duration_us"]]
    if not footage:
        raise ValueError(
            f"{folder / MANIFEST}: tells the length of no source; run a pipeline with the stage "
            "shots, or describe the corpus in a YAML file"
        )
    return footage, len(sources) - len(footage)


def _pixel_rate(row: dict[str, Any]) -> float:
    return (row["source_height"] or 0) * (row["source_width"] or 0) * (row["source_fps"] or 0.0)


def _shapes(table: pa.Table) -> tuple[Clips, ...]:
    sound = pc.call_function("greater", [table["num_samples"], pa.scalar(0)])
    keyed = table.select(_SHAPE).append_column("sound", sound)
    rows = keyed.group_by([*_SHAPE, "sound"]).aggregate([([], "count_all")]).to_pylist()
    return tuple(
        Clips(
            count=row["count_all"],
            seconds=row["duration_us"] / MICROSECONDS,
            num_frames=row["num_frames"],
            height=row["height"],
            width=row["width"],
            sound=row["sound"],
        )
        for row in sorted(rows, key=lambda row: [row[name] for name in (*_SHAPE, "sound")])
    )


def _mean_size(folder: Path, table: pa.Table) -> tuple[float, int]:
    """Bytes of a clip's file, over clips spread over all, and how many were looked at.

    Raises:
        ValueError: None of the files is there.
    """
    work, ids = Work(folder, folder), table["id"].to_pylist()
    step = -(-len(ids) // _LOOKED_AT)
    paths = [work.clip_file(name) for name in ids[::step]]
    sizes = [path.stat().st_size for path in paths if path.is_file()]
    if not sizes:
        raise ValueError(
            f"{folder}: the files of its clips are gone; run `avgen prep run FOLDER {folder}` again"
        )
    return sum(sizes) / len(sizes), len(sizes)


def _captions_per_clip(table: pa.Table) -> float:
    """Captions of a clip on average; 1 before any were written."""
    if "captions" not in table.column_names:
        return 1.0
    counts = [len(json.loads(told)) for told in table["captions"].to_pylist() if told]
    return sum(counts) / len(counts) if counts else 1.0


def _usages(provenance: Any) -> Iterator[dict[str, int]]:
    """What servers counted, also for drafts that were rejected or only complete a given caption."""
    if isinstance(provenance, dict):
        for name, value in provenance.items():
            if name == "usage" and value:
                yield value
            else:
                yield from _usages(value)
