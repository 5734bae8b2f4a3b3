"""Folders that transformers reads: from the disk only, tensors only, and every tensor in its place."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from avgen_eval.weighted.weights import DOCS, WeightsError, WeightsUnavailableError, first_line

LOCAL = {"local_files_only": True, "trust_remote_code": False}
# Buffers that older versions of transformers saved and newer ones compute.
IGNORED_SUFFIXES = ("position_ids", "relative_position_index")


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A network of transformers with its tokenizer and preprocessing.

    Attributes:
        network: Name of its class.
        parts: Names of the classes of the other attributes: of each, the first that transformers has.
        model: The network.
    """

    network: ClassVar[str]
    parts: ClassVar[Mapping[str, Sequence[str]]]
    model: Any

    @classmethod
    def from_folder(cls, folder: Path, device: str = "cpu") -> Self:
        """From a folder that transformers reads; raises as `load_model` and `load_part`."""
        model = load_model(cls.network, folder, device)
        parts = {name: load_part(classes, folder) for name, classes in cls.parts.items()}
        return cls(model=model, **parts)


def load_model(class_name: str, folder: Path, device: str = "cpu") -> Any:
    """A network of transformers in evaluation mode, from safetensors, or from a pickle of tensors only.

    Raises:
        WeightsUnavailableError: transformers is not installed.
        WeightsError: The folder is not of that class, or tensors are missing, left over, or of another shape.
    """
    transformers = _library()
    _check_folder(folder)
    with _quiet(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(folder, **LOCAL)
            expected = getattr(transformers, class_name).config_class
            if not isinstance(config, expected):
                raise WeightsError(
                    f"{folder} holds a {config.model_type} model; {class_name} is needed"
                )
            model, report = getattr(transformers, class_name).from_pretrained(
                folder,
                **LOCAL,
                weights_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, with all other differences
            )
        except WeightsError:
            raise
        except Exception as error:  # damaged files raise a dozen kinds of errors
            raise WeightsError(
                f"{folder} cannot be loaded as {class_name} ({type(error).__name__}: "
                f"{first_line(error)}); fetch the folder again"
            ) from error
    _check_report(folder, report)
    return model.requires_grad_(False).eval().to(device)


def load_part(class_names: Sequence[str], folder: Path) -> Any:
    """A tokenizer, feature extractor or processor, of the first class that transformers has.

    Raises:
        WeightsUnavailableError: transformers, or what the class needs, is not installed.
        WeightsError: Its files are missing or damaged.
    """
    transformers = _library()
    name = next((name for name in class_names if hasattr(transformers, name)), class_names[0])
    with _quiet(transformers):
        try:
            return getattr(transformers, name).from_pretrained(folder, **LOCAL)
        except ImportError as error:
            raise WeightsUnavailableError(f"{name} cannot be used: {first_line(error)}") from error
        except Exception as error:
            raise WeightsError(
                f"{folder}: the files of {name} are missing or damaged ({first_line(error)}); see {DOCS}"
            ) from error


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise WeightsUnavailableError(
            "transformers is not installed; pip install 'avgen[diffusers]'"
        ) from error
    return transformers


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise WeightsError(
            f"{folder}: no config.json in it; give the folder that save_pretrained wrote"
        )


def _check_report(folder: Path, report: dict[str, Any]) -> None:
    unexpected = [key for key in report["unexpected_keys"] if not key.endswith(IGNORED_SUFFIXES)]
    mismatched = [
        entry if isinstance(entry, str) else entry[0] for entry in report["mismatched_keys"]
    ]
    parts = {
        "missing": sorted(report["missing_keys"]),
        "left over": sorted(unexpected),
        "of another shape": sorted(mismatched),
    }
    wrong = [f"{len(keys)} {what} (such as {keys[0]})" for what, keys in parts.items() if keys]
    if wrong:
        raise WeightsError(
            f"{folder}: tensors do not fit the network of config.json: {', '.join(wrong)}; "
            "fetch the folder again"
        )


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without progress bars and reports on the terminal: errors say what is wrong."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
