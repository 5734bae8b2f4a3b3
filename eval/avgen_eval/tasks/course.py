"""Ten times the training length: events by their place in time, and what drifts."""

from collections.abc import Sequence

import numpy as np

from avgen.clip import Clip
from avgen.measure.onsets import Curve
from avgen.pipeline import AVPipeline, Request
from avgen_eval.clips import ClipRecord
from avgen_eval.events import score_within
from avgen_eval.harness.decode import Decoded
from avgen_eval.harness.longform import STEP, SecondBySecond
from avgen_eval.metrics.drift import measure_drift
from avgen_eval.metrics.longform import CURVES, LongClipMetric
from avgen_eval.suites import choose_caption
from avgen_eval.summary import Figure, bootstrap, mean, ratio
from avgen_eval.tasks.conditions import Case

SECONDS = 19.6
WINDOW, HISTORY = 1.96, 1.0
PARTS = ((0.0, 1.96), (1.96, 5.0), (5.0, 10.0), (10.0, 15.0), (15.0, SECONDS + 1))


def roll_out(pipeline: AVPipeline, batch: Sequence[Case], *, steps: int = 16) -> list[Clip]:
    """Clips of the captions of long examples, window by window; nothing of the examples is given."""
    requests = [
        Request.from_caption(choose_caption(case.example.captions, case.seed), seed=case.seed)
        for case in batch
    ]
    return pipeline.roll_out(
        requests, window=WINDOW, history=HISTORY, steps=steps, batch_size=len(batch)
    )


def course_figures(clips: Sequence[Clip], records: Sequence[ClipRecord]) -> dict[str, Figure]:
    """Event F1 at 60 ms in each part, and slopes per second of level, light and colour.

    Parts are named by their first second. Slopes are signed (``_slope``) and in size (``_slope_abs``); ``av_drift`` is
    the change of the offset between the streams in milliseconds per second.
    """
    rng = np.random.default_rng(0)
    figures: dict[str, Figure | None] = {}
    for stream in ("sound", "picture"):
        for part in PARTS:
            rows = [row for r in records if (row := part_counts(r, stream, part)) is not None]
            figures[f"{stream}_f1_60_from_{part[0]:g}s"] = bootstrap(rows, ratio, rng)
    values = [long_values(clip, record) for clip, record in zip(clips, records, strict=True)]
    for name in values[0] if values else ():
        rows = [[value] for row in values if (value := row[name]) is not None]
        figures[name] = bootstrap(rows, mean, rng)
    return {name: figure for name, figure in figures.items() if figure is not None}


def part_counts(
    record: ClipRecord, stream: str, span: tuple[float, float]
) -> tuple[int, int] | None:
    """Twice the matches, and requests plus finds, of a stream in a span; None where there are none of either."""
    asked = getattr(record.requested, stream) if record.requested else ()
    score = score_within(asked, getattr(record, f"{stream}_times"), 60, span)
    total = score.num_requested + score.num_detected
    return (2 * score.num_matched, total) if total else None


def long_values(clip: Clip, record: ClipRecord) -> dict[str, float | None]:
    """Slopes of the curves of a clip, and how alike its seconds stay."""
    arrays = SecondBySecond().run(Decoded(clip=clip)).arrays
    curves = {name: Curve(arrays[name], STEP, STEP / 2) for name in CURVES if name in arrays}
    curves = {name: curve for name, curve in curves.items() if np.isfinite(curve.values).any()}
    values = LongClipMetric().measure(curves, arrays.get("picture"), arrays.get("sound"))
    drift = record.motion and measure_drift(
        record.sound_times,
        [1.0] * len(record.sound_times),
        record.motion.strength,
        clip.duration,
    )
    kept = {name: v for name, v in values.items() if name.split("_")[0] in (*curves, "picture")}
    return {**kept, "av_drift_ms_per_s": drift.ms_per_second if drift else None}
