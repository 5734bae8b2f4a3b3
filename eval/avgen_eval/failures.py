"""The worst clips of each measurement, and the page that shows them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen_eval.clips import ClipRecord
from avgen_eval.report import ReportItem, write_report

LEAD = (
    "The clips that came out worst, measurement by measurement. They are not typical: "
    "the figures say how often this happens."
)


@dataclass
class Failures:
    """The ``count`` clips with the lowest scores of each measurement.

    Attributes:
        count: How many of each are kept.
        kept: By measurement: score and item, the worst first.
    """

    count: int
    kept: dict[str, list[tuple[float, ReportItem]]] = field(default_factory=dict)

    def offer(
        self,
        measurement: str,
        score: float | None,
        record: ClipRecord,
        clip: Clip,
        caption: TimedCaption | None,
    ) -> None:
        """Keep a clip if it is among the worst so far; one without a score is not."""
        if score is None or self.count < 1:
            return
        title = f"{measurement}: {record.name}"
        item = ReportItem(record=record, clip=clip, title=title, caption=caption)
        rows = [*self.kept.get(measurement, []), (score, item)]
        self.kept[measurement] = sorted(rows, key=lambda row: row[0])[: self.count]

    def write(self, path: Path, title: str, about: Mapping[str, str]) -> Path:
        """Write them as one HTML page with players and timelines.

        Raises:
            MediaError: A clip cannot be encoded.
            OSError: The file cannot be written.
        """
        items = [item for rows in self.kept.values() for _, item in rows]
        return write_report(path, title, items, about=about, lead=LEAD)


def sound_score(record: ClipRecord) -> float | None:
    """F1 of the sound events at 60 ms."""
    return record.sound_scores[0].f1 if record.sound_scores else None


def picture_score(record: ClipRecord) -> float | None:
    """F1 of the picture events at 60 ms."""
    return record.picture_scores[0].f1 if record.picture_scores else None


def overall_score(record: ClipRecord) -> float | None:
    """Mean of both, and of the share of frames with the described objects."""
    parts = [sound_score(record), picture_score(record), record.objects_visible]
    known = [part for part in parts if part is not None]
    return sum(known) / len(known) if known else None
