"""What a mean over clips is worth: intervals that respect prompts, and paired comparison of models."""

from avgen_eval.statistics.comparison import (
    Comparison,
    benjamini_hochberg,
    compare,
    holm,
    minimum_effect,
    prompt_means,
    sign_flip_test,
)
from avgen_eval.statistics.intervals import (
    Interval,
    clustered_interval,
    mean_intervals,
    wilson_interval,
)

__all__ = [
    "Comparison",
    "Interval",
    "benjamini_hochberg",
    "clustered_interval",
    "compare",
    "holm",
    "mean_intervals",
    "minimum_effect",
    "prompt_means",
    "sign_flip_test",
    "wilson_interval",
]
