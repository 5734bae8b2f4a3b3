"""Engine: a wheel whose speed drives a continuous tone; nothing starts, everything corresponds."""

from typing import Any, ClassVar

import numpy as np

from avgen.caption import Event, TimedCaption
from avgen.clip import Clip
from avgen_data_prep.worlds.base import (
    Detection,
    Stage,
    World,
    WorldExample,
    build_caption,
    build_clip,
    timed,
)
from avgen_data_prep.worlds.engine.detect import measure
from avgen_data_prep.worlds.engine.picture import paint_run
from avgen_data_prep.worlds.engine.scene import (
    HERTZ_PER_SPEED,
    TONES,
    Run,
    Span,
    draw_run,
    turns_at,
)
from avgen_data_prep.worlds.wording import article, sentence

SCENES = (
    "a {colour} wheel, spoke at {clock}, turns {way} on {background}, {pace} at first, {tone}",
    "{background} background: {tone} {colour} wheel spinning {way}, starting {pace} from {clock}",
    "a {tone} engine drives {wheel} {way} from {clock}, first {pace}, {background} behind",
    "{wheel}, its spoke at {clock}, turning {way}, {pace} at first; {tone}; {background} behind",
)
SEEN = (
    "wheel {change} {pace}",
    "the wheel {change} {pace}",
    "{change} {pace}",
    "it {change} {pace}",
)
HEARD = {
    "speeds up": ("tone rises", "the pitch climbs", "engine tone goes up", "rising {tone}"),
    "slows down": ("tone falls", "the pitch drops", "engine tone goes down", "falling {tone}"),
    "keeps steady": ("steady tone", "the pitch holds", "engine tone holds", "even {tone}"),
}
PACES = ((1.3, "very slow"), (1.9, "slow"), (2.5, "medium"), (3.1, "fast"), (9.0, "very fast"))
LEVEL = 0.35


class Engine(World):
    """One turning wheel; see `World` for the interface. There are no events with an onset."""

    name: ClassVar[str] = "engine"

    def _render(self, seed: int, stage: Stage) -> WorldExample:
        run = draw_run(np.random.default_rng([6, seed]), stage.duration)
        captions = caption_run(run, stage)
        clip = build_clip(stage, paint_run(run, stage), play_run(run, stage), captions[0])
        return WorldExample(clip=clip, captions=captions, truth=describe(run, seed))

    def detect(self, clip: Clip, truth: dict[str, Any]) -> Detection:
        """See `World.detect`."""
        return measure(clip, truth)


def play_run(run: Run, stage: Stage) -> np.ndarray:
    """Waveform ``(S,)``: harmonics of a pitch proportional to the speed."""
    times = np.arange(stage.num_samples) / stage.sample_rate
    phase = (2 * np.pi * ((HERTZ_PER_SPEED * turns_at(run, times)) % 1.0)).astype(np.float32)
    waveform = np.zeros(stage.num_samples, dtype=np.float32)
    highest = 0.45 * stage.sample_rate / (HERTZ_PER_SPEED * max(s.last for s in run.spans))
    gains = [1.0 / number for number in range(1, TONES[run.tone] + 1) if number < highest]
    sine, cosine = np.sin(phase), 2.0 * np.cos(phase)
    before = np.zeros_like(sine)
    for gain in gains:
        waveform += np.float32(gain) * sine
        before, sine = sine, cosine * sine - before
    edge = np.minimum(times, stage.duration - times) / 0.01
    return LEVEL * waveform * np.clip(edge, 0.0, 1.0).astype(np.float32) / np.float32(1.9)


def pace(speed: float) -> str:
    """A speed in words."""
    return next(word for limit, word in PACES if speed < limit)


def clock_face(angle: float) -> str:
    """An angle, clockwise from the right in radians, as a position on a clock."""
    hour = round(angle / (2 * np.pi) * 12 + 3) % 12
    return f"{hour or 12} o'clock"


def caption_run(run: Run, stage: Stage) -> tuple[TimedCaption, ...]:
    """All paraphrases of a run; each span is an action and a sound."""
    scene = {
        "colour": run.colour,
        "wheel": article(f"{run.colour} wheel"),
        "way": "clockwise" if run.turn > 0 else "anticlockwise",
        "background": run.background,
        "tone": run.tone,
        "clock": clock_face(run.angle),
        "pace": pace(run.spans[0].first),
    }
    captions = []
    for style, template in enumerate(SCENES):
        events = [
            event
            for number, span in enumerate(run.spans, start=1)
            for event in span_events(style, number, span, run, stage)
        ]
        captions.append(build_caption(stage, sentence(template.format(**scene)), events))
    return tuple(captions)


def span_events(style: int, number: int, span: Span, run: Run, stage: Stage) -> tuple[Event, Event]:
    """What is seen and heard in a span."""
    words = f"at {pace(span.last)}" if span.first == span.last else f"to {pace(span.last)}"
    seen = SEEN[style].format(change=span.change, pace=words)
    heard = HEARD[span.change][style].format(tone=run.tone)
    mark = {"entity": f"{run.colour} wheel", "provenance": "engine"}
    times = (span.start, span.end, stage.duration)
    link = {"id": f"s{number}", "cause": f"v{number}"}
    return (
        timed(*times, seen, "action", id=f"v{number}", **mark),
        timed(*times, heard, "ambience", **link, **mark),
    )


def describe(run: Run, seed: int) -> dict[str, Any]:
    """The truth of a run, JSON-able; changes of speed are ``spans``, as they have no onset."""
    spans = [
        {"start": span.start, "end": span.end, "from": span.first, "to": span.last}
        for span in run.spans
    ]
    wheel = {"colour": run.colour, "tone": run.tone, "turn": run.turn, "angle": run.angle}
    return {
        "world": Engine.name,
        "seed": seed,
        "background": run.background,
        "objects": [wheel],
        "events": [],
        "spans": spans,
    }
