"""Clips as MP4 files in memory."""

from pathlib import Path
from tempfile import TemporaryDirectory

from avgen import media
from avgen.clip import Clip


def mp4_bytes(clip: Clip) -> bytes:
    """A clip as an MP4 file in memory."""
    with TemporaryDirectory(prefix="avgen-") as folder:
        path = Path(folder) / "clip.mp4"
        media.write(path, clip)
        return path.read_bytes()
