"""What a variant makes of held-out captions: counts and values of each clip, in five ways of asking.

``timed``: as the caption says. ``again``: the same with another seed of the noise. ``untimed``: without the times of
events. ``v2a``, ``a2v``: with the true picture or sound, and without times, so that only the given stream tells them.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from avgen.clip import Clip
from avgen.pipeline import AVPipeline, Request
from avgen.sampling.guidance import Guidance
from avgen_eval.ablations.study import Variant
from avgen_eval.codec import log_mel_distance
from avgen_eval.events import score_events
from avgen_eval.known import HELD_OUT_SEED, ExampleLike, get_world
from avgen_eval.requested import requested_moments
from avgen_eval.suites import choose_caption

WINDOW_MS = 60
BATCH = 16
OTHER_SEED = 7_000_000
Case = tuple[int, ExampleLike]
WAYS: dict[str, Callable[[ExampleLike], dict[str, Any]]] = {
    "timed": lambda example: {},
    "again": lambda example: {},
    "untimed": lambda example: {},
    "v2a": lambda example: {"video": example.clip},
    "a2v": lambda example: {"audio": example.clip},
}


def measure(pipeline: AVPipeline, variant: Variant, seed: int) -> dict[str, Any]:
    """Counts ``[matched, asked, found]`` and values per clip, for each way of asking, and seconds per clip.

    Args:
        pipeline: With the variant's weights.
        variant: What to ask for, and how to sample.
        seed: Added to the seeds of the noise of weights that are not trained by the variant.
    """
    world = get_world(variant.world)
    cases = [
        (HELD_OUT_SEED + i, world.render(HELD_OUT_SEED + i, duration=variant.seconds))
        for i in range(variant.clips)
    ]
    sampling = dict(variant.sampling)
    sampling["guidance"] = Guidance(**sampling.get("guidance", {}))
    made: dict[str, list[Clip]] = {}
    started = time.perf_counter()
    for way in variant.ways:
        requests = [_request(case, way, seed) for case in cases]
        made[way] = pipeline.generate(requests, batch_size=BATCH, **sampling)
    seconds = (time.perf_counter() - started) / (len(variant.ways) * len(cases))
    ways = {way: _counts(variant.world, cases, clips) for way, clips in made.items()}
    pairs = zip(made["timed"], made["again"], strict=True)
    ways["timed"]["spread_db"] = [_distance(first, second) for first, second in pairs]
    return {"ways": ways, "seconds_per_clip": seconds}


def _request(case: Case, way: str, seed: int) -> Request:
    number, example = case
    caption = choose_caption(example.captions, number)
    caption = caption if way in ("timed", "again") else caption.untimed()
    noise = number + 1_000 * seed + (OTHER_SEED if way == "again" else 0)
    size = {"height": example.clip.frames.shape[1], "width": example.clip.frames.shape[2]}  # type: ignore[union-attr]
    return Request.from_caption(caption, seed=noise, **size, **WAYS[way](example))


def _counts(world: str, cases: Sequence[Case], clips: Sequence[Clip]) -> dict[str, list[Any]]:
    rows = [
        _count(world, number, example, clip)
        for (number, example), clip in zip(cases, clips, strict=True)
    ]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _count(world: str, number: int, example: ExampleLike, clip: Clip) -> dict[str, Any]:
    found = get_world(world).detect(clip, example.truth)
    asked = requested_moments(choose_caption(example.captions, number))
    sound, picture = list(found.sound_times), list(found.picture_times)
    timbre = getattr(found, "extra", {}).get("timbre")
    return {
        "sound": _matched(asked.sound, sound),
        "picture": _matched(asked.picture, picture),
        "agree": _matched(picture, sound),
        "objects": round(float(found.objects_visible), 4),
        "pad": round(float(found.attributes["pad"]), 4) if "pad" in found.attributes else None,
        "timbre": None if timbre is None else round(float(timbre), 4),
        "mel_db": _distance(example.clip, clip),
    }


def _matched(asked: Sequence[float], found: Sequence[float]) -> list[int]:
    score = score_events(asked, found, WINDOW_MS)
    return [score.num_matched, score.num_requested, score.num_detected]


def _distance(first: Clip, second: Clip) -> float:
    """Log-mel distance of two sounds of one clip's length, decibels."""
    assert first.waveform is not None
    assert second.waveform is not None
    length = min(first.waveform.shape[-1], second.waveform.shape[-1])
    a, b = first.waveform[..., :length], second.waveform[..., :length]
    return round(log_mel_distance(a, b, first.sample_rate), 3)
