"""What is asked for outside of training, check by check, and what is looked for in the answer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen.pipeline import AVPipeline, Request
from avgen_eval.clips import ClipRecord, measure_clip
from avgen_eval.events import distinct
from avgen_eval.failures import Failures, overall_score
from avgen_eval.honesty import captions
from avgen_eval.known import ExampleLike, Truth
from avgen_eval.requested import Requested, requested_moments
from avgen_eval.suites import Step, Suite, choose_caption

LENGTHS = (3.0, 4.0)
Example = tuple[int, ExampleLike]


@dataclass(frozen=True, kw_only=True)
class Looked:
    """One thing that is looked for in a clip.

    Attributes:
        label: Under which the figures stand.
        truth: What the detector of a world is told.
        requested: Moments that count as asked for.
    """

    label: str
    truth: Truth
    requested: Requested


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One clip to ask for.

    Attributes:
        name: Of the clip.
        seed: Of the generation.
        caption: What is asked for.
        looked: What is looked for in the answer.
        render: The clip as it should be; None where no world can render it.
    """

    name: str
    seed: int
    caption: TimedCaption
    looked: tuple[Looked, ...]
    render: Clip | None = None


def durations(suite: Suite) -> Iterator[Ask]:
    """Clips of 3 and 4 s; training had up to 2."""
    for seconds in LENGTHS:
        longer = replace(suite, duration=seconds)
        for world in suite.worlds:
            yield from _plain(longer, world, f"{world} {seconds:g} s")


def edges(suite: Suite) -> Iterator[Ask]:
    """Events in the first 60 ms and in the last 100; training had none within 100 ms of either end."""
    return _plain(suite, "edge-drums", "edge-drums")


def close(suite: Suite) -> Iterator[Ask]:
    """Pairs of events 60 to 90 ms apart; training had at least 120 ms between any two."""
    return _plain(suite, "close-drums", "close-drums")


def recoloured(suite: Suite) -> Iterator[Ask]:
    """Instruments in the colour of another one; in training each had its own."""
    return _plain(suite, "recoloured-drums", "recoloured-drums")


def crowded(suite: Suite) -> Iterator[Ask]:
    """Four bodies in four colours, from two scenes of two; training had at most three."""
    pairs = [each for each in _examples(suite, "bounce", 8 * suite.count) if _bodies(each) == 2]
    fitting = [(a, b) for a, b in pairwise(pairs) if not _colours(a) & _colours(b)]
    for (seed, first), (_, second) in fitting[: suite.count]:
        asked = captions.merged(_caption(seed, first), _caption(seed, second))
        truth = captions.merged_truth(first.truth, second.truth)
        yield _ask("bounce, four bodies", seed, asked, "bounce", truth)


def two_worlds(suite: Suite) -> Iterator[Ask]:
    """The text and the events of a bounce and of a drums clip in one caption."""
    both = zip(_examples(suite, "bounce"), _examples(suite, "drums"), strict=True)
    for (seed, first), (_, second) in both:
        asked = captions.merged(_caption(seed, first), _caption(seed, second))
        heard = requested_moments(asked).sound
        looked = tuple(
            Looked(
                label=f"{world} of two worlds",
                truth=Truth(world=world, content=example.truth),
                requested=Requested(
                    sound=heard, picture=requested_moments(_caption(seed, example)).picture
                ),
            )
            for world, example in (("bounce", first), ("drums", second))
        )
        yield Ask(name=f"two worlds {seed}", seed=seed, caption=asked, looked=looked)


def paraphrases(suite: Suite) -> Iterator[Ask]:
    """The sentences of `captions.wordings`, which no world's template has."""
    for world in suite.worlds:
        for seed, example in _examples(suite, world):
            asked = captions.reworded(world, _caption(seed, example), example.truth, seed)
            yield _ask(f"{world} reworded", seed, asked, world, example.truth, example.clip)


def synonyms(suite: Suite) -> Iterator[Ask]:
    """The worlds' sentences in words that no world uses."""
    for world in suite.worlds:
        for seed, example in _examples(suite, world):
            asked = captions.with_synonyms(_caption(seed, example))
            yield _ask(f"{world} synonyms", seed, asked, world, example.truth, example.clip)


