"""The clips of a run as the annotation page asks for them; what it sends is checked here."""

import json
import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avgen.caption import CaptionError, TimedCaption
from avgen.media import MediaError
from avgen_data_prep.annotate import annotations
from avgen_data_prep.annotate.curves import curves
from avgen_data_prep.pipeline.manifest import MANIFEST
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.pipeline.stage import Row
from avgen_data_prep.pipeline.work import Work

MOST_WORDINGS = 32
_NEEDED = ("id", "source", "start_us", "duration_us")
_SHOWN = ("fps_numerator", "fps_denominator", "num_frames", "num_samples", "captions")
_EVENT = re.compile(r"events\[(\d+)\]")


class RefusedError(Exception):
    """A request that cannot be answered.

    Attributes:
        status: Of HTTP.
        answer: For the page: ``error`` and, where an event is wrong, its index and field.
    """

    def __init__(self, status: int, error: str, **more: Any):
        super().__init__(error)
        self.status = status
        self.answer = {"error": error, **more}


class RunClips:
    """Clips of a run folder, by id; the manifest is read once.

    Args:
        folder: Of the run.

    Raises:
        PipelineError: It has no manifest, or one without clips.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._work = Work(Path(), folder)
        self._table = _manifest(folder)
        self._rows = {name: index for index, name in enumerate(self._table["id"].to_pylist())}
        self._decoding = threading.Lock()
        self._curves = lru_cache(maxsize=64)(curves)

    def listing(self) -> list[Row]:
        """What the page lists of each clip, in the order of sources and of time in them.

        Returns:
            ``id``, ``source``, ``start_us`` in it, ``duration_us`` and ``annotated``.
        """
        known = annotations.annotated(self.folder)
        rows = self._table.select(_NEEDED).to_pylist()
        return [{**row, "annotated": row["id"] in known} for row in rows]

    def forgotten(self) -> list[str]:
        """Ids of annotations whose clip is not in the manifest: it was cut otherwise since."""
        return sorted(annotations.annotated(self.folder) - self._rows.keys())

    def clip(self, clip_id: str) -> Row:
        """A clip with its captions: a person's, else those of the manifest."""
        row = self._row(clip_id)
        try:
            captions, version = annotations.read_with_version(self.folder, clip_id)
        except PipelineError as error:
            raise RefusedError(422, str(error)) from error
        given = json.loads(row.pop("captions") or "[]")
        fps = [row.pop("fps_numerator") or 25, row.pop("fps_denominator") or 1]
        return {
            **row,
            "fps": fps,
            "captions": given if captions is None else [c.to_dict() for c in captions],
            "annotated": captions is not None,
            "version": version,
        }

    def file(self, clip_id: str) -> Path:
        """The MP4 file of a clip."""
        self._row(clip_id)
        path = self._work.clip_file(clip_id)
        if not path.is_file():
            raise RefusedError(
                404, f"the file of clip {clip_id} is missing; run `avgen prep run` again"
            )
        return path

    def curves(self, clip_id: str) -> dict[str, Any]:
        """See `curves`; one clip is decoded at a time."""
        path = self.file(clip_id)
        with self._decoding:
            try:
                return self._curves(path)
            except MediaError as error:
                raise RefusedError(422, str(error)) from error

    def save(self, clip_id: str, body: bytes) -> Row:
        """Keep what the page sends: an object of ``version`` and ``captions``.

        Returns:
            The new ``version``.

        Raises:
            RefusedError: 404 for an unknown clip, 400 for wrong captions, 409 where another page
                has saved meanwhile, 500 where the disk takes nothing.
        """
        duration = self._row(clip_id)["duration_us"]
        data = _object(body)
        captions = [
            _checked(item, number, duration) for number, item in enumerate(data["captions"])
        ]
        try:
            version = annotations.write(self.folder, clip_id, captions, data["version"])
        except annotations.ConflictError as error:
            raise RefusedError(409, str(error)) from error
        except OSError as error:
            raise RefusedError(500, f"the annotation cannot be written: {error}") from error
        return {"version": version}

    def _row(self, clip_id: str) -> Row:
        index = self._rows.get(clip_id)
        if index is None:
            raise RefusedError(404, f"this run has no clip {clip_id}")
        return self._table.slice(index, 1).to_pylist()[0]


def _manifest(folder: Path) -> pa.Table:
    path = folder / MANIFEST
    try:
        file = pq.ParquetFile(path)  # read_table would import pandas
    except (OSError, pa.ArrowException) as error:
        raise PipelineError(
            f"{path}: cannot be read ({error}); give the folder of a run, see `avgen prep run`"
        ) from error
    names = file.schema_arrow.names
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise PipelineError(f"{path}: lacks {missing}; run a pipeline with `cut`")
    table = file.read(columns=[name for name in (*_NEEDED, *_SHOWN) if name in names])
    for name in _SHOWN:
        if name not in names:
            table = table.append_column(name, pa.nulls(table.num_rows))
    if not table.num_rows:
        raise PipelineError(f"{path}: holds no clip; see `avgen prep status` for the reasons")
    return table.sort_by([("source", "ascending"), ("start_us", "ascending")]).combine_chunks()


def _object(body: bytes) -> Mapping[str, Any]:
    """The request's object, its two fields of the right types."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the request is no JSON: {error}") from error
    captions = data.get("captions") if isinstance(data, dict) else None
    if not isinstance(captions, list) or not isinstance(data.get("version"), str):
        raise RefusedError(400, 'the request must be {"version": string, "captions": [...]}')
    if not all(isinstance(caption, dict) for caption in captions):
        raise RefusedError(400, "captions must be objects of the schema avgen.caption/1")
    if not 1 <= len(captions) <= MOST_WORDINGS:
        raise RefusedError(400, f"there are {len(captions)} captions; give 1 to {MOST_WORDINGS}")
    return data


def _checked(item: dict[str, Any], number: int, duration_us: int) -> TimedCaption:
    """A caption that fits the clip."""
    place = {"caption": number}
    try:
        caption = TimedCaption.from_json(item)
    except CaptionError as error:
        found = _EVENT.match(error.event or "")
        event = int(found[1]) if found else None
        raise RefusedError(400, str(error), event=event, field=error.field, **place) from error
    if caption.duration_us != duration_us:
        fix = f"caption: duration_us is {caption.duration_us}; the clip's is {duration_us}"
        raise RefusedError(400, fix, event=None, field="duration_us", **place)
    if not caption.text.strip() and not caption.events:
        fix = "caption: text is empty and there are no events; write what is seen and heard"
        raise RefusedError(400, fix, event=None, field="text", **place)
    return caption
