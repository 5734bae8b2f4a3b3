"""What is known of the rights of a source: from files that people write beside the media."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import yaml

from avgen_data_prep.pipeline.stage import Measure, Row, StageError
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.scan import MediaFile

_WANTED: dict[str, tuple[type, str]] = {
    "licence": (str, "a text, best an SPDX identifier or a URL"),
    "consent": (str, "a text that says where the consent of the people is noted"),
    "faces": (bool, "true or false"),
}


@dataclass(frozen=True, kw_only=True)
class Rights(Measure):
    """Licence, consent and faces, as files say; nothing is guessed.

    A file is ``<stem>.rights.json`` or ``<stem>.rights.yaml`` beside the media file, or
    ``rights.yaml`` in its folder or one above, up to the folder of the sources. It is a mapping with
    any of ``licence``, ``consent`` and ``faces``. Each column comes from the nearest file that says
    it; a null says nothing. A file that cannot be read, or says anything else, fails the source: a
    misspelt licence must not become an unknown one.

    Columns:
        licence: Of the source, best an SPDX identifier or URL; null where no file says.
        consent: Where the consent of the people in it is noted; null where no file says.
        faces: Whether faces are seen; null where no file says.
    """

    name: ClassVar[str] = "rights"
    reads: ClassVar[tuple[str, ...]] = ("source_rights",)
    writes: ClassVar[pa.Schema] = pa.schema(
        [("licence", pa.string()), ("consent", pa.string()), ("faces", pa.bool_())]
    )

    def measure(self, row: Row, work: Work) -> Row:
        """See the columns of the class."""
        found: Row = {}
        for name, _ in MediaFile.of_row(row).rights:
            said = _read(work.sources / name, name)
            found = {**said, **found}
        return found


def _read(path: Path, name: str) -> dict[str, Any]:
    """What a file says.

    Raises:
        StageError: It is not a mapping of what is wanted.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StageError(f"{name}: cannot be read ({line:.200}); write a mapping") from None
    if not isinstance(data, dict):
        raise StageError(f"{name}: is no mapping; give any of {', '.join(_WANTED)}")
    said = {key: value for key, value in data.items() if value is not None}
    for key, value in said.items():
        if key not in _WANTED:
            raise StageError(f"{name}: says {key!r}; give any of {', '.join(_WANTED)}")
        kind, words = _WANTED[key]
        if not isinstance(value, kind) or value == "":
            raise StageError(f"{name}: {key} is {value!r}; give {words}")
    return said
