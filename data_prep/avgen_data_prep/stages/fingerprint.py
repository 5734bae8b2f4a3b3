"""Fingerprints of pictures and sound that coding, scaling and small changes of level leave alone.

Shapes: F frames, H W pixels, C channels, S samples.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Float32, UInt8
from numpy import ndarray
from scipy.fft import dctn

from avgen_data_prep.pipeline.stage import Measure, Row
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.stages.mel import bands, mono, spectra
from avgen_data_prep.stages.pictures import grey, shrunk, spread

_PICTURES, _SIDE, _BITS = 4, 32, 64
_FLAT_LEVELS = 2.0
_SPANS, _BANDS = 16, 16
_LOW, _HIGH = 150.0, 4000.0
_DEAD_ZONE = 8.0
_DEPTH, _DEAD_SLOPE = 1e-4, 0.2
_SILENT = 1e-8


@dataclass(frozen=True, kw_only=True)
class Fingerprint(Measure):
    """Perceptual hashes of a clip; how many bits differ tells how different two clips are.

    Columns:
        video_hash: 64 hex digits: 64 bits for each of 4 frames at the middles of the quarters of the
            clip, whether each of the lowest 64 frequencies of the grey picture (DCT of 32 x 32
            pixels, without the mean) is above their median (pHash, Zauner 2010); zeros for flat
            frames. Null where there is no picture. Is not the same for mirrored, cropped or
            bordered pictures.
        audio_hash: 64 hex digits: 16 bits for each sixteenth of the clip, whether the difference of
            energy between neighbouring bands (17 from 150 to 4000 Hz) grows from one stretch to the
            next (Haitsma and Kalker, ISMIR 2002, with stretches of the clip in place of frames);
            zeros in silence. Null where there is no sound. Is not the same for sped-up sound, nor
            for a clip that begins more than about a tenth of a stretch elsewhere.
    """

    name: ClassVar[str] = "fingerprint"
    writes: ClassVar[pa.Schema] = pa.schema(
        [("video_hash", pa.string()), ("audio_hash", pa.string())]
    )

    def measure(self, row: Row, work: Work) -> Row:
        """See the columns of the class."""
        clip = work.clip(row)
        picture = None if clip.frames is None else picture_bits(clip.frames)
        sound = None if clip.waveform is None else sound_bits(clip.waveform, clip.sample_rate)
        return {"video_hash": _hex(picture), "audio_hash": _hex(sound)}


def picture_bits(frames: UInt8[ndarray, "f h w 3"]) -> Bool[ndarray, "256"]:
    """Bits of four frames; of fewer frames, some count twice."""
    chosen = spread(len(frames), _PICTURES)
    chosen = [chosen[i * len(chosen) // _PICTURES] for i in range(_PICTURES)]
    small = grey(shrunk(frames[chosen], _SIDE, _SIDE)).astype(np.float64)
    return np.concatenate([_frequencies_above_median(level) for level in small])


def _frequencies_above_median(level: Float[ndarray, "h w"]) -> Bool[ndarray, "64"]:
    if level.std() < _FLAT_LEVELS:
        return np.zeros(_BITS, bool)
    rows, columns = np.indices(level.shape)
    order = np.lexsort((rows.ravel(), (rows + columns).ravel()))[1 : _BITS + 1]
    lowest = np.asarray(dctn(level, norm="ortho")).ravel()[order]
    return lowest > np.median(lowest) + _DEAD_ZONE


def sound_bits(waveform: Float32[ndarray, "c s"], sample_rate: int) -> Bool[ndarray, "256"]:
    """Bits of the changes of energy over time and frequency."""
    power = spectra(mono(waveform, sample_rate)) @ bands(_BANDS + 1, _LOW, _HIGH)
    edges = np.linspace(0, len(power), _SPANS + 2)
    sums = np.concatenate([np.zeros((1, power.shape[1])), np.cumsum(power, axis=0)])
    at = np.stack([np.interp(edges, np.arange(len(sums)), column) for column in sums.T], axis=1)
    energy = np.diff(at, axis=0) / np.diff(edges)[:, None]
    if energy.max() < _SILENT:
        return np.zeros(_SPANS * _BANDS, bool)
    # Below the depth lies what coding puts there; it must not decide.
    slopes = np.diff(np.log(energy + _DEPTH * energy.max()), axis=1)
    return (np.diff(slopes, axis=0) > _DEAD_SLOPE).ravel()


def _hex(bits: Bool[ndarray, "256"] | None) -> str | None:
    return None if bits is None else np.packbits(bits).tobytes().hex()
