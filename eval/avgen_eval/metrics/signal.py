"""Level, dynamics and stereo image of a waveform, over a set of clips."""

from typing import ClassVar

import numpy as np

from avgen.measure.loudness import integrated_loudness, loudness_range
from avgen.measure.signal import (
    bandwidth,
    clipping_share,
    crest_factor,
    dc_offset,
    silence_share,
    stereo_correlation,
    stereo_width,
    true_peak,
)
from avgen_eval.metrics.base import ClipMetric, Field, Values


class SignalMetric(ClipMetric):
    """Level, dynamics, bandwidth and stereo image; see `avgen.measure`.

    ``update(waveform, sample_rate)`` takes ``(C, S)`` in [-1, 1].
    """

    fields: ClassVar = {
        "loudness_lufs": Field(unit="LUFS", better="target"),
        "loudness_range_lu": Field(unit="LU"),
        "true_peak_dbtp": Field(unit="dBTP", better="lower"),
        "clipping_share": Field(unit="share", better="lower"),
        "silence_share": Field(unit="share"),
        "bandwidth_hz": Field(unit="Hz"),
        "crest_db": Field(unit="dB"),
        "dc_offset": Field(unit="share of full scale", better="lower"),
        "stereo_correlation": Field(),
        "stereo_width": Field(unit="share"),
    }

    def measure(self, waveform: np.ndarray, sample_rate: int) -> Values:
        """All values of one waveform; ValueError for a bad one."""
        return {
            "loudness_lufs": integrated_loudness(waveform, sample_rate),
            "loudness_range_lu": loudness_range(waveform, sample_rate),
            "true_peak_dbtp": true_peak(waveform),
            "clipping_share": clipping_share(waveform),
            "silence_share": silence_share(waveform, sample_rate),
            "bandwidth_hz": bandwidth(waveform, sample_rate),
            "crest_db": crest_factor(waveform),
            "dc_offset": dc_offset(waveform),
            "stereo_correlation": stereo_correlation(waveform),
            "stereo_width": stereo_width(waveform),
        }
