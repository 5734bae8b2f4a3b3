"""Frechet distance between the features of generated and of reference clips: what FVD and FAD share."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from avgen_eval.weighted.base import NotMeasurableError, WeightedSetMetric
from avgen_eval.weighted.exported import ExportedModel


class FrechetMetric(WeightedSetMetric[ExportedModel]):
    """Distance of two sets of vectors, under the one name in ``fields``.

    Args:
        model: Exported network.
        force: Compute with fewer vectors than twice the features, which biases the distance upwards.
        **kwargs: Of `torchmetrics.Metric`.
    """

    def __init__(self, model: ExportedModel, *, force: bool = False, **kwargs: Any) -> None:
        super().__init__(model, **kwargs)
        self.force = force

    def compare(self, vectors: Tensor, references: Tensor) -> Mapping[str, float]:
        """The distance of ``(N, D)`` and ``(M, D)``."""
        from avgen_eval.metrics.frechet import frechet_distance

        if not len(references):
            raise NotMeasurableError("there are no reference clips")
        try:
            distance = frechet_distance(vectors, references, force=self.force)
        except ValueError as error:
            raise NotMeasurableError(str(error)) from error
        return dict.fromkeys(self.fields, distance)
