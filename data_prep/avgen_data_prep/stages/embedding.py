"""Vectors that are near for clips of like contents: cheap descriptors, or a network's.

Shapes: F frames, H W pixels, C channels, S samples, D numbers of a vector.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32, UInt8
from numpy import ndarray

from avgen_data_prep import pretrained
from avgen_data_prep.pipeline.stage import Measure, Row, StageError
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.stages.mel import bands, mono, spectra
from avgen_data_prep.stages.pictures import grey, shrunk, spread

_GRID, _SIDE = 4, 32
_BANDS = 32
_MIDDLE, _MOTION = 0.5, 64.0
_SCALE_DB, _RANGE_DB = 20.0, 60.0


@dataclass(frozen=True, kw_only=True)
class Embedding(Measure):
    """A unit vector for each clip.

    By default ``layout``: a descriptor of colours, movement and timbre, which knows no contents. Two
    views of one scene are near, two different red balls on black too; two takes of one subject in
    other light are not. It groups recordings, not subjects; for those give `model`.

    - 48 numbers: mean red, green and blue of each of 4 x 4 fields, less the middle grey;
    - 16: the mean change between neighbouring frames in each field, compressed;
    - 64: mean and standard deviation over time of 32 mel bands in decibels (60 to 7600 Hz).

    Pictures and sound have a norm of 0.5 (squared) each; a missing one is zeros.

    With `model`, the mean of the network's features of `looks` frames; sound plays no part, and a
    clip without picture fails.

    Columns:
        embedding: The vector, float32, of norm 1; zeros for a clip that is grey, still and silent.
        embedding_kind: ``layout/1``, or ``model:`` and the name of the folder. Vectors of different
            kinds cannot be compared.

    Attributes:
        model: Folder of a vision network that transformers reads (``AutoModel`` with its image
            processor), such as CLIP, SigLIP or DINO; None for descriptors.
        device: Where it runs.
        looks: Frames that it sees.
    """

    name: ClassVar[str] = "embedding"
    writes: ClassVar[pa.Schema] = pa.schema(
        [("embedding", pa.list_(pa.float32())), ("embedding_kind", pa.string())]
    )
    model: str | None = None
    device: str = "cpu"
    looks: int = 4

    def __post_init__(self) -> None:
        if self.looks < 1:
            raise ValueError(f"looks is {self.looks}; give at least 1 frame")

    @property
    def revision(self) -> str:
        """SHA-256 of the network's files."""
        return "" if self.model is None else pretrained.revision(self.model)

    def parameters(self) -> dict[str, Any]:
        """See `Stage.parameters`; the network is told by its contents."""
        return {
            "model": None if self.model is None else Path(self.model).name,
            "looks": self.looks if self.model is not None else None,
        }

    def measure(self, row: Row, work: Work) -> Row:
        """See the columns of the class."""
        clip = work.clip(row)
        if self.model is not None:
            if clip.frames is None:
                raise StageError("has no picture for the network of embedding; leave `model` out")
            vector, kind = self._seen(clip.frames), f"model:{Path(self.model).name}"
        else:
            seen = np.zeros(64) if clip.frames is None else picture_layout(clip.frames)
            wave, rate = clip.waveform, clip.sample_rate
            heard = np.zeros(64) if wave is None else timbre(mono(wave, rate))
            vector, kind = np.concatenate([_unit(seen), _unit(heard)]), "layout/1"
        rounded = _unit(vector).astype(np.float32).round(5)
        return {"embedding": rounded.tolist(), "embedding_kind": kind}

    def _seen(self, frames: UInt8[ndarray, "f h w 3"]) -> Float[ndarray, "d"]:
        import torch

        assert self.model is not None
        network, processor = pretrained.load(
            self.model, "AutoModel", "AutoImageProcessor", self.device
        )
        chosen = list(frames[spread(len(frames), self.looks)])
        pixels = processor(images=chosen, return_tensors="pt")["pixel_values"].to(self.device)
        with torch.inference_mode():
            if hasattr(network, "get_image_features"):
                found = network.get_image_features(pixel_values=pixels)
            else:
                found = network(pixel_values=pixels)
        pooled = getattr(found, "pooler_output", None)
        if pooled is None:
            pooled = getattr(found, "last_hidden_state", found)
        vectors = pooled.float().reshape(len(chosen), -1, pooled.shape[-1]).mean(dim=1)
        units = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-9)
        return units.mean(dim=0).double().cpu().numpy()


def picture_layout(frames: UInt8[ndarray, "f h w 3"]) -> Float[ndarray, "64"]:
    """Colours of 4 x 4 fields around the middle grey, and how much each field changes."""
    small = shrunk(frames, _SIDE, _SIDE)
    colours = _fields(small.astype(np.float64).mean(axis=0)) / 255 - _MIDDLE
    if len(small) < 2:
        return np.concatenate([colours.ravel(), np.zeros(_GRID**2)])
    change = np.abs(np.diff(grey(small).astype(np.float64), axis=0)).mean(axis=0)
    moved = np.log1p(_MOTION * _fields(change) / 255) / 2
    return np.concatenate([colours.ravel(), moved.ravel()])


def _fields(picture: Float[ndarray, "h w ..."]) -> Float[ndarray, "4 4 ..."]:
    cell = _SIDE // _GRID
    return picture.reshape(_GRID, cell, _GRID, cell, *picture.shape[2:]).mean(axis=(1, 3))


def timbre(wave: Float32[ndarray, "s"]) -> Float[ndarray, "64"]:
    """Mean and spread of the level of 32 mel bands; zeros in silence.

    Levels are relative to the loudest band and frame, at least -60 dB, and their means to those of
    all bands, so that loudness plays no part; 20 dB are 1.
    """
    power = spectra(wave) @ bands(_BANDS)
    if power.max() < 1e-8:
        return np.zeros(2 * _BANDS)
    decibels = 10 * np.log10(power / power.max() + 10 ** (-_RANGE_DB / 10))
    return np.concatenate(
        [(decibels.mean(axis=0) - decibels.mean()) / _SCALE_DB, decibels.std(axis=0) / _SCALE_DB]
    )


def _unit(vector: Float[ndarray, "d"]) -> Float[ndarray, "d"]:
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm > 1e-9 else np.zeros_like(vector)
