"""Suites over held-out seeds of the worlds: generated clips, renders, and what codecs keep."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen_eval.clips import ClipRecord, measure_clip
from avgen_eval.events import pool, score_events
from avgen_eval.known import HELD_OUT_SEED, ExampleLike, get_world
from avgen_eval.requested import requested_moments
from avgen_eval.roundtrip import Codecs, measure_fidelity, round_trip
from avgen_eval.summary import Figure, bootstrap, mean, median, summarise

if TYPE_CHECKING:
    from avgen.pipeline import AVPipeline

Source = Literal["generated", "render", "codec"]
Step = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Which clips are asked for.

    Attributes:
        worlds: Names.
        count: Clips of each world.
        seed_start: First seed; held-out seeds start at 1,000,000.
        untimed: Whether the request leaves out when events happen (they are still scored at their
            times).
        batch_size: Clips made together; does not change the result.
        duration: Seconds.
        size: Height and width in pixels.
        fps: Frames per second.
        sample_rate: Waveform samples per second of the renders.
    """

    worlds: tuple[str, ...]
    count: int
    seed_start: int = HELD_OUT_SEED
    untimed: bool = False
    batch_size: int = 16
    duration: float = 1.96
    size: int = 64
    fps: int = 25
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        if self.count < 1 or self.batch_size < 1 or not self.worlds:
            raise ValueError(
                f"count {self.count}, batch size {self.batch_size}, worlds {self.worlds}: "
                "give at least one of each"
            )

    def examples(self, world: str) -> Iterator[tuple[int, ExampleLike]]:
        """Seeds and renders."""
        source = get_world(world)
        for seed in range(self.seed_start, self.seed_start + self.count):
            yield (
                seed,
                source.render(
                    seed,
                    duration=self.duration,
                    fps=self.fps,
                    size=self.size,
                    sample_rate=self.sample_rate,
                ),
            )

    def batches(self, world: str) -> Iterator[list[tuple[int, ExampleLike]]]:
        """Examples, ``batch_size`` at a time."""
        examples = self.examples(world)
        while batch := list(islice(examples, self.batch_size)):
            yield batch


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """What a suite measured.

    Attributes:
        records: Of each world.
        clips: The first few clips of each world, for a report, in the order of the records.
        seconds_per_clip: Time to make a clip in batches, without measuring it; None where nothing
            was made.
    """

    records: dict[str, list[ClipRecord]] = field(default_factory=dict)
    clips: dict[str, list[Clip]] = field(default_factory=dict)
    seconds_per_clip: float | None = None


def choose_caption(captions: Sequence[TimedCaption], seed: int) -> TimedCaption:
    """One of the paraphrases, in turn by seed."""
    return captions[seed % len(captions)]


def run_suite(
    suite: Suite,
    source: Source,
    *,
    pipeline: "AVPipeline | None" = None,
    codecs: Codecs | None = None,
    steps: int = 16,
    keep_clips: int = 0,
    step: Step | None = None,
) -> SuiteResult:
    """Make and measure the clips of a suite with the worlds' detectors.

    Args:
        suite: What to ask for.
        source: ``generated`` by a pipeline from captions; the ``render`` itself (what the detectors
            make of the truth); or the render through the codecs and back (the best that a generator
            in their latents can do).
        pipeline: For ``generated``.
        codecs: For ``codec``.
        steps: Sampling steps.
        keep_clips: Clips of each world to keep for a report.
        step: Called with the number of clips done since the last call.
    """
    records: dict[str, list[ClipRecord]] = {}
    clips: dict[str, list[Clip]] = {}
    spent = 0.0
    for world in suite.worlds:
        records[world], clips[world] = [], []
        for batch in suite.batches(world):
            started = time.perf_counter()
            made = _make(suite, source, batch, pipeline, codecs, steps)
            spent += time.perf_counter() - started
            for (seed, example), clip in zip(batch, made, strict=True):
                records[world].append(measure_example(world, seed, example, clip))
                if len(clips[world]) < keep_clips:
                    clips[world].append(
                        clip.replace(caption=choose_caption(example.captions, seed))
                    )
            if step is not None:
                step(len(batch))
    total = suite.count * len(suite.worlds)
    return SuiteResult(
        records=records, clips=clips, seconds_per_clip=None if source == "render" else spent / total
    )


