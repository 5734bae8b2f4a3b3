"""Hashes never to train on: a text file, checked when a dataset is packed and again when it is read."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avgen.data.storage import DatasetError

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


@dataclass(frozen=True)
class Exclusion:
    """What must be left out.

    Attributes:
        sources: SHA-256 of source files, in lower-case hex digits.
        ids: Ids of clips.
    """

    sources: frozenset[str]
    ids: frozenset[str]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the entries, whatever their order and the comments between them."""
        entries = "\n".join(sorted(self.sources | self.ids))
        return hashlib.sha256(entries.encode()).hexdigest()

    def excluded(self, table: pa.Table) -> np.ndarray:
        """Which rows are to be left out, ``(N,)`` bool.

        Args:
            table: With the column ``id``, ``source_sha256``, or both; a missing one matches nothing.
        """
        hit = np.zeros(table.num_rows, dtype=bool)
        for column, entries in (("id", self.ids), ("source_sha256", self.sources)):
            if column in table.column_names and entries:
                wanted = pa.array(sorted(entries), pa.string())
                found = pc.call_function("is_in", [table[column]], pc.SetLookupOptions(wanted))
                hit |= found.to_numpy()
        return hit

    def unchecked(self, table: pa.Table) -> int:
        """Rows that no source hash can match, because the source's hash was never noted."""
        if not self.sources:
            return 0
        if "source_sha256" not in table.column_names:
            return table.num_rows
        return table["source_sha256"].null_count


def read_exclusion(path: str | Path) -> Exclusion:
    """Read a list: one SHA-256 of a source file, or one id of a clip, per line.

    What follows ``#`` is a comment; empty lines are skipped. 64 hex digits mean a source's hash
    and, as ids may look the same, also an id.

    Raises:
        DatasetError: No such file, or a line that is neither; names the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path}: the exclusion list cannot be read ({error}); nothing is trained on without it"
        ) from error
    sources, ids = set(), set()
    for number, line in enumerate(lines, 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        if not _ID.fullmatch(entry):
            raise DatasetError(
                f"{path}:{number}: {entry[:80]!r} is neither a SHA-256 (64 hex digits) nor the id "
                "of a clip; put one on each line, and comments after #"
            )
        ids.add(entry)
        if _SHA256.fullmatch(entry):
            sources.add(entry.lower())
    return Exclusion(frozenset(sources), frozenset(ids))
