"""What the sound of a clip is like: loudness, peaks, noise, bandwidth, silence, stereo image.

Shapes: C channels, S samples.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32
from numpy import ndarray

from avgen.clock import count
from avgen.measure.loudness import CHANNEL_WEIGHTS, integrated_loudness
from avgen.measure.signal import (
    bandwidth,
    clipping_share,
    silence_share,
    stereo_correlation,
    true_peak,
)
from avgen_data_prep.pipeline.stage import Measure, Row
from avgen_data_prep.pipeline.work import Work

_WINDOW_SECONDS = 0.05
_FLOOR_DB = -120.0


@dataclass(frozen=True, kw_only=True)
class AudioStats(Measure):
    """Properties of a clip's sound. All columns are null where it has none.

    Columns:
        loudness_lufs: Integrated loudness of ITU-R BS.1770-4, LUFS; null below 0.4 s, below -70 LUFS,
            and for numbers of channels that the standard does not weigh (other than 1, 2, 3, 5, 6).
        true_peak_dbtp: Largest value of the sound oversampled four times, dBTP; null in digital
            silence.
        clipping_share: Share of samples in runs of three and more at full scale. Does not see what
            was clipped before a lossy codec or a change of level.
        noise_floor_db: Level that a tenth of the windows of 50 ms stays below, dB of full scale, at
            least -120. It is the noise only where the sound pauses for a tenth of the time; sound
            without pauses, such as music, is taken for noise.
        snr_db: By how much the level that a twentieth of the windows exceeds lies above that floor,
            decibels; null in digital silence. Tells little where the sound does not pause.
        bandwidth_hz: Frequency below which `bandwidth_share` of the energy lies, hertz; null in
            silence. Shows an upsampled or low-passed sound only beside others of its kind.
        silence_share: Share of windows of 50 ms below -60 dB of full scale, 0 to 1.
        stereo_correlation: Of left and right: 1 for mono in two channels, 0 unrelated, -1 in
            antiphase; null unless there are two channels that both vary.

    Attributes:
        bandwidth_share: Of the energy.
    """

    name: ClassVar[str] = "audio_stats"
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            ("loudness_lufs", pa.float64()),
            ("true_peak_dbtp", pa.float64()),
            ("clipping_share", pa.float64()),
            ("noise_floor_db", pa.float64()),
            ("snr_db", pa.float64()),
            ("bandwidth_hz", pa.float64()),
            ("silence_share", pa.float64()),
            ("stereo_correlation", pa.float64()),
        ]
    )
    bandwidth_share: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth_share < 1:
            raise ValueError(
                f"bandwidth_share is {self.bandwidth_share}; give a share between 0 and 1"
            )

    def measure(self, row: Row, work: Work) -> Row:
        """See the columns of the class."""
        clip = work.clip(row)
        if clip.waveform is None:
            return {}
        wave, rate = clip.waveform, clip.sample_rate
        weighed = len(wave) in CHANNEL_WEIGHTS
        floor, ratio = noise(wave, rate)
        values = {
            "loudness_lufs": integrated_loudness(wave, rate) if weighed else None,
            "true_peak_dbtp": true_peak(wave),
            "clipping_share": clipping_share(wave),
            "noise_floor_db": floor,
            "snr_db": ratio,
            "bandwidth_hz": bandwidth(wave, rate, self.bandwidth_share),
            "silence_share": silence_share(wave, rate),
            "stereo_correlation": stereo_correlation(wave),
        }
        return {name: value if value is None else round(value, 4) for name, value in values.items()}


def noise(waveform: Float32[ndarray, "c s"], sample_rate: int) -> tuple[float, float | None]:
    """Noise floor in dB of full scale, and by how many decibels the sound exceeds it."""
    levels = _levels(waveform, sample_rate)
    floor = max(_FLOOR_DB, float(np.percentile(levels, 10)))
    loud = float(np.percentile(levels, 95))
    return floor, loud - floor if levels.max() > _FLOOR_DB else None


def _levels(waveform: Float32[ndarray, "c s"], sample_rate: int) -> Float[ndarray, "n"]:
    """Level of each window in dB of full scale (root mean square), freed of the constant part."""
    freed = waveform.astype(np.float64) - waveform.mean(axis=1, keepdims=True, dtype=np.float64)
    size = min(freed.shape[1], count(_WINDOW_SECONDS, sample_rate))
    windows = freed[:, : freed.shape[1] // size * size].reshape(len(freed), -1, size)
    power = np.square(windows).mean(axis=(0, 2))
    return 10 * np.log10(np.maximum(power, 10 ** (_FLOOR_DB / 10)))