def suite_figures(result: SuiteResult) -> dict[str, dict[str, Figure]]:
    """Figures of each world, and of all together where there are several."""
    figures = {
        world: summarise(records) | chance(records) for world, records in result.records.items()
    }
    if len(figures) > 1:
        every = [record for records in result.records.values() for record in records]
        figures["all"] = summarise(every)
    return figures


def chance(records: Sequence[ClipRecord]) -> dict[str, Figure]:
    """F1 at 60 ms of what each clip shows against the request of the next one: mere luck."""
    figures: dict[str, Figure] = {}
    asked = [record.requested for record in records]
    for stream in ("sound", "picture"):
        scores = [
            score_events(getattr(following, stream), getattr(record, f"{stream}_times"), 60)
            for record, following in zip(records, asked[1:] + asked[:1], strict=True)
            if following is not None and len(records) > 1
        ]
        total = pool(scores)
        if total is not None and total.f1 is not None and total.num_requested:
            figures[f"{stream}_f1_60_chance"] = Figure(
                value=total.f1, low=None, high=None, num_clips=len(scores)
            )
    return figures


def run_codecs(
    suite: Suite, codecs: Codecs, step: Step | None = None
) -> dict[str, dict[str, Figure]]:
    """What the codecs keep of renders, per world.

    ``psnr_db`` is the mean over clips; ``log_mel_db`` likewise; ``onset_shift_ms`` the median over
    clips of the median signed shift; ``onset_error_p90_ms`` the median over clips of the 90th
    percentile of the absolute shift; ``onset_f1`` the mean.
    """
    figures: dict[str, dict[str, Figure]] = {}
    for world in suite.worlds:
        rows: list[dict[str, float | None]] = []
        for batch in suite.batches(world):
            originals = [example.clip for _, example in batch]
            for original, decoded in zip(originals, round_trip(originals, codecs), strict=True):
                kept = measure_fidelity(original, decoded)
                sound = kept.audio
                rows.append(
                    {
                        "psnr_db": kept.psnr_db,
                        "log_mel_db": sound.log_mel_db,
                        "onset_f1": sound.onset_f1,
                        "onset_shift_ms": sound.onset_shift_ms,
                        "onset_error_p90_ms": sound.onset_error_p90_ms,
                    }
                )
            if step is not None:
                step(len(batch))
        figures[world] = _fidelity_figures(rows)
    return figures


def _fidelity_figures(rows: Sequence[dict[str, float | None]]) -> dict[str, Figure]:
    rng = np.random.default_rng(0)
    figures: dict[str, Figure] = {}
    for name in rows[0]:
        unit = name.rsplit("_", 1)[-1] if name.endswith(("_db", "_ms")) else ""
        values = [[value] for row in rows if (value := row[name]) is not None]
        figure = bootstrap(
            values, median if unit == "ms" else mean, rng, unit="dB" if unit == "db" else unit
        )
        if figure is not None:
            figures[name] = figure
    return figures


def _make(
    suite: Suite,
    source: Source,
    batch: Sequence[tuple[int, ExampleLike]],
    pipeline: "AVPipeline | None",
    codecs: Codecs | None,
    steps: int,
) -> list[Clip]:
    renders = [example.clip for _, example in batch]
    if source == "render":
        return renders
    if source == "codec":
        assert codecs is not None
        return round_trip(renders, codecs)
    assert pipeline is not None
    requests = [_request(suite, seed, example) for seed, example in batch]
    return pipeline.generate(requests, steps=steps, batch_size=suite.batch_size)


def _request(suite: Suite, seed: int, example: ExampleLike) -> Any:
    from avgen.pipeline import Request

    caption = choose_caption(example.captions, seed)
    caption = caption.untimed() if suite.untimed else caption
    return Request.from_caption(caption, seed=seed, height=suite.size, width=suite.size)


def measure_example(world: str, seed: int, example: ExampleLike, clip: Clip) -> ClipRecord:
    """A clip against what an example shows, by the world's detector."""
    caption = choose_caption(example.captions, seed)
    return measure_clip(
        clip,
        caption,
        lambda made: get_world(world).detect(made, example.truth),
        name=f"{world} {seed}",
        detector_name=world,
        requested=requested_moments(caption),
    )
