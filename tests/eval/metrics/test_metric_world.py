from dataclasses import dataclass, field

import pytest
from avgen_data_prep.worlds import WORLDS
from avgen_eval.harness.decode import Decoded
from avgen_eval.harness.scorers import About
from avgen_eval.harness.world import World, WorldDetection
from avgen_eval.known import Truth
from avgen_eval.metrics.world import ATTRIBUTES, WorldMetric
from avgen_eval.suites import Suite, run_suite, suite_figures

from avgen.caption import Event, TimedCaption

CAPTION = TimedCaption(
    duration_us=2_000_000,
    text="two knocks",
    events=(Event.at(0.5, 0.6, "knock", "sfx"), Event.at(1.0, 1.1, "knock", "sfx")),
)


@dataclass
class Detection:
    sound_times: list[float] = field(default_factory=list)
    picture_times: list[float] = field(default_factory=list)
    objects_visible: float = 0.5
    attributes: dict[str, float] = field(default_factory=dict)


def test_values_by_hand() -> None:
    found = Detection([0.53, 1.1, 1.8], [0.5], attributes={"colour": 1.0})
    values = WorldMetric().measure(CAPTION, found)
    assert values.keys() == WorldMetric.fields.keys()
    assert values["sound_f1_60ms"] == pytest.approx(2 / 5)
    assert values["sound_f1_120ms"] == pytest.approx(4 / 5)
    assert values["sound_recall_60ms"] == 0.5
    assert values["sound_error_median_ms"] == pytest.approx(65)
    assert values["pair_offset_ms"] == pytest.approx(30)
    assert (values["objects_visible"], values["attribute_colour"]) == (0.5, 1)
    assert values["picture_f1_60ms"] is None  # nothing was asked of the picture
    assert values["attribute_pad"] is None
    alone = WorldMetric().measure(None, found)
    assert alone["sound_f1_60ms"] is None
    assert alone["objects_visible"] == 0.5


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_renders_score_as_in_the_suite_of_worlds(world: str) -> None:
    example = WORLDS[world].render(1_000_000)
    truth = Truth(world=world, content=example.truth)
    decoded = Decoded(clip=example.clip, caption=example.captions[0], truth=truth)
    (extractor,) = World().extractors
    assert extractor == WorldDetection()
    assert extractor.applies(decoded)
    extracts = {extractor.signature: extractor.run(decoded)}
    about = About(duration=example.clip.duration, fps=25.0, caption=example.captions[0])
    values = World().score(extracts, about)
    assert not isinstance(values, str)
    figures = suite_figures(run_suite(Suite(worlds=(world,), count=1), "render"))[world]
    assert values["objects_visible"] == figures["objects_visible"].value
    told = {name for name in figures if name.startswith("attribute_")}
    assert told <= {f"attribute_{name}" for name in ATTRIBUTES}
    for name in told:
        assert values[name] == pytest.approx(figures[name].value)
    for stream in ("sound", "picture"):
        for part in ("precision", "recall", "f1"):
            figure, value = figures.get(f"{stream}_{part}_60"), values[f"{stream}_{part}_60ms"]
            assert value == (None if figure is None else pytest.approx(figure.value))
    assert World().events(extracts, about)["sound"].found == tuple(
        extracts[extractor.signature].arrays["sound_times"]
    )


def test_without_truth_it_says_what_it_needs() -> None:
    about = About(duration=1.0, fps=25.0, caption=CAPTION)
    assert "truth.json" in str(World().score({}, about))
    assert World().events({}, about) == {}
