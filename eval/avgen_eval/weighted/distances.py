"""Distances of vectors from networks: Frechet between sets, Kullback-Leibler between classifications.

Shapes: N and M vectors, D features, K classes.
"""

import torch
from torch import Tensor

from avgen_eval.weighted.base import NotMeasurableError

FLOOR = 1e-6


def frechet_or_reason(vectors: Tensor, references: Tensor, *, force: bool = False) -> float:
    """Frechet distance of ``(N, D)`` and ``(M, D)``.

    Raises:
        NotMeasurableError: The sets are too small, or there is no reference.
    """
    from avgen_eval.metrics.frechet import frechet_distance

    if not len(references):
        raise NotMeasurableError("there are no reference clips")
    try:
        return frechet_distance(vectors, references, force=force)
    except ValueError as error:
        raise NotMeasurableError(str(error)) from error


def kl_divergence(generated: Tensor, reference: Tensor) -> float:
    """``sum_k p(k) (log p(k) - log(q(k) + 1e-6))`` of logits ``(K,)``: p of the reference, q of the generated clip.

    The floor is the one of published code; it bounds the value near 14 and changes it little elsewhere (it can even be
    slightly negative). Softmax, although the classes of AudioSet do not exclude each other.
    """
    p = torch.log_softmax(reference.double(), dim=-1)
    q = torch.log(torch.softmax(generated.double(), dim=-1) + FLOOR)
    return float((p.exp() * (p - q)).sum())
