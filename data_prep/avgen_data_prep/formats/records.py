"""The file beside exported media that keeps what a layout has no place for."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from avgen.data.schema import DatasetError, atomic

RECORDS = "avgen.jsonl"


def write_records(out: Path, records: Iterable[dict[str, Any]]) -> None:
    """One JSON object per line, atomically."""
    with atomic(out / RECORDS) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, sort_keys=True) + "\n")


def read_records(folder: Path) -> dict[str, str]:
    """The line of each id, still as JSON; empty where avgen did not write the folder.

    Raises:
        DatasetError: A line is no JSON object with an id.
    """
    path = folder / RECORDS
    if not path.is_file():
        return {}
    lines: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            lines[json.loads(line)["id"]] = line
        except (ValueError, TypeError, KeyError) as error:
            raise DatasetError(
                f"{path}:{number}: no JSON object with an id ({error!r}); remove the line, "
                "or export again"
            ) from error
    return lines
