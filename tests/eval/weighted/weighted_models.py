"""Tiny random networks with the signatures of the real ones, and clips to give them."""

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avgen.clip import Clip


def clip(
    seconds: float = 5.0,
    *,
    fps: int = 25,
    size: tuple[int, int] = (24, 32),
    rate: int = 16_000,
    seed: int = 0,
    **changes: Any,
) -> Clip:
    """Noise in picture and sound."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (round(seconds * fps), *size, 3), dtype=np.uint8)
    waveform = (0.1 * rng.standard_normal((2, round(seconds * rate)))).astype(np.float32)
    made = Clip(frames=frames, fps=Fraction(fps), waveform=waveform, sample_rate=rate)
    return made.replace(**changes)


def chirp(samples: int = 32_000, rate: int = 16_000) -> np.ndarray:
    """A sweep that is struck four times, ``(S,)`` float32; no generator of random numbers in it."""
    t = np.arange(samples) / rate
    return (0.5 * np.sin(2 * np.pi * (200 * t + 900 * t**2)) * np.exp(-(t % 0.5) / 0.2)).astype(
        np.float32
    )


class Synchformer(nn.Module):
    """Class by the brightness of the picture: ``dark`` below the middle, ``bright`` above it."""

    def __init__(self, dark: int = 18, bright: int = 18, classes: int = 21) -> None:
        super().__init__()
        self.dark = nn.Buffer(torch.eye(classes)[dark])
        self.bright = nn.Buffer(torch.eye(classes)[bright])

    def forward(self, video: Tensor, audio: Tensor) -> Tensor:
        level = video.mean(dim=(1, 2, 3, 4, 5))[:, None]
        heard = 1 + audio.abs().mean(dim=(1, 2, 3, 4))[:, None]
        return heard * (torch.sigmoid(-level) * self.dark + torch.sigmoid(level) * self.bright)


class SyncNet(nn.Module):
    """Brightness of lips, 0 to 1, against loudness of the voice, which a clip may make to be on the same scale."""

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        lips = video.mean(dim=(1, 2, 3, 4)) / 255
        voice = (audio[:, 0, 0].mean(dim=-1) - 12.8) / 8
        ones = torch.ones(1024) / 32
        return lips[:, None] * ones, voice[:, None] * ones


class Embedder(nn.Module):
    """Average pooling of a picture, a pair of pictures or a spectrum, then a random projection."""

    def __init__(self, channels: int, width: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Buffer(torch.randn(16 * channels, width, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(x.flatten(1, -3), (4, 4))
        return torch.sin(3 * pooled.flatten(1)) @ self.weight


class Tagger(nn.Module):
    """Logits from levels of a waveform of any length."""

    def __init__(self, classes: int = 527) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Buffer(5 * torch.randn(3, classes, generator=generator))

    def forward(self, waveform: Tensor) -> Tensor:
        parts = [waveform.abs().mean(1), waveform.square().mean(1), waveform.diff(dim=1).std(1)]
        return torch.stack(parts, dim=1) @ self.weight


def export(
    path: Path, module: nn.Module, *shapes: tuple[int, ...], axes: dict[int, str] | None = None
) -> Path:
    """Export with free axes: the first one, or those named."""
    # The file keeps the example inputs: one number seen many times takes no room.
    inputs = tuple(torch.zeros(1).expand(2, *shape) for shape in shapes)
    named = {0: "B"} if axes is None else axes
    least = {"B": 1, "S": 16}
    free = {axis: torch.export.Dim(name, min=least[name]) for axis, name in named.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module.eval(), inputs, dynamic_shapes=tuple(free for _ in shapes)
        )
        torch.export.save(program, path)
    return path


def script(path: Path, module: nn.Module) -> Path:
    """Save as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module.eval()), str(path))
    return path


def export_all(folder: Path) -> Path:
    """One exported file for each entry of the catalogue that takes one."""
    folder.mkdir(exist_ok=True)
    export(folder / "synchformer.pt2", Synchformer(), (14, 16, 3, 224, 224), (14, 1, 128, 66))
    export(folder / "syncnet.pt2", SyncNet(), (3, 5, 224, 224), (1, 13, 20))
    export(folder / "imagebind_video.pt2", Embedder(6, 1024), (3, 2, 224, 224))
    export(folder / "imagebind_audio.pt2", Embedder(1, 1024), (1, 128, 204))
    export(folder / "i3d.pt2", Embedder(48, 400), (3, 16, 224, 224))
    export(folder / "vggish.pt2", Embedder(1, 128), (1, 96, 64))
    export(folder / "passt.pt2", Tagger(), (320_000,))
    export(folder / "panns.pt2", Tagger(), (160_000,), axes={0: "B", 1: "S"})
    return folder
