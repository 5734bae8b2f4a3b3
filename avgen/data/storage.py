"""Where a dataset lies, a local folder or an fsspec URL, and how byte ranges of its files are read."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.core import url_to_fs

_GAP = 4096
_ATTEMPTS = 3
_FIRST_PAUSE = 0.2
_T = TypeVar("_T")


class DatasetError(ValueError):
    """A dataset folder that cannot be used, with what to do about it."""


class Storage(ABC):
    """Files of one folder, to be read from any thread.

    Instances can be shared with forked processes and pickled to spawned ones.

    Attributes:
        location: The folder: a path, or an fsspec URL.
    """

    location: Path | str

    @abstractmethod
    def read_file(self, name: str) -> bytes:
        """A whole file.

        Raises:
            FileNotFoundError: There is none.
            DatasetError: It cannot be read.
        """

    @abstractmethod
    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Size of each file in bytes; None for a missing one, -1 where the store does not say."""

    @abstractmethod
    def _range(self, name: str, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes at ``offset``."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """``size`` bytes at ``offset`` of a file.

        Raises:
            DatasetError: The file is missing or shorter, or the store does not serve ranges.
        """
        data = self._range(name, offset, size)
        if len(data) < size:
            raise DatasetError(
                f"{self.location}/{name}: {len(data)} of {size} bytes at {offset}: truncated; "
                "copy the shard again"
            )
        if len(data) > size:
            raise DatasetError(
                f"{self.location}/{name}: got {len(data)} bytes for a range of {size}: the server "
                "ignores byte ranges; use one that serves them, or copy the dataset here"
            )
        return data

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several ``(offset, size)`` ranges of a file; those close together in one read.

        Raises:
            DatasetError: As `read`.
        """
        order = sorted(range(len(ranges)), key=lambda i: ranges[i])
        parts: list[bytes] = [b""] * len(ranges)
        while order:
            start, end = ranges[order[0]][0], sum(ranges[order[0]])
            count = 1
            while count < len(order) and ranges[order[count]][0] <= end + _GAP:
                end = max(end, sum(ranges[order[count]]))
                count += 1
            data = self.read(name, start, end - start)
            for i in order[:count]:
                parts[i] = data[ranges[i][0] - start : sum(ranges[i]) - start]
            order = order[count:]
        return parts


def open_storage(location: str | Path) -> Storage:
    """The storage of a local folder (a path or ``file://`` URL) or of any other fsspec URL.

    Raises:
        DatasetError: No driver is installed for the URL.
    """
    text = str(location)
    if isinstance(location, str) and "://" in text and not text.startswith("file://"):
        return RemoteStorage(text)
    return LocalStorage(Path(text.removeprefix("file://")))


class _File:
    """A file descriptor that is closed when the last thread lets go of it."""

    def __init__(self, path: Path):
        self.number = -1
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class LocalStorage(Storage):
    """A local folder, read with `os.pread`, which has no position that processes could share.

    Args:
        folder: The folder.
        max_open: File descriptors kept open.
    """

    def __init__(self, folder: Path, max_open: int = 64):
        self.location = folder
        self.max_open = max_open
        self._files: dict[str, _File] = {}

    def read_file(self, name: str) -> bytes:
        """See `Storage.read_file`."""
        path = Path(self.location) / name
        if not path.is_file():
            raise FileNotFoundError(path)
        try:
            return path.read_bytes()
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error}); copy it again") from error

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """See `Storage.sizes`."""
        paths = [Path(self.location) / name for name in names]
        return [path.stat().st_size if path.is_file() else None for path in paths]

    def _range(self, name: str, offset: int, size: int) -> bytes:
        file = self._file(name)  # held while it is read: another thread may drop it from the table
        return os.pread(file.number, size, offset)

    def _file(self, name: str) -> _File:
        """Only single, atomic operations on the table: threads need no lock, forks no care."""
        file = self._files.get(name)
        if file is None:
            path = Path(self.location) / name
            try:
                file = _File(path)
            except OSError as error:
                raise DatasetError(f"{path}: cannot be opened ({error}); copy it again") from error
            self._files[name] = file
            for oldest in list(self._files)[: -self.max_open]:
                self._files.pop(oldest, None)
        return file

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}


class RemoteStorage(Storage):
    """A folder of an object store or web server, through the fsspec driver of its protocol.

    A read that fails for another reason than a missing file is tried again, twice.

    Args:
        url: ``protocol://...``; options of the driver (keys, endpoints) come from fsspec's own
            configuration.
    """

    def __init__(self, url: str):
        self.location = url.rstrip("/")
        self._opened: tuple[int, Any, str] | None = None
        self._filesystem()

    def read_file(self, name: str) -> bytes:
        """See `Storage.read_file`."""
        return self._ask(name, lambda fs, path: fs.cat_file(path))

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """See `Storage.sizes`."""
        fs, root = self._filesystem()
        try:
            found = fs.sizes([f"{root}/{name}" for name in names])
        except Exception:  # one of them is missing: ask for each by itself
            return [self._size(name) for name in names]
        return [-1 if size is None else size for size in found]

    def _size(self, name: str) -> int | None:
        try:
            size = self._ask(name, lambda fs, path: fs.size(path))
        except FileNotFoundError:
            return None
        return -1 if size is None else size

    def _range(self, name: str, offset: int, size: int) -> bytes:
        if size == 0:
            return b""
        try:
            return self._ask(name, lambda fs, path: fs.cat_file(path, offset, offset + size))
        except FileNotFoundError as error:
            raise DatasetError(
                f"{self.location}/{name}: missing; copy the shard there again"
            ) from error

    def _ask(self, name: str, action: Callable[[Any, str], _T]) -> _T:
        fs, root = self._filesystem()
        for attempt in range(_ATTEMPTS):
            try:
                return action(fs, f"{root}/{name}")
            except FileNotFoundError:
                raise
            except Exception as error:  # drivers raise errors of their own kinds
                if attempt == _ATTEMPTS - 1:
                    raise DatasetError(
                        f"{self.location}/{name}: cannot be read after {_ATTEMPTS} attempts "
                        f"({error!r}); check the connection and the access rights"
                    ) from error
                time.sleep(_FIRST_PAUSE * 2**attempt)
        raise AssertionError("unreachable")

    def _filesystem(self) -> tuple[Any, str]:
        """The driver of this process: those with connections must not cross a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                fs, root = url_to_fs(str(self.location))
            except (ValueError, ImportError) as error:
                known = ", ".join(sorted(fsspec.available_protocols())[:8])
                raise DatasetError(
                    f"{self.location}: no fsspec driver ({error}); install it, or use a local "
                    f"folder or one of {known}, ..."
                ) from error
            self._opened = (os.getpid(), fs, root.rstrip("/"))
        return self._opened[1], self._opened[2]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}
