"""What a variant makes of held-out captions: counts and values of each clip, in five ways of asking.

``timed``: as the caption says. ``again``: the same with another seed of the noise. ``untimed``: without the times of
events. ``v2a``, ``a2v``: with the true picture or sound, and without times, so that only the given stream tells them.
``codec``: not generated, but the true clip through the codecs and back.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from avgen.clip import Clip
from avgen.codecs.video_vae import VideoVAE
from avgen.pipeline import AVPipeline, Request
from avgen.sampling.guidance import Guidance
from avgen_eval.ablations.study import Variant
from avgen_eval.codec import added_flicker, log_mel_distance, psnr
from avgen_eval.events import score_events, timing_error
from avgen_eval.known import HELD_OUT_SEED, ExampleLike, get_world
from avgen_eval.requested import requested_moments
from avgen_eval.roundtrip import Codecs, round_trip
from avgen_eval.suites import choose_caption

WINDOW_MS = 60
BATCH = 16
SOLVER = "euler"
"""Where a variant names none; keys of rows do not cover it."""
DECODED_BLOCKS = 21
OTHER_SEED = 7_000_000
Case = tuple[int, ExampleLike]
WAYS: dict[str, Callable[[ExampleLike], dict[str, Any]]] = {
    "timed": lambda example: {},
    "again": lambda example: {},
    "untimed": lambda example: {},
    "v2a": lambda example: {"video": example.clip},
    "a2v": lambda example: {"audio": example.clip},
}
CODEC = "codec"


def measure(pipeline: AVPipeline, variant: Variant, seed: int) -> dict[str, Any]:
    """Counts ``[matched, asked, found]`` and values per clip for each way of asking, and what a clip costs.

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
    sampling = {"solver": SOLVER, **variant.sampling}
    sampling["guidance"] = Guidance(**sampling.get("guidance", {}))
    made: dict[str, list[Clip]] = {}
    started = time.perf_counter()
    asked = [way for way in variant.ways if way != CODEC]
    for way in asked:
        requests = [_request(case, way, seed) for case in cases]
        made[way] = pipeline.generate(requests, batch_size=BATCH, **sampling)
    seconds = (time.perf_counter() - started) / (len(asked) * len(cases))
    if CODEC in variant.ways:
        codecs = Codecs(video=pipeline.video_codec, audio=pipeline.audio_codec)
        made[CODEC] = round_trip([example.clip for _, example in cases], codecs)
    ways = {way: _counts(variant.world, cases, clips) for way, clips in made.items()}
    if "again" in made:
        pairs = zip(made["timed"], made["again"], strict=True)
        ways["timed"]["spread_db"] = [_distance(first, second) for first, second in pairs]
    assert isinstance(pipeline.video_codec, VideoVAE)
    costs = block_costs(pipeline.video_codec, cases[0][1].clip)
    return {"ways": ways, "costs": {"seconds": seconds, **costs}}


@torch.inference_mode()
def block_costs(codec: VideoVAE, clip: Clip) -> dict[str, float]:
    """What a picture costs that must answer while it is made.

    Returns:
        Places in the latents of a second (``latents_per_second``), how long the frames of one latent step last
        (``block_ms``), and the median time to decode them (``decode_ms``).
    """
    assert clip.frames is not None
    assert clip.fps is not None
    fps = float(clip.fps)
    height, width = (side // codec.space_stride for side in clip.frames.shape[1:3])
    block = torch.zeros(1, codec.latent_channels, 1, height, width)
    state, times = None, []
    for _ in range(DECODED_BLOCKS):
        started = time.perf_counter()
        _, state = codec.decode_chunk(block, state)
        times.append(time.perf_counter() - started)
    return {
        "latents_per_second": height * width * fps / codec.time_stride,
        "block_ms": 1000 * codec.time_stride / fps,
        "decode_ms": 1000 * median(times),
    }


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
    true, made = example.clip.frames, clip.frames
    assert true is not None
    assert made is not None
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
        "picture_ms": _lateness(asked.picture, picture),
        "psnr_db": round(psnr(true, made), 3),
        "flicker": round(added_flicker(true, made), 4),
    }


def _matched(asked: Sequence[float], found: Sequence[float]) -> list[int]:
    score = score_events(asked, found, WINDOW_MS)
    return [score.num_matched, score.num_requested, score.num_detected]


def _lateness(asked: Sequence[float], found: Sequence[float]) -> float | None:
    """Mean distance of matched events, milliseconds."""
    error = timing_error(score_events(asked, found, WINDOW_MS).errors_ms)
    return round(error.mean_ms, 3) if error else None


def _distance(first: Clip, second: Clip) -> float:
    """Log-mel distance of two sounds of one clip's length, decibels."""
    assert first.waveform is not None
    assert second.waveform is not None
    length = min(first.waveform.shape[-1], second.waveform.shape[-1])
    a, b = first.waveform[..., :length], second.waveform[..., :length]
    return round(log_mel_distance(a, b, first.sample_rate), 3)
