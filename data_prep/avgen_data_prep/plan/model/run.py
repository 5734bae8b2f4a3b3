"""What is trained: a network and the clips of a step, from a recipe of LightningCLI or the name of a preset."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from avgen import checkpoint, clock
from avgen.cli.recipes import find
from avgen.data.dataset import LatentDataset
from avgen.data.schema import INFO, STREAMS
from avgen.model.bundle import KIND, TEXT_ENCODERS
from avgen.model.config import PRESETS, ModelConfig, preset
from avgen.model.cost import Step
from avgen.model.dual_stream import DualStreamTransformer
from avgen.text.base import TextEncoder
from avgen.text.byte_encoder import ByteTextEncoder

_TRAINING = "avgen.training.joint.JointTraining"
_CHANNELS = {"video_channels": 16, "audio_channels": 32}
"""Of JointTraining where a recipe does not tell."""
_FSDP = ("fsdp", "modelparallel")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Shape of a clip, and the strides of the codecs that make its latents.

    Attributes:
        height: Pixels.
        width: Pixels.
        seconds: Length.
        fps: Pictures per second.
        strides: Pixels of a latent cell in height and width, frames of a latent step.
        audio_rate: Audio latents per second.
    """

    height: int = 64
    width: int = 64
    seconds: float = 2.0
    fps: float = 25.0
    strides: tuple[int, int, int] = (8, 8, 4)
    audio_rate: float = 25.0

    def __post_init__(self) -> None:
        """Refuse what is not above 0."""
        named = {name: getattr(self, name) for name in ("height", "width", "seconds", "fps")}
        named |= {"audio_rate": self.audio_rate, "strides": min(self.strides)}
        for name, value in named.items():
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value:g}; give a number above 0")

    def latents(self) -> dict[str, tuple[int, ...]]:
        """Shape of the latents of each stream.

        Raises:
            ValueError: The strides do not divide the picture.
        """
        rows, columns, step = self.strides
        if self.height % rows or self.width % columns:
            raise ValueError(
                f"a picture of {self.height}x{self.width} cannot be cut into cells of {rows}x{columns}; "
                "give sizes that the strides divide"
            )
        frames = clock.frames_on_grid(clock.count(self.seconds, self.fps), step)
        shape = (clock.latent_steps(frames, step), self.height // rows, self.width // columns)
        return {"video": shape, "audio": (clock.count(self.seconds, self.audio_rate),)}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a recipe says of a run, before anything is built.

    Attributes:
        name: Of the recipe or preset.
        model: Arguments of the network.
        streams: Streams that are trained.
        batch_size: Clips of a micro batch on one GPU.
        accumulate: Micro batches of a step.
        precision: Of the trainer.
        strategy: ``ddp`` or ``fsdp2``.
        checkpointing: Whether blocks are computed again in the backward pass.
        steps: Of the run; None where nothing says.
        ema: Whether a moving average of the weights is kept.
        per_token: Whether tokens have noise levels of their own.
        latents: Shape of the latents of its data by stream; None where they cannot be read.
        notes: What is doubtful.
    """

    name: str
    model: Mapping[str, Any]
    streams: tuple[str, ...] = ("video", "audio")
    batch_size: int = 16
    accumulate: int = 1
    precision: str = "bf16-mixed"
    strategy: str = "ddp"
    checkpointing: bool = False
    steps: int | None = None
    ema: bool = True
    per_token: bool = False
    latents: Mapping[str, tuple[int, ...]] | None = None
    notes: tuple[str, ...] = ()


def read(name: str) -> Recipe:
    """A recipe by path or name, or a preset by name.

    Raises:
        ValueError: There is neither, or the recipe does not train this network.
    """
    if name in PRESETS:
        return Recipe(name=name, model={"preset_name": name})
    try:
        path = find(name)
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{error}, or one of the presets {', '.join(PRESETS)}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{name}: cannot be read as YAML: {error}") from error
    model = _mapping(data, "model")
    if model.get("class_path") != _TRAINING:
        raise ValueError(
            f"{path}: trains {model.get('class_path')!r}; only recipes of {_TRAINING} can be planned"
        )
    return _of_recipe(path, {**_CHANNELS, **_mapping(model, "init_args")}, data)


def build(recipe: Recipe) -> tuple[DualStreamTransformer, TextEncoder | None]:
    """The network and the text encoder that is trained with it, with their real shapes and no numbers (meta device).

    The encoder is None where a frozen one is used.
    """
    config, text = _config(recipe.model)
    arguments = {"name": "bytes", "width": config.text_width, **text}
    kind = TEXT_ENCODERS.get(arguments.pop("name"))
    with torch.device("meta"):
        model = DualStreamTransformer(config)
        return model, kind(**arguments) if kind is ByteTextEncoder else None


def step_of(recipe: Recipe, config: ModelConfig, clip: Clip, text_tokens: int) -> Step:
    """The tokens of a micro batch.

    Raises:
        ValueError: Patches that do not divide the latents.
    """
    latents, tokens = recipe.latents or clip.latents(), {}
    for name in recipe.streams:
        stream, shape = config.streams[name], latents[name]
        if not stream.spatial:
            tokens[name] = shape[0]
            continue
        steps, rows, columns = shape
        if rows % stream.patch or columns % stream.patch:
            raise ValueError(
                f"latents of {rows}x{columns} cannot be cut into patches of {stream.patch}; "
                "give another --height and --width"
            )
        tokens[name] = steps * (rows // stream.patch) * (columns // stream.patch)
    return Step(
        clips=recipe.batch_size, tokens=tokens, text_tokens=text_tokens, per_token=recipe.per_token
    )


def _of_recipe(path: Path, model: Mapping[str, Any], data: Mapping[str, Any]) -> Recipe:
    trainer, source = _mapping(data, "trainer"), _mapping(_mapping(data, "data"), "init_args")
    callbacks = [str(item.get("class_path", "")) for item in trainer.get("callbacks") or []]
    streams = tuple(model.get("streams") or ("video", "audio"))
    pack = int(source.get("pack") or 1)
    notes = []
    start = model.get("init_from")
    if start is not None and _weights(model) is None:
        size = model.get("preset_name", "tiny")
        notes.append(f"init_from {start} is not there to be read: taken to be of preset {size}")
    latents = _latents(source, streams)
    if latents is None:
        notes.append(
            "its data are not there to be read: clips have the shape that the options tell"
        )
    shape = model.get("config") or {}
    if any(shape.get(name) is not None for name in ("window_seconds", "exchange_seconds")):
        notes.append("attention is counted as over whole clips: its windows save some of it")
    strategy = str(trainer.get("strategy")).lower()
    return Recipe(
        name=path.stem,
        model=model,
        streams=streams,
        batch_size=int(source.get("batch_size") or 16) * pack,
        accumulate=int(trainer.get("accumulate_grad_batches") or 1),
        precision=str(trainer.get("precision") or "32-true"),
        strategy="fsdp2" if any(word in strategy for word in _FSDP) else "ddp",
        checkpointing=bool(model.get("checkpoint_blocks", False)),
        steps=trainer.get("max_steps"),
        ema=any(name.endswith(".EMA") for name in callbacks),
        per_token=pack > 1 or _gives_tokens(model),
        latents=latents,
        notes=tuple(notes),
    )


def _config(model: Mapping[str, Any]) -> tuple[ModelConfig, Mapping[str, Any]]:
    """Shape of the network, and arguments of its text encoder."""
    start = _weights(model)
    if start is not None:
        stored, _ = checkpoint.load(start, kind=KIND)
        config, text = ModelConfig.from_dict(stored["model"]), stored["text"]
    else:
        names = ("video_channels", "audio_channels")
        channels = {name: int(model[name]) for name in names if name in model}
        config = preset(model.get("preset_name", "tiny"), **channels)
        text = model.get("text") or {}
    config = ModelConfig.from_dict(config.to_dict() | (model.get("config") or {}))
    if model.get("audio_codebooks"):
        codes = {
            "codebooks": model["audio_codebooks"],
            "codebook_size": model.get("audio_codebook_size", 0),
        }
        data = config.to_dict()
        data["streams"]["audio"] |= codes
        config = ModelConfig.from_dict(data)
    return config, text


def _weights(model: Mapping[str, Any]) -> Path | None:
    """The weights that training starts from, where they can be read."""
    start = model.get("init_from")
    if start is None or Path(start).is_file():
        return None if start is None else Path(start)
    try:
        return checkpoint.find_weights(start) / checkpoint.MODEL_FILE
    except checkpoint.CheckpointError:
        return None


def _gives_tokens(model: Mapping[str, Any]) -> bool:
    """Whether a task of the objective gives tokens, which then have another noise level than the rest."""
    objective = (model.get("objective") or {}).get("init_args") or {}
    tasks: Mapping[str, float] = objective.get("tasks") or {"t2av": 1.0}
    return any(weight > 0 for name, weight in tasks.items() if name != "t2av")


def _latents(
    source: Mapping[str, Any], streams: tuple[str, ...]
) -> Mapping[str, tuple[int, ...]] | None:
    """Latents of the longest clips of the first folder of a recipe's data; None where it is not there."""
    folders = source.get("folders") or []
    if not folders or not (Path(folders[0]) / INFO).is_file():
        return None
    _, shapes = LatentDataset(folders[0]).shapes()
    found = []
    for *parts, _ in shapes:
        named = {name: part for name, part in zip(STREAMS, parts, strict=True) if part}
        if source.get("first_frame_only") and "video" in named:
            channels, _, *rest = named["video"]
            named["video"] = (channels, 1, *rest)
        if "audio" not in named and "codes" in named:
            named["audio"] = named["codes"]
        if set(streams) <= set(named):
            found.append({name: named[name][1:] for name in streams})
    sizes = [sum(math.prod(shape) for shape in latents.values()) for latents in found]
    return found[sizes.index(max(sizes))] if found else None


def _mapping(data: Any, name: str) -> dict[str, Any]:
    """A mapping within a mapping, empty where there is none."""
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}
