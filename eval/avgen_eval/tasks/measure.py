"""Figures of every task, under its conditions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from avgen.clip import Clip
from avgen.pipeline import AVPipeline
from avgen_eval.clips import ClipRecord
from avgen_eval.codec import psnr
from avgen_eval.events import score_events, score_within
from avgen_eval.failures import Failures, overall_score, picture_score, sound_score
from avgen_eval.requested import requested_moments
from avgen_eval.roundtrip import Codecs, round_trip
from avgen_eval.suites import Step, Suite, choose_caption
from avgen_eval.summary import Figure, bootstrap, mean, median, ratio, summarise
from avgen_eval.tasks.conditions import CONDITIONS, SEAM, SPAN, Case, Condition, cases, make
from avgen_eval.tasks.continuity import STREAMS, boundary, measure_jumps, rank, ratio_to_median
from avgen_eval.tasks.seam import classifier_accuracy, seam_features

Figures = dict[str, Figure]
SCORES = {"v2a": sound_score, "a2v": picture_score}
PLACES = {"extend": {"seam": SEAM}, "infill": {"start": SPAN[0], "end": SPAN[1]}}
INSIDE = {"extend": (SEAM, np.inf), "infill": SPAN}


@dataclass(kw_only=True)
class Made:
    """Clips of one condition and what was measured on them, world after world."""

    cases: list[Case] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)
    records: list[ClipRecord] = field(default_factory=list)

    def of(self, world: str | None) -> "Made":
        """Those of one world; all for None."""
        kept = [i for i, case in enumerate(self.cases) if world in (None, case.world)]
        return Made(
            cases=[self.cases[i] for i in kept],
            clips=[self.clips[i] for i in kept],
            records=[self.records[i] for i in kept],
        )


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What makes and measures clips.

    Attributes:
        suite: Which clips.
        pipeline: None for the control: the clips themselves in place of generated ones.
        codecs: For continuity against what the codecs leave of true clips.
        steps: Sampling steps.
        failures: Where the worst clips are kept.
        step: Called with the number of clips done since the last call.
    """

    suite: Suite
    pipeline: AVPipeline | None
    codecs: Codecs
    steps: int = 16
    failures: Failures = field(default_factory=lambda: Failures(0))
    step: Step | None = None

    def run(self, condition: Condition) -> Made:
        """Make and measure the clips of a condition."""
        made = Made()
        for world in self.suite.worlds:
            every = cases(self.suite, world)
            for start in range(0, len(every), self.suite.batch_size):
                batch = every[start : start + self.suite.batch_size]
                clips = make(self.pipeline, condition, batch, steps=self.steps)
                for case, clip in zip(batch, clips, strict=True):
                    self._add(made, condition, case, clip)
                if self.step is not None:
                    self.step(len(batch))
        return made

    def _add(self, made: Made, condition: Condition, case: Case, clip: Clip) -> None:
        label = f"{condition.task}, {condition.name}"
        record = case.measure(clip)
        made.cases.append(case)
        made.clips.append(clip)
        made.records.append(record)
        if not condition.other:
            score = SCORES.get(condition.task, overall_score)(record)
            self.failures.offer(
                label, score, record, clip, case.request(condition).caption(clip.duration)
            )


def run_task(bench: Bench, task: str) -> dict[str, dict[str, Figures]]:
    """Figures of a task: condition, world (``all`` where there are several), name."""
    made = {condition.name: bench.run(condition) for condition in CONDITIONS[task]}
    worlds: list[str | None] = [*bench.suite.worlds]
    if len(worlds) > 1:
        worlds.append(None)
    extra: dict[str, Callable[[dict[str, Made]], dict[str, Figures]]] = {
        "i2av": _first_frames,
        "v2a": lambda parts: _given_moments(parts, "sound"),
        "a2v": lambda parts: _given_moments(parts, "picture"),
        "extend": lambda parts: _around(parts, "extend", bench.codecs),
        "infill": lambda parts: _around(parts, "infill", bench.codecs),
    }
    figures: dict[str, dict[str, Figures]] = {name: {} for name in made}
    for world in worlds:
        parts = {name: part.of(world) for name, part in made.items()}
        more = extra[task](parts)
        for name, part in parts.items():
            figures[name][world or "all"] = summarise(part.records) | more.get(name, {})
    return figures


