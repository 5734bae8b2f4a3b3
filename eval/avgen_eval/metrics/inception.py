"""Score of class probabilities: sure about each clip, varied over all (Salimans et al. 2016).

Shapes: N clips, K classes.
"""

from typing import Any

import numpy as np
from scipy.special import log_softmax, xlogy

from avgen_eval.metrics.features import feature_matrix


def inception_score(
    logits: Any, splits: int = 10, generator: np.random.Generator | None = None
) -> tuple[float, float]:
    """Mean and standard deviation over splits of ``exp(mean_n KL(p(y|n) || p(y)))``, from 1 to K.

    ``p(y)`` is the mean of the probabilities of a split. Clips are shuffled first, as a split of one
    class only would score 1.

    Fails on: clips that are surely of some class without being real, and variety within a class. It
    has no reference, and depends on the classifier and on N / splits.

    Args:
        logits: ``(N, K)`` before the softmax.
        splits: Parts of equal size, up to one clip.
        generator: Shuffles; seeded with 0 if None.

    Raises:
        ValueError: Fewer clips than splits, or logits that are not a finite matrix.
    """
    matrix = feature_matrix(logits, "logits")
    if not 1 <= splits <= len(matrix):
        raise ValueError(
            f"{len(matrix)} clips do not make {splits} splits; give at least one clip per split"
        )
    generator = generator or np.random.default_rng(0)
    shuffled = matrix[generator.permutation(len(matrix))]
    scores = [_score(log_softmax(part, axis=1)) for part in np.array_split(shuffled, splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(log_probabilities: np.ndarray) -> float:
    probabilities = np.exp(log_probabilities)
    own = (probabilities * log_probabilities).sum(axis=1).mean()
    marginal = probabilities.mean(axis=0)
    return float(np.exp(own - xlogy(marginal, marginal).sum()))
