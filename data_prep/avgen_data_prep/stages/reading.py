"""How stages read media: spans on the frame grid of the output, refusals as the row's reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from avgen import media
from avgen.clip import Clip
from avgen.clock import MICROSECONDS
from avgen_data_prep.pipeline.stage import StageError


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a file that cannot be used into `StageError`, without the path of the folder."""
    try:
        yield
    except media.MediaError as error:
        raise StageError(f"{error.problem}; {error.fix}") from error


def read_span(
    path: Path,
    start_us: int,
    num_frames: int,
    fps: Fraction,
    *,
    sound_offset_us: int = 0,
    picture: bool = True,
    **options: Any,
) -> Clip:
    """``num_frames`` frames and the sound of their time.

    Frame ``i`` is the picture on screen at the middle of its interval, ``start + (i + 1/2) / fps``.
    So a change of the picture is seen up to half a frame early as often as late: where the rate of
    the file is another or varies, the picture is not late on average, and where a span starts with
    a picture of a file of the same rate, the pictures are the file's own.

    Args:
        path: The file.
        start_us: Start of the span.
        num_frames: Its length.
        fps: Frames per second to return.
        sound_offset_us: By how much the sound is late in the file; it is put right.
        picture: Whether the file has a picture; of sound, ``num_frames / fps`` seconds are read.
        options: Of `avgen.media.read`.

    Raises:
        MediaError: See `avgen.media.read`.
    """
    half = 1 / (2 * fps) if picture else Fraction(0)
    start = Fraction(start_us, MICROSECONDS) + half
    return media.read(
        path,
        start=float(start),
        end=float(start + num_frames / fps),
        fps=fps,
        sound_offset=float(Fraction(sound_offset_us, MICROSECONDS) - half),
        **options,
    )


def fitted(
    height: int, width: int, short: int | None, *, square: bool = False, multiple: int = 1
) -> tuple[int, int]:
    """Height and width of a picture brought to a shorter side, never enlarged.

    Args:
        height: Of the picture.
        width: Of the picture.
        short: The shorter side that is wanted; None keeps the picture's own.
        square: Cut the longer side to the shorter.
        multiple: Both sides are cut to a multiple of this, where they are as long.
    """
    least = min(height, width)
    scale = Fraction(min(short or least, least), least)
    sides = [round(least * scale)] * 2 if square else [round(height * scale), round(width * scale)]
    sides = [side // multiple * multiple or side for side in sides]
    return sides[0], sides[1]
