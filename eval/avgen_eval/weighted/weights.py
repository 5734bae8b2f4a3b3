"""Where the weights of a metric come from: a path, a folder, a cache, or a download that was allowed.

Nothing is fetched unasked, nothing is used whose hash is not the expected one, and every file that was used is named
with its SHA-256.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

FOLDER_VARIABLE = "AVGEN_WEIGHTS"
CACHE_VARIABLE = "AVGEN_CACHE"
DOCS = "docs/metrics-with-weights.md"
TENSOR_FILES = ("model.safetensors", "pytorch_model.bin")
"""Files that hold the tensors of a pretrained folder, the better one first."""
EXPORTED_SUFFIXES = (".pt2", ".onnx", ".pt")
_HASH_MARK = "#sha256="
_TEXT_FILES = ["*.json", "*.txt"]

Source = Literal["given", "folder", "cache", "download"]


class WeightsError(ValueError):
    """Weights that cannot be used; says whose, why, and what to do."""


class WeightsUnavailableError(WeightsError):
    """Weights that are not there, or whose licence was not accepted: the metric is skipped."""


def first_line(error: BaseException) -> str:
    """What went wrong, for messages of one line: the first line of the text, or the kind of error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One set of weights as the catalogue knows it.

    Attributes:
        name: What it is called in ``--weights name=path``, and its file or folder.
        kind: ``exported``, a model file; ``pretrained``, a folder that transformers reads.
        origin: Where the original is published.
        licence: Of the weights.
        non_commercial: The licence forbids commercial use.
        repository: On the Hugging Face hub, from which a folder can be downloaded as it is.
        revision: The commit of the repository that is downloaded.
        tensors: The file in the folder that holds its tensors.
        size: Bytes of that file, or of the exported file; None where everybody makes their own.
        sha256: Likewise. Holds for downloads; the user may bring another checkpoint.
    """

    name: str
    kind: Literal["exported", "pretrained"]
    origin: str
    licence: str
    non_commercial: bool = False
    repository: str | None = None
    revision: str | None = None
    tensors: str = TENSOR_FILES[0]
    size: int | None = None
    sha256: str | None = None

    @property
    def file_names(self) -> tuple[str, ...]:
        """Names looked for in a folder of weights, in order."""
        if self.kind == "pretrained":
            return (self.name,)
        return tuple(self.name + suffix for suffix in EXPORTED_SUFFIXES)

    @property
    def section(self) -> str:
        """Where the documentation says how to come by them."""
        return f"{DOCS}#{self.name.replace('_', '-')}"

    @property
    def what(self) -> str:
        """``folder`` or ``file``."""
        return "folder" if self.kind == "pretrained" else "file"

    def describe(self) -> str:
        """File, size, licence and hash, in words."""
        size = "unknown" if self.size is None else f"{self.size} bytes"
        inside = f" with {self.tensors}" if self.kind == "pretrained" else ""
        return (
            f"{self.what} {self.file_names[0]}{inside}, size {size}, licence {self.licence}, "
            f"sha256 {self.sha256 or 'unknown'}"
        )


@dataclass(frozen=True, kw_only=True)
class Given:
    """A path from the user, with the hash that it should have."""

    path: Path
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Located:
    """Weights that were found and checked.

    Attributes:
        weights: Which.
        path: File or folder.
        sha256: Of the file; of the tensor file of a folder.
        source: How they were found.
    """

    weights: Weights
    path: Path
    sha256: str
    source: Source

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; without the path, which says nothing elsewhere."""
        return {
            "name": self.weights.name,
            "sha256": self.sha256,
            "licence": self.weights.licence,
            "non_commercial": self.weights.non_commercial,
            "source": self.source,
        }


def parse_weights(options: Iterable[str]) -> dict[str, Given]:
    """Paths by name from ``name=path`` or ``name=path#sha256=hex``.

    Raises:
        ValueError: An option has another form, a hash is not 64 hexadecimal digits, or a name comes twice.
    """
    given: dict[str, Given] = {}
    for option in options:
        name, equals, rest = option.partition("=")
        path, mark, digest = rest.rpartition(_HASH_MARK)
        path = path if mark else rest
        if not (name and equals and path):
            raise ValueError(f"--weights {option!r}: give name=path or name=path#sha256=...")
        if mark and not re.fullmatch("[0-9a-fA-F]{64}", digest):
            raise ValueError(
                f"--weights {name}: sha256 {digest!r} is not 64 hexadecimal digits; "
                "copy it from sha256sum"
            )
        if name in given:
            raise ValueError(f"--weights {name} is given twice; give it once")
        expected = digest.lower() if mark else None
        given[name] = Given(path=Path(path).expanduser(), sha256=expected)
    return given


def environment_folder() -> Path | None:
    """The folder that ``AVGEN_WEIGHTS`` names; None where it is not set."""
    value = os.environ.get(FOLDER_VARIABLE)
    return Path(value).expanduser() if value else None