def contradictions(suite: Suite) -> Iterator[Ask]:
    """Events that name other colours than the text: whose colours are seen."""
    for world in suite.worlds:
        for seed, example in _examples(suite, world):
            asked, other = captions.contradicted(_caption(seed, example), example.truth, seed)
            ask = _ask(f"{world} as the text says", seed, asked, world, example.truth, example.clip)
            second = _ask(f"{world} as the events say", seed, asked, world, other)
            yield replace(ask, looked=(*ask.looked, *second.looked))


CHECKS: dict[str, Callable[[Suite], Iterator[Ask]]] = {
    "durations": durations,
    "edges": edges,
    "close": close,
    "recoloured": recoloured,
    "crowded": crowded,
    "two_worlds": two_worlds,
    "paraphrases": paraphrases,
    "synonyms": synonyms,
    "contradictions": contradictions,
}


def run_check(
    name: str,
    suite: Suite,
    pipeline: AVPipeline | None,
    *,
    steps: int = 16,
    failures: Failures | None = None,
    step: Step | None = None,
) -> dict[str, list[ClipRecord]]:
    """Records of a check by label.

    Args:
        name: One of `CHECKS`.
        suite: How many clips, of which worlds where the check leaves that open.
        pipeline: None for the control: the clips as they should be, where a world can render them.
        steps: Sampling steps.
        failures: Where the worst clips are kept.
        step: Called with the number of clips done since the last call.
    """
    asks = [ask for ask in CHECKS[name](suite) if pipeline or ask.render is not None]
    records: dict[str, list[ClipRecord]] = {}
    for start in range(0, len(asks), suite.batch_size):
        batch = asks[start : start + suite.batch_size]
        for ask, clip in zip(batch, _answers(batch, pipeline, steps), strict=True):
            for number, looked in enumerate(ask.looked):
                record = _measured(ask, looked, clip)
                records.setdefault(looked.label, []).append(record)
                if failures is not None and number == 0:
                    failures.offer(name, overall_score(record), record, clip, ask.caption)
        if step is not None:
            step(len(batch))
    return records


def _answers(batch: Sequence[Ask], pipeline: AVPipeline | None, steps: int) -> list[Clip]:
    if pipeline is None:
        return [ask.render for ask in batch if ask.render is not None]
    requests = [Request.from_caption(ask.caption, seed=ask.seed) for ask in batch]
    return pipeline.generate(requests, steps=steps, batch_size=len(batch))


def _measured(ask: Ask, looked: Looked, clip: Clip) -> ClipRecord:
    return measure_clip(
        clip,
        ask.caption,
        looked.truth.detect,
        name=ask.name,
        detector_name=looked.truth.world,
        requested=looked.requested,
        notes=(looked.label,),
    )


def _examples(suite: Suite, world: str, count: int | None = None) -> Iterator[Example]:
    return replace(suite, count=count or suite.count).examples(world)


def _caption(seed: int, example: ExampleLike) -> TimedCaption:
    return choose_caption(example.captions, seed)


def _plain(suite: Suite, world: str, label: str) -> Iterator[Ask]:
    """What a world renders, asked for in its own words."""
    for seed, example in _examples(suite, world):
        yield _ask(label, seed, _caption(seed, example), world, example.truth, example.clip)


def _ask(
    label: str,
    seed: int,
    caption: TimedCaption,
    world: str,
    truth: dict[str, Any],
    render: Clip | None = None,
) -> Ask:
    """A request in which one thing is looked for, at the moments of its truth."""
    times = tuple(distinct(event["time"] for event in truth["events"]))
    looked = Looked(
        label=label,
        truth=Truth(world=world, content=truth),
        requested=Requested(sound=times, picture=times),
    )
    return Ask(name=f"{label} {seed}", seed=seed, caption=caption, looked=(looked,), render=render)


def _bodies(example: Example) -> int:
    return len(example[1].truth["objects"])


def _colours(example: Example) -> set[str]:
    return {item["colour"] for item in example[1].truth["objects"]}
