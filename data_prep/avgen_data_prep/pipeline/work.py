"""What stages are given besides rows: where files lie, and a clip's media, decoded once."""

from dataclasses import dataclass, field
from pathlib import Path

from avgen import media
from avgen.clip import Clip
from avgen_data_prep.pipeline.stage import Row

CLIPS = "clips"


@dataclass
class Work:
    """The folders of a run, seen by one process.

    Attributes:
        sources: Folder of the media files.
        folder: Folder of the run: its ledger, its clips.
        key: Key of the pipeline's `Split`, once it is known; part of every clip's id.
    """

    sources: Path
    folder: Path
    key: str = ""
    _decoded: tuple[str, Clip] | None = field(default=None, repr=False)

    def source(self, row: Row) -> Path:
        """The media file that a source or clip row comes from."""
        return self.sources / row["source"]

    def clip_file(self, clip_id: str) -> Path:
        """Where the file of a clip lies, or will: MP4, constant rate, 48 kHz."""
        return self.folder / CLIPS / clip_id[:2] / f"{clip_id}.mp4"

    def clip(self, row: Row) -> Clip:
        """A clip row's pictures and sound at their own rates, kept for the stages that follow.

        Raises:
            MediaError: The clip's file is missing or damaged.
        """
        if self._decoded is None or self._decoded[0] != row["id"]:
            self._decoded = row["id"], media.read(self.clip_file(row["id"]))
        return self._decoded[1]