def cache_folder() -> Path:
    """Weights below ``AVGEN_CACHE``, or below ``~/.cache/avgen``."""
    value = os.environ.get(CACHE_VARIABLE)
    return Path(value or "~/.cache/avgen").expanduser() / "weights"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where to look, in this order: a given path, the folder, the cache, a download.

    Attributes:
        given: By name of the weights, from `parse_weights`.
        folder: Of the user.
        cache: Filled by downloads; made when the first one arrives.
        allow_download: Fetch what is found nowhere else, where a hub repository is known.
        non_commercial: The user accepts licences that forbid commercial use.
    """

    given: Mapping[str, Given] = field(default_factory=dict)
    folder: Path | None = field(default_factory=environment_folder)
    cache: Path = field(default_factory=cache_folder)
    allow_download: bool = False
    non_commercial: bool = False

    def find(self, weights: Weights, metric: str) -> Located:
        """Find weights and check their hash: the one given; of a download, the one known.

        Args:
            weights: What is needed.
            metric: Who needs it, for the message.

        Raises:
            WeightsUnavailableError: They are nowhere, or their licence was not accepted.
            WeightsError: A given path does not exist or is no file or folder as needed, the hash is another, or a
                download failed.
        """
        if weights.non_commercial and not self.non_commercial:
            raise WeightsUnavailableError(
                f"{metric}: the licence of {weights.name} is {weights.licence}, which forbids "
                "commercial use; accept it with --non-commercial if your use is not"
            )
        path, source = self._search(weights, metric)
        _check_kind(path, weights, metric)
        given = self.given.get(weights.name)
        expected = given.sha256 if given else None
        if source in ("cache", "download"):
            expected = weights.sha256
        found = checked_hash(path, expected, metric)
        return Located(weights=weights, path=path, sha256=found, source=source)

    def _search(self, weights: Weights, metric: str) -> tuple[Path, Source]:
        if given := self.given.get(weights.name):
            if not given.path.exists():
                raise WeightsError(
                    f"{metric}: --weights {weights.name}={given.path}: there is no such "
                    f"{weights.what}; check the path"
                )
            return given.path, "given"
        if self.folder is not None and not self.folder.is_dir():
            raise WeightsError(
                f"{FOLDER_VARIABLE} is {self.folder}, which is not a folder; set it to one"
            )
        places: tuple[tuple[Path | None, Source], ...] = (
            (self.folder, "folder"),
            (self.cache, "cache"),
        )
        for folder, source in places:
            for name in weights.file_names if folder else ():
                if folder and (folder / name).exists():
                    return folder / name, source
        if self.allow_download and weights.repository:
            return download(weights, self.cache / weights.name), "download"
        raise WeightsUnavailableError(self._missing(weights, metric))

    def _missing(self, weights: Weights, metric: str) -> str:
        places = f"{self.folder or 'not set'} (${FOLDER_VARIABLE}) and {self.cache}"
        hub = weights.repository
        fetch = f", or allow the download of {hub} with --allow-download" if hub else ""
        return (
            f"{metric} needs weights {weights.name}: {weights.describe()}; looked in {places}: "
            f"put it there, or give --weights {weights.name}=PATH{fetch}; "
            f"see {weights.section}"
        )


def _check_kind(path: Path, weights: Weights, metric: str) -> None:
    if weights.kind == "pretrained" and not path.is_dir():
        needed = "the folder that holds config.json and the tensors"
    elif weights.kind == "exported" and not path.is_file():  # no device either, which would not end
        needed = f"a file: an exported model ({', '.join(EXPORTED_SUFFIXES)})"
    else:
        return
    found = "a folder" if path.is_dir() else "a file" if path.is_file() else "neither"
    raise WeightsError(f"{metric}: {path} is {found}; give {needed}, see {weights.section}")


def tensor_file(folder: Path) -> Path:
    """The file that holds the tensors of a pretrained folder.

    Raises:
        WeightsError: There is none, or the tensors are spread over several.
    """
    for name in TENSOR_FILES:
        if (folder / name).is_file():
            return folder / name
    if list(folder.glob("*.index.json")):
        raise WeightsError(
            f"{folder}: the tensors are in several files; load them once with transformers and save "
            "with save_pretrained(folder, max_shard_size='100GB')"
        )
    raise WeightsError(f"{folder}: there is neither {TENSOR_FILES[0]} nor {TENSOR_FILES[1]} in it")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, or of the tensor file of a pretrained folder.

    Raises:
        WeightsError: As `tensor_file`, or the file cannot be read.
    """
    file = tensor_file(path) if path.is_dir() else path
    try:
        status = file.stat()
        return _digest(file.resolve(), status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise WeightsError(
            f"{file} cannot be read: {error.strerror}; check its permissions"
        ) from error


def checked_hash(path: Path, expected: str | None, metric: str) -> str:
    """`sha256_of`, which must be the expected one where there is one.

    Raises:
        WeightsError: It is another, or as `sha256_of`.
    """
    found = sha256_of(path)
    if expected and found != expected.lower():
        raise WeightsError(
            f"{metric}: {path} has sha256 {found}, but {expected.lower()} is expected; "
            "the file is damaged or another one: fetch it again, or give its own hash"
        )
    return found


@lru_cache(maxsize=64)
def _digest(file: Path, _modified: int, _size: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download(weights: Weights, target: Path) -> Path:
    """Fetch a pretrained folder of the Hugging Face hub; ``target`` appears whole or not at all.

    Raises:
        WeightsError: The hub cannot be reached, or holds no tensors there or others than are known.
    """
    from huggingface_hub import snapshot_download

    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        snapshot_download(
            str(weights.repository),
            revision=weights.revision,
            local_dir=part,
            allow_patterns=[*_TEXT_FILES, weights.tensors],
        )
        checked_hash(part, weights.sha256, weights.name)
        part.chmod(0o755)  # mkdtemp's own mode is private
        part.replace(target)
    except Exception as error:
        raise WeightsError(
            f"download of {weights.repository} failed: {type(error).__name__}: {first_line(error)}"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target
