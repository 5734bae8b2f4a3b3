from typing import ClassVar

import pytest
from avgen_eval.metrics.base import ClipMetric, Field, Values


class Doubled(ClipMetric):
    fields: ClassVar = {"double": Field(unit="ms", better="lower"), "never": Field()}

    def measure(self, value: float | None) -> Values:
        return {"double": None if value is None else 2 * value, "never": None}


def test_mean_leaves_out_what_cannot_be_measured() -> None:
    metric = Doubled()
    for value in (1.0, None, 4.0):
        metric.update(value)
    result = metric.compute()
    assert result["double"] == pytest.approx(5.0)
    assert result["never"].isnan()
    assert metric.counts.tolist() == [2, 0]


def test_merged_states_equal_one_process() -> None:
    parts, whole = [Doubled(), Doubled()], Doubled()
    for i, value in enumerate((1.0, 2.0, 6.0)):
        parts[i % 2].update(value)
        whole.update(value)
    parts[0].merge_state(parts[1])
    assert parts[0].compute()["double"] == whole.compute()["double"]


def test_missing_name_is_an_error() -> None:
    class Wrong(Doubled):
        def measure(self, value: float | None) -> Values:
            return {"double": value}

    with pytest.raises(KeyError, match="never"):
        Wrong().update(1.0)