def _first_frames(parts: dict[str, Made]) -> dict[str, Figures]:
    """PSNR of the first frame to the given one, and of the second frame made to the true second one.

    ``still_frame_psnr_db`` is that of the given frame to the true second one: what a picture that stands still has.
    """
    made = parts["own"]
    rows: dict[str, list[list[float]]] = {}
    for case, clip in zip(made.cases, made.clips, strict=True):
        true, frames = case.example.clip.frames, clip.frames
        assert true is not None
        assert frames is not None
        pairs = {"first": (true[0], frames[0]), "second": (true[1], frames[1]), "still": true[:2]}
        for name, (first, second) in pairs.items():
            rows.setdefault(f"{name}_frame_psnr_db", []).append([psnr(first, second)])
    return {"own": _figures(rows, mean, "dB")}


def _given_moments(parts: dict[str, Made], stream: str) -> dict[str, Figures]:
    """Under the conditions with another clip's media: F1 at 60 ms against the events of those media."""
    found: dict[str, Figures] = {}
    for name in ("other", "untimed_other"):
        rows = []
        for case, record in zip(parts[name].cases, parts[name].records, strict=True):
            times = requested_moments(choose_caption(case.following.captions, case.seed))
            score = score_events(getattr(times, stream), getattr(record, f"{stream}_times"), 60)
            rows.append([2 * score.num_matched, score.num_requested + score.num_detected])
        found[name] = _figures({f"{stream}_f1_60_given": rows}, ratio)
    return found


def _around(parts: dict[str, Made], task: str, codecs: Codecs) -> dict[str, Figures]:
    """Events of what was made, and continuity where it meets what was given, with controls."""
    made = parts["own"]
    truths = round_trip([case.example.clip for case in made.cases], codecs)
    versions = {"delivered": made.clips, "codec": truths}
    if task == "extend":
        versions["decoded"] = [_decoded(c, t) for c, t in zip(made.clips, truths, strict=True)]
        versions["whole"] = parts["whole"].clips
    figures = _inside(made, task)
    for version, clips in versions.items():
        for place, seconds in PLACES[task].items():
            figures |= _continuity(clips, seconds, f"{place}_{version}")
    if task == "extend":
        figures |= _seam_accuracy(made, versions)
    return {"own": figures}


def _inside(made: Made, task: str) -> Figures:
    rows: dict[str, list[list[float]]] = {}
    for record in made.records:
        for stream in ("sound", "picture"):
            asked = getattr(record.requested, stream)
            score = score_within(asked, getattr(record, f"{stream}_times"), 60, INSIDE[task])
            counts = [2 * score.num_matched, score.num_requested + score.num_detected]
            rows.setdefault(f"{stream}_f1_60_made", []).append([float(c) for c in counts])
    return _figures(rows, ratio)


def _continuity(clips: Sequence[Clip], seconds: float, label: str) -> Figures:
    """Rank of the jump at a place among those of its clip, and the jump over their median."""
    ranks: dict[str, list[list[float]]] = {}
    ratios: dict[str, list[list[float]]] = {}
    for clip in clips:
        jumps, index = measure_jumps(clip), boundary(clip, seconds)
        for stream in STREAMS:
            values = getattr(jumps, stream)
            ranks.setdefault(f"{stream}_rank_{label}", []).append([rank(values, index)])
            ratios.setdefault(f"{stream}_ratio_{label}", []).append(
                [ratio_to_median(values, index)]
            )
    return _figures(ranks, mean) | _figures(ratios, median)


def _seam_accuracy(made: Made, versions: dict[str, list[Clip]]) -> Figures:
    """How well a classifier tells continued clips at their seam from each kind of clip without one."""
    groups = [(case.world, case.seed) for case in made.cases]
    if len(set(groups)) < 2:
        return {}
    features = {
        name: [seam_features(clip, SEAM) for clip in clips] for name, clips in versions.items()
    }
    return {
        f"seam_accuracy_{seam}_against_{control}": classifier_accuracy(
            features[seam], features[control], groups
        )
        for seam in ("decoded", "delivered")
        for control in ("whole", "codec")
    }


def _decoded(made: Clip, truth: Clip) -> Clip:
    """What ``keep_given=False`` makes, without sampling again: the codecs are causal, so its prefix is the truth's."""
    assert made.frames is not None
    assert made.waveform is not None
    assert truth.frames is not None
    assert truth.waveform is not None
    frame, sample = round(SEAM * made.fps), round(SEAM * made.sample_rate)
    return made.replace(
        frames=np.concatenate([truth.frames[:frame], made.frames[frame:]]),
        waveform=np.concatenate([truth.waveform[:, :sample], made.waveform[:, sample:]], axis=1),
    )


def _figures(
    rows: dict[str, list[list[float]]],
    statistic: Callable[[np.ndarray], np.ndarray],
    unit: str = "",
) -> Figures:
    rng = np.random.default_rng(0)
    found = {name: bootstrap(values, statistic, rng, unit=unit) for name, values in rows.items()}
    return {name: figure for name, figure in found.items() if figure is not None}
