"""Shape of the network. It travels inside the checkpoint; everything else is a constructor argument elsewhere."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """One stream.

    Attributes:
        channels: Latent channels of the codec.
        width: Width of the residual track.
        num_heads: Attention heads.
        patch: Latent cells per token in height and width (1 for sound).
        spatial: Whether tokens have a place in a picture besides a time.
        codebooks: 0 for continuous latents; else the stream reads and predicts this many codebook indices.
        codebook_size: Entries of a codebook (only with ``codebooks``).
    """

    channels: int
    width: int
    num_heads: int
    patch: int = 1
    spatial: bool = False
    codebooks: int = 0
    codebook_size: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The dual-stream transformer.

    Attributes:
        streams: Streams by name.
        depth: Blocks.
        head_dim: Width of an attention head, the same in all streams (they attend to each other).
        text_width: Width of the text tokens.
        time_frequency: Highest rotary frequency over time, radians per second.
        space_frequency: Highest rotary frequency over place, radians per half of the longer picture side.
        expansion: Width of the feed-forward over the width of the stream.
        window_seconds: How far from its own time a token of a sound reads its own stream; None for the whole clip. A
            picture reads itself whole.
        exchange_seconds: How far from its own time a token of any stream reads its partners; None for the whole clip.
        aligned: What is read from outside a stream, ``text`` or ``partners``, by attention that begins with what has
            the same time and tells how far off in time it lies; see `avgen.model.blocks.Attention`.
        base_tokens: Tokens of a clip (all streams) at which the schedule of noise levels is shifted by ``base_shift``.
        base_shift: See `avgen.flow.shift_for_tokens`; training and sampling read it here.
        timed: Streams that read events at their times; the others know what happens, but not when. None: all.
        reads: Streams that a stream reads besides its own, where not all others.

    Raises:
        ValueError: Shapes that cannot be built, or a stream that is not there.
    """

    streams: Mapping[str, StreamConfig]
    depth: int
    head_dim: int = 64
    text_width: int = 192
    time_frequency: float = 30.0
    space_frequency: float = 6.3
    expansion: int = 4
    window_seconds: float | None = None
    exchange_seconds: float | None = None
    aligned: tuple[str, ...] = ()
    base_tokens: int = 257
    base_shift: float = 2.0
    timed: tuple[str, ...] | None = None
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.head_dim % 8:
            raise ValueError(
                f"head_dim {self.head_dim} must be a multiple of 8 (rotary pairs of three axes)"
            )
        for name in ("window_seconds", "exchange_seconds"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds < math.inf:
                raise ValueError(
                    f"{name} {seconds} must be positive and finite; leave it out for whole clips"
                )
        for name, stream in self.streams.items():
            if stream.codebooks and not stream.codebook_size:
                raise ValueError(
                    f"stream {name!r} has {stream.codebooks} codebooks but no codebook_size"
                )
        if unknown := sorted(set(self.aligned) - {"text", "partners"}):
            raise ValueError(f"aligned names {unknown[0]!r}; it can name text and partners")
        for name in (*(self.timed or ()), *self.reads, *chain(*self.reads.values())):
            if name not in self.streams:
                raise ValueError(
                    f"timed and reads name stream {name!r}; the streams are {', '.join(self.streams)}"
                )

    def partners(self, stream: str) -> tuple[str, ...]:
        """The streams that a stream reads besides its own."""
        others = (name for name in self.streams if name != stream)
        return tuple(self.reads.get(stream, others))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self) | {
            "streams": {name: asdict(stream) for name, stream in self.streams.items()}
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ModelConfig":
        """Inverse of `to_dict`; fields that came later may be missing.

        Raises:
            ValueError: An unknown field.
        """
        known = [each.name for each in fields(cls)]
        if unknown := sorted(set(data) - set(known)):
            raise ValueError(
                f"ModelConfig has no {unknown[0]!r}; its fields are {', '.join(known)}"
            )
        streams = {name: StreamConfig(**stream) for name, stream in data["streams"].items()}
        timed = None if data.get("timed") is None else tuple(data["timed"])
        reads = {name: tuple(others) for name, others in data.get("reads", {}).items()}
        aligned = tuple(data.get("aligned", ()))
        return cls(
            **{**data, "streams": streams, "timed": timed, "reads": reads, "aligned": aligned}
        )


def _preset(
    *,
    depth: int,
    head_dim: int,
    heads: tuple[int, int],
    text_width: int,
    channels: tuple[int, int],
    space: float,
) -> ModelConfig:
    video, audio = (
        StreamConfig(
            channels=channels[0],
            width=heads[0] * head_dim,
            num_heads=heads[0],
            patch=2,
            spatial=True,
        ),
        StreamConfig(channels=channels[1], width=heads[1] * head_dim, num_heads=heads[1]),
    )
    return ModelConfig(
        streams={"video": video, "audio": audio},
        depth=depth,
        head_dim=head_dim,
        text_width=text_width,
        space_frequency=space,
    )


def nano(video_channels: int = 16, audio_channels: int = 32) -> ModelConfig:
    """Under 5 M parameters: many runs beside each other on CPU cores, for ablations."""
    return _preset(
        depth=4,
        head_dim=64,
        heads=(2, 2),
        text_width=192,
        channels=(video_channels, audio_channels),
        space=6.3,
    )


def tiny(video_channels: int = 16, audio_channels: int = 32) -> ModelConfig:
    """At most 12 M parameters: trains on two CPU cores."""
    return _preset(
        depth=6,
        head_dim=64,
        heads=(3, 2),
        text_width=192,
        channels=(video_channels, audio_channels),
        space=6.3,
    )


def small(video_channels: int = 16, audio_channels: int = 128) -> ModelConfig:
    """About 150 M parameters: one GPU."""
    return _preset(
        depth=16,
        head_dim=64,
        heads=(9, 6),
        text_width=512,
        channels=(video_channels, audio_channels),
        space=50.0,
    )


def base(video_channels: int = 16, audio_channels: int = 128) -> ModelConfig:
    """About 2 B parameters: one node."""
    return _preset(
        depth=28,
        head_dim=128,
        heads=(13, 7),
        text_width=2048,
        channels=(video_channels, audio_channels),
        space=100.0,
    )


def large(video_channels: int = 16, audio_channels: int = 128) -> ModelConfig:
    """About 14 B parameters in the picture and 5 B in the sound: a cluster."""
    return _preset(
        depth=44,
        head_dim=128,
        heads=(33, 17),
        text_width=4096,
        channels=(video_channels, audio_channels),
        space=200.0,
    )


PRESETS: dict[str, Callable[..., ModelConfig]] = {
    "nano": nano,
    "tiny": tiny,
    "small": small,
    "base": base,
    "large": large,
}


def preset(name: str, **channels: int) -> ModelConfig:
    """A preset by name.

    Raises:
        ValueError: An unknown name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is unknown; use one of {', '.join(PRESETS)}")
    return PRESETS[name](**channels)
