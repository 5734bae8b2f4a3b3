"""Networks of transformers from local folders, for stages: loaded once, told apart by their contents."""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from avgen_data_prep.pipeline.spec import PipelineError

_LOCAL = {"local_files_only": True, "trust_remote_code": False}


@lru_cache(maxsize=8)
def revision(folder: str) -> str:
    """SHA-256 of the files of a folder.

    Raises:
        PipelineError: There is no ``config.json`` in it.
    """
    if not (Path(folder) / "config.json").is_file():
        raise PipelineError(
            f"model {folder!r} holds no config.json; give the folder that save_pretrained wrote"
        )
    total = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if path.is_file() and not path.name.startswith("."):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.name} {digest}\n".encode())
    return total.hexdigest()


@lru_cache(maxsize=4)
def load(folder: str, network: str, processor: str, device: str) -> tuple[Any, Any]:
    """A network in evaluation mode, and what prepares its inputs.

    Args:
        folder: What ``save_pretrained`` wrote for both.
        network: Name of a class of transformers.
        processor: Name of a class of transformers.
        device: Where the network runs.

    Raises:
        PipelineError: transformers is not installed, or the folder does not hold such a network.
    """
    try:
        import transformers
    except ImportError:
        raise PipelineError(
            "models need transformers, which is not installed; pip install 'avgen[diffusers]'"
        ) from None
    with quiet():
        try:
            prepared = getattr(transformers, processor).from_pretrained(folder, **_LOCAL)
            model, report = getattr(transformers, network).from_pretrained(
                folder, weights_only=True, output_loading_info=True, **_LOCAL
            )
        except Exception as error:  # damaged and foreign folders raise a dozen kinds of errors
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise PipelineError(f"{folder}: no model for {network} in it ({line:.200})") from None
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise PipelineError(
            f"{folder}: {len(missing)} tensors of {network} are missing, such as {missing[0]}; "
            "fetch the folder again"
        )
    return model.requires_grad_(False).eval().to(device), prepared


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars, warnings and hints of transformers: errors say what is wrong."""
    import transformers

    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
