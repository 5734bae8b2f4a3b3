"""Latents in eight bits: one scale per channel, and what the rounding costs.

Shapes: C channels, then whatever axes the stream has.
"""

import math
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avgen.data.storage import DatasetError

LatentDtype = Literal["float16", "int8", "float8"]
LATENT_DTYPES: tuple[str, ...] = get_args(LatentDtype)
_SCALE = "_scale"
_LARGEST = {"int8": 127.0, "float8": torch.finfo(torch.float8_e4m3fn).max}


def stored(latents: dict[str, np.ndarray], dtype: LatentDtype) -> dict[str, Tensor]:
    """Arrays as a latents file holds them.

    With ``int8`` and ``float8`` (e4m3) each channel is divided by its scale, its largest magnitude
    over the largest number of the type, and ``{stream}_scale`` (C,) float32 stands beside it.

    Args:
        latents: ``video`` (C, T, H, W), ``audio`` (C, L), ``codes`` (Q, L); codes become int16.
        dtype: Of latents.

    Raises:
        DatasetError: Latents that are not finite, which no scale could hold; or an unknown type.
    """
    if dtype not in LATENT_DTYPES:
        raise DatasetError(f"latent_dtype {dtype!r}: use one of {', '.join(LATENT_DTYPES)}")
    tensors: dict[str, Tensor] = {}
    for name, array in sorted(latents.items()):
        if name == "codes":
            tensors[name] = torch.from_numpy(np.ascontiguousarray(array, dtype=np.int16))
        elif dtype == "float16":
            tensors[name] = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float16))
        else:
            tensors |= _quantised(name, array, dtype)
    return tensors


def _quantised(name: str, array: np.ndarray, dtype: str) -> dict[str, Tensor]:
    values = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if not bool(torch.isfinite(values).all()):
        raise DatasetError(f"{name} latents hold infinite or undefined numbers; encode them again")
    scale = values.abs().flatten(1).amax(1) / _LARGEST[dtype]
    scale[scale == 0] = 1.0
    scaled = values / _along_channels(scale, values)
    if dtype == "int8":
        return {name: scaled.round().to(torch.int8), name + _SCALE: scale}
    return {name: scaled.to(torch.float8_e4m3fn), name + _SCALE: scale}


def restored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `stored` wrote, whatever the type: latents in float32, codes in int64."""
    streams: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(_SCALE):
            continue
        if name == "codes":
            streams[name] = tensor.long()
            continue
        values, scale = tensor.float(), tensors.get(name + _SCALE)
        streams[name] = values if scale is None else values * _along_channels(scale, values)
    return streams


def _along_channels(scale: Float[Tensor, "c"], values: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (values.ndim - 1))


class RoundingLoss:
    """Sums, over examples, of the power of latents about their channels' means and of their error.

    Args:
        sums: Per stream ``[signal, error, numbers]``, from `sums` of another one.
    """

    def __init__(self, sums: dict[str, list[float]] | None = None):
        self.sums: dict[str, list[float]] = {name: list(s) for name, s in (sums or {}).items()}

    def add(self, latents: dict[str, np.ndarray], tensors: dict[str, Tensor]) -> None:
        """Count one example: its latents, and what `stored` made of them."""
        for name, values in restored(tensors).items():
            if name == "codes":
                continue
            exact = torch.from_numpy(np.asarray(latents[name], dtype=np.float64))
            about_mean = exact - exact.flatten(1).mean(1).reshape(-1, *[1] * (exact.ndim - 1))
            parts = (about_mean.square().sum(), (values - exact).square().sum())
            self._add(name, [*(float(part) for part in parts), float(exact.numel())])

    def join(self, other: "RoundingLoss") -> None:
        """Add the sums of another part of the dataset."""
        for name, parts in other.sums.items():
            self._add(name, parts)

    def _add(self, name: str, parts: list[float]) -> None:
        known = self.sums.get(name, [0.0] * 3)
        self.sums[name] = [a + b for a, b in zip(known, parts, strict=True)]

    def report(self) -> dict[str, dict[str, float]]:
        """Per stream ``snr_db``, signal to error in decibels, and ``rmse`` in units of latents.

        Where nothing was lost there is no finite ratio, and no ``snr_db``.
        """
        told: dict[str, dict[str, float]] = {}
        for name, (signal, error, numbers) in sorted(self.sums.items()):
            told[name] = {"rmse": round(math.sqrt(error / numbers), 6) if numbers else 0.0}
            if signal > 0 and error > 0:
                told[name]["snr_db"] = round(10 * math.log10(signal / error), 3)
        return told
