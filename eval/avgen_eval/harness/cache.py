"""What was measured on clips, kept by content: the same bytes are never measured twice by the same code."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avgen.data.schema import atomic

_VALUES = "values.json"
ERROR = "error"
"""Value of an extract that says why its extractor failed."""
NOT_APPLICABLE = "not_applicable"
"""Value of an extract of a clip that lacks the stream which is measured."""


@dataclass(frozen=True, kw_only=True)
class Extract:
    """What one extractor found in one clip.

    Attributes:
        arrays: Curves, event times, feature vectors.
        values: Numbers, texts and None; JSON-able.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


class ExtractCache:
    """Extracts in a folder, by content hash of the clip and signature of the extractor.

    Files are written atomically, so that several processes can share the folder; a damaged one is measured again.

    Args:
        folder: Made when the first extract is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, content: str, signature: str) -> Path:
        """File of an extract."""
        return self.folder / content[:2] / f"{content}-{signature}.npz"

    def get(self, content: str, signature: str) -> Extract | None:
        """The extract, or None where there is none (or a damaged one)."""
        try:
            with (
                self.path(content, signature).open("rb") as file,
                np.load(file, allow_pickle=False) as stored,
            ):
                arrays = {name: stored[name] for name in stored.files if name != _VALUES}
                values = json.loads(stored[_VALUES].tobytes())
        except FileNotFoundError:
            return None
        except Exception:  # a damaged archive raises a dozen kinds of errors
            return None
        return Extract(arrays=arrays, values=values)

    def put(self, content: str, signature: str, extract: Extract) -> None:
        """Keep an extract."""
        path = self.path(content, signature)
        path.parent.mkdir(parents=True, exist_ok=True)
        stored: Mapping[str, Any] = {
            **extract.arrays,
            _VALUES: np.frombuffer(json.dumps(extract.values).encode(), np.uint8),
        }
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **stored)
