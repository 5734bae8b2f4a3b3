"""Which part of a clip is given, with which text: the tasks and their controls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from avgen.clip import Clip
from avgen.pipeline import AVPipeline, Request
from avgen_eval.clips import ClipRecord, measure_clip
from avgen_eval.known import ExampleLike, get_world
from avgen_eval.requested import requested_moments
from avgen_eval.suites import Suite, choose_caption

SEAM = 1.0
SPAN = (0.68, 1.32)
"""Seconds on the grid of a codec with one frame and then four frames to a latent step at 25 fps."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is given to the pipeline.

    Attributes:
        task: As in `avgen.tasks`.
        name: Of the condition within its task.
        untimed: Whether the text leaves out when events happen.
        other: Whether what is given is of the next clip, and the text of this one.
    """

    task: str
    name: str = "own"
    untimed: bool = False
    other: bool = False


def _with_controls(task: str) -> tuple[Condition, ...]:
    return (
        Condition(task=task),
        Condition(task=task, name="untimed", untimed=True),
        Condition(task=task, name="other", other=True),
        Condition(task=task, name="untimed_other", untimed=True, other=True),
    )


CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "i2av": (Condition(task="i2av"),),
    "v2a": _with_controls("v2a"),
    "a2v": _with_controls("a2v"),
    "extend": (Condition(task="extend"), Condition(task="t2av", name="whole")),
    "infill": (Condition(task="infill"),),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One held-out clip of a world and, for controls, the one after it.

    Attributes:
        world: Name.
        seed: Of the clip, and of what is generated.
        example: The clip, its captions and the truth.
        following: The next clip of the suite, or the first for the last.
    """

    world: str
    seed: int
    example: ExampleLike
    following: ExampleLike

    def source(self, condition: Condition) -> Clip:
        """The clip of which a part is given."""
        return (self.following if condition.other else self.example).clip

    def request(self, condition: Condition) -> Request:
        """What the pipeline is asked for under a condition."""
        caption = choose_caption(self.example.captions, self.seed)
        return Request.from_caption(
            caption.untimed() if condition.untimed else caption,
            seed=self.seed,
            **given(condition.task, self.source(condition)),
        )

    def measure(self, clip: Clip, *notes: str) -> ClipRecord:
        """A clip against the true times of this case, by the world's detector."""
        caption = choose_caption(self.example.captions, self.seed)
        return measure_clip(
            clip,
            caption,
            lambda made: get_world(self.world).detect(made, self.example.truth),
            name=f"{self.world} {self.seed}",
            detector_name=self.world,
            requested=requested_moments(caption),
            notes=notes,
        )


def cases(suite: Suite, world: str) -> list[Case]:
    """The clips of a world, each with the next one."""
    examples = list(suite.examples(world))
    following = examples[1:] + examples[:1]
    return [
        Case(world=world, seed=seed, example=example, following=other)
        for (seed, example), (_, other) in zip(examples, following, strict=True)
    ]


def given(task: str, clip: Clip) -> dict[str, Any]:
    """Fields of a request that give the part of a clip which a task needs.

    Raises:
        ValueError: An unknown task.
    """
    assert clip.frames is not None
    match task:
        case "t2av":
            return {}
        case "i2av":
            return {"image": clip.frames[0]}
        case "v2a":
            return {"video": clip.replace(waveform=None)}
        case "a2v":
            return {"audio": clip.replace(frames=None)}
        case "extend":
            return {"prefix": clip.slice(0.0, SEAM)}
        case "infill":
            return {"infill": clip, "span": SPAN}
    raise ValueError(f"task {task!r} is unknown; use t2av, {', '.join(CONDITIONS)}")


def make(
    pipeline: AVPipeline | None,
    condition: Condition,
    batch: Sequence[Case],
    *,
    steps: int = 16,
) -> list[Clip]:
    """Clips under a condition; without a pipeline the clips themselves of which parts are given, as a control."""
    if pipeline is None:
        return [case.source(condition) for case in batch]
    requests = [case.request(condition) for case in batch]
    return pipeline.generate(requests, steps=steps, batch_size=len(batch))
