"""What container a file is, by its first bytes; refuses MP4 headers that would eat all memory.

FFmpeg's own guess is not used: it follows a text file that lists other files to where it points.
"""

import os
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from avgen.media.limits import MediaError, MediaLimits

_SUPPORTED = "convert it to MP4, Matroska, WebM, AVI, MPEG-TS, WAV, FLAC, Ogg, MP3 or AAC"
_PREFIXES = (
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"FLV\x01", "flv"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
)
_RIFF = {b"AVI ": "avi", b"WAVE": "wav", b"WEBP": "webp"}
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
IMAGES = ("png", "jpeg", "webp")
_TABLES = re.compile(rb"stsz.{8}(?P<stsz>.{4})|trun.{4}(?P<trun>.{4})", re.DOTALL)
_BLOCK = 64 << 20


def open_regular(path: Path, limits: MediaLimits) -> BinaryIO:
    """Open a regular file of acceptable size; never a directory, a pipe or a device.

    Raises:
        MediaError: The path is missing, not a regular file, empty, unreadable or too large.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer for ever.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except IsADirectoryError:
        raise MediaError(path, "is a directory", "give a media file") from None
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise MediaError(path, f"cannot be opened ({problem})", "check the path") from None
    try:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(path, "is not a regular file", "give a media file")
        if status.st_size == 0:
            raise MediaError(path, "is empty (0 bytes)", "give a complete media file")
        limits.check(path, "max_file_bytes", status.st_size, "its size in bytes")
    except MediaError:
        file.close()
        raise
    return file


def sniff(path: Path, file: BinaryIO) -> str:
    """FFmpeg's name of the container that ``file`` starts like; leaves the file at its start.

    Raises:
        MediaError: The first bytes are those of no supported container.
    """
    head = file.read(1024)
    file.seek(0)
    found = _container(head)
    if found is None:
        problem = f"is not a known media file (starts with {head[:12]!r})"
        raise MediaError(path, problem, _SUPPORTED)
    if found == "mov":
        _check_tables(path, file)
    return found


def _container(head: bytes) -> str | None:
    for prefix, name in _PREFIXES:
        if head.startswith(prefix):
            return name
    if head[:4] in (b"RIFF", b"RF64"):
        return _RIFF.get(head[8:12])
    if head[4:8] in _BOXES:
        return "mov"
    if head[:1] == b"G" and head[188:189] in (b"G", b"") and head[376:377] in (b"G", b""):
        return "mpegts" if len(head) >= 188 else None
    if head[4:5] == b"G" and head[196:197] == b"G" and head[388:389] == b"G":
        return "mpegts"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "aac" if head[1] & 0x06 == 0 else "mp3"
    return None


def _check_tables(path: Path, file: BinaryIO) -> None:
    """Refuse sample tables that list more samples than the file has bytes.

    FFmpeg allocates an entry per listed sample, so a file of a kilobyte could take all memory. It
    also accepts these tables in unexpected places, hence the search through all but media data.
    """
    size = os.fstat(file.fileno()).st_size
    listed = 0
    for header in _headers(path, file, size):
        if b"cmov" in header:
            raise MediaError(path, "its MP4 header is compressed", "remux it (ffmpeg -c copy)")
        for match in _TABLES.finditer(header):
            counts = match["stsz"] or match["trun"]
            listed += struct.unpack(">I", counts)[0]
        if listed > size:
            problem = f"its header lists {listed} samples in {size} bytes"
            raise MediaError(path, problem, "the file is damaged or hostile: do not use it")
    file.seek(0)


def _headers(path: Path, file: BinaryIO, size: int) -> Iterator[bytes]:
    """The contents of every top-level MP4 box but ``mdat``; raises where a box is cut off."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        end = at + length if length >= 8 else size
        if end > size and kind in (b"mdat", b"moov", b"moof"):
            problem = f"is cut off: {end - size} bytes are missing at its end"
            raise MediaError(path, problem, "get the complete file")
        end = min(end, size)
        if kind != b"mdat":
            file.seek(at)
            yield from iter(lambda: file.read(min(_BLOCK, end - file.tell())), b"")  # noqa: B023
        at = end
