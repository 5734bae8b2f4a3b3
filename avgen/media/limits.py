"""What a media file may cost at most, and the one error that every bad file ends in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_READ_FIX = "it is damaged or its codec is not supported: check that a player opens it"


class MediaError(ValueError):
    """A media file that cannot be used; the message names the file, what is wrong and the fix."""

    def __init__(self, path: Path | str, problem: str, fix: str):
        super().__init__(f"{path}: {problem}; {fix}")
        self.path, self.problem, self.fix = Path(path), problem, fix


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """Bounds that hold before decoding (claims of the file) and during it (what comes out).

    The defaults suit media of one's own; give smaller ones for files of strangers.

    Attributes:
        max_file_bytes: Size of the file.
        max_streams: Streams in the file, of any kind.
        max_duration: Seconds that one read, or one window, may return.
        max_file_duration: Seconds of a file that is read in windows.
        max_pixels: Pixels of one picture, also when it changes size inside the stream.
        max_fps: Pictures per second that one read may return.
        max_sample_rate: Sound samples per second, in the file and returned.
        max_channels: Sound channels in the file.
        max_output_bytes: Memory of the clip that one read returns.
        max_decoded_bytes: Decoded pictures from the start of what one read, or one window, returns,
            counted as RGB, also those that no frame shows.
    """

    max_file_bytes: int = 16 << 30
    max_streams: int = 32
    max_duration: float = 600.0
    max_file_duration: float = 24 * 3600.0
    max_pixels: int = 16 << 20
    max_fps: float = 240.0
    max_sample_rate: int = 384_000
    max_channels: int = 8
    max_output_bytes: int = 2 << 30
    max_decoded_bytes: int = 64 << 30

    def check(self, path: Path, name: str, value: float, what: str) -> None:
        """Raise if ``value`` is above the limit ``name``.

        Raises:
            MediaError: Names the value, the limit, and how to raise it.
        """
        limit = getattr(self, name)
        if value > limit:
            fix = f"use a smaller file or span, or pass limits=MediaLimits({name}=...)"
            problem = f"{what} {value:.12g} is above the limit {name} = {limit:.12g}"
            raise MediaError(path, problem, fix)


@contextmanager
def guarded(path: Path, doing: str, fix: str = _READ_FIX) -> Iterator[None]:
    """Turn whatever a damaged file raises into `MediaError`.

    FFmpeg's wrappers raise more than their own errors on damaged files: AttributeError,
    UnicodeDecodeError and MemoryError were all seen.
    """
    try:
        yield
    except MediaError:
        raise
    except Exception as error:
        detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise MediaError(path, f"cannot {doing} ({detail:.200})", fix) from error
