"""Weights on disk: one safetensors file with its kind, configuration and a SHA-256 of the tensors inside."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = 1
WEIGHTS = Path(__file__).parent / "weights"
MODEL_FILE = "model.safetensors"
VIDEO_FILE = "video_vae.safetensors"
AUDIO_FILE = "audio_codec.safetensors"


class CheckpointError(ValueError):
    """A weights file that cannot be used, with what to do about it."""


def digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors, in the order of their names."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def save(path: str | Path, tensors: dict[str, Tensor], *, kind: str, config: dict[str, Any]) -> str:
    """Write weights atomically (beside the target, fsync, rename) and return their SHA-256.

    Args:
        path: Target, ending in ``.safetensors``.
        tensors: State dict.
        kind: What the weights are: ``video_vae``, ``audio_codec`` or ``joint``.
        config: JSON-able constructor arguments and the identities of what the weights were trained with.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    sha = digest(tensors)
    metadata = {
        "avgen.format": str(FORMAT),
        "avgen.kind": kind,
        "avgen.config": json.dumps(config, sort_keys=True),
        "avgen.sha256": sha,
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=metadata)
        Path(temporary).chmod(0o644)  # mkstemp's own mode is private
        with Path(temporary).open("rb+") as file:
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return sha


def load(path: str | Path, *, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read weights written by `save`.

    Returns:
        The configuration, with ``sha256`` of the weights added, and the state dict.

    Raises:
        CheckpointError: The file is missing, truncated, damaged, of another kind, foreign, or from a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file; check the path")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({error}); it may be truncated: copy or download it again"
        ) from error
    if "avgen.format" not in metadata:
        raise CheckpointError(
            f"{path}: safetensors, but not written by avgen; open models of other projects load through "
            "their codec or text-encoder adapter classes"
        )
    if int(metadata["avgen.format"]) > FORMAT:
        raise CheckpointError(
            f"{path}: format {metadata['avgen.format']} is newer than the {FORMAT} this avgen reads; "
            "upgrade avgen (pip install -U avgen)"
        )
    if metadata["avgen.kind"] != kind:
        raise CheckpointError(
            f"{path}: holds {metadata['avgen.kind']!r} weights, but {kind!r} are needed here"
        )
    sha = digest(tensors)
    if sha != metadata["avgen.sha256"]:
        raise CheckpointError(
            f"{path}: the weights do not match their SHA-256; the file is damaged: copy it again"
        )
    return json.loads(metadata["avgen.config"]) | {"sha256": sha}, tensors


def recorded_sha(path: str | Path) -> str:
    """The SHA-256 that a weights file says it has, without reading the weights."""
    with safe_open(Path(path), framework="pt") as file:
        return (file.metadata() or {})["avgen.sha256"]


def shipped() -> list[str]:
    """Names of the weights that ship with avgen."""
    return sorted(path.name for path in WEIGHTS.glob("*") if path.is_dir())


def find_weights(name: str | Path) -> Path:
    """Folder of weights: one that exists, one that ships with avgen, or one of the Hugging Face hub (``owner/name``).

    Raises:
        CheckpointError: There is none.
    """
    if Path(name).is_dir():
        return Path(name)
    if str(name) in shipped():
        return WEIGHTS / name
    if str(name).count("/") == 1 and not Path(name).parent.exists():
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(str(name), allow_patterns=["*.safetensors", "*.json"]))
    raise CheckpointError(
        f"no weights {str(name)!r}: not a folder, and not one of those that ship ({', '.join(shipped())})"
    )
