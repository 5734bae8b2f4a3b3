import numpy as np
import pytest
from avgen_eval.metrics.signal import SignalMetric

RATE = 48_000


def tone(db: float) -> np.ndarray:
    """A second of a stereo sine, dBFS of its peak."""
    wave = 10 ** (db / 20) * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    return np.tile(wave, (2, 1)).astype(np.float32)


def test_damaged_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        SignalMetric().update(np.array([[0.0, np.nan]]), RATE)


def test_metric_means_and_counts() -> None:
    metric = SignalMetric()
    metric.update(tone(-23), RATE)
    metric.update(np.zeros((1, RATE), np.float32), RATE)
    values = metric.compute()
    assert values["loudness_lufs"] == pytest.approx(-23, abs=0.1)
    assert values["silence_share"] == 0.5
    assert values["loudness_range_lu"].isnan()
    counts = dict(zip(metric.fields, metric.counts.tolist(), strict=True))
    assert (counts["loudness_lufs"], counts["silence_share"], counts["stereo_width"]) == (1, 2, 1)
