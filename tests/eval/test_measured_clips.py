import json
from dataclasses import replace

import numpy as np
import pytest
from avgen_data_prep.worlds import WORLDS
from avgen_eval.clips import ClipRecord, failed_clip, measure_clip, pair_offset
from avgen_eval.known import Truth, get_world
from avgen_eval.requested import requested_moments
from avgen_eval.summary import Figure, bootstrap, mean, summarise
from eval_media import FPS, flash_and_beep, flashes, knocks

from avgen.caption import Event, TimedCaption
from avgen.clip import Clip


def test_a_clip_that_does_what_it_was_asked_scores_one() -> None:
    record = measure_clip(flash_and_beep((6, 20, 37), late=0.02), name="a")
    for scores in (record.sound_scores, record.picture_scores):
        assert [score.window_ms for score in scores] == [60, 120]
        assert [score.f1 for score in scores] == [1, 1]
    assert record.offset.offset_ms == pytest.approx(20, abs=5)
    assert record.pair_offset_ms == pytest.approx(20, abs=5)
    assert record.findings == ()
    assert record.objects_visible is None
    assert json.loads(json.dumps(record.to_dict()))["scores"]["sound"]["60ms"]["matched"] == 3


def test_late_events_count_in_the_wider_window_only() -> None:
    sound = measure_clip(flash_and_beep((6, 20, 37), late=0.09)).sound_scores
    assert [score.f1 for score in sound] == [0, 1]


def test_moments_of_a_caption() -> None:
    events = (
        Event.at(0.46, 0.54, "hit", "visual", id="v1"),
        Event.at(0.51, 0.9, "thud", "sfx", cause="v1"),
        Event.at(1.0, 1.1, "wave", "action"),
        Event.at(1.2, 1.9, "walks", "visual"),
        Event.at(1.3, 1.9, "hello", "speech"),
        Event.at(1.4, 1.6, "pan", "camera"),
        Event.at(0.2, 0.3, "wind", "ambience"),
        Event.at(0.0, 2.0, "hum", "sfx"),
    )
    asked = requested_moments(TimedCaption(duration_us=2_000_000, text="", events=events))
    assert asked.sound == pytest.approx((0.51, 1.3))
    assert asked.picture == pytest.approx((0.51, 1.05, 1.2))


def test_a_caption_without_times_asks_for_no_moment() -> None:
    clip = flash_and_beep()
    assert clip.caption is not None
    record = measure_clip(clip, clip.caption.untimed())
    assert record.sound_scores == record.picture_scores == ()
    scored = measure_clip(clip, clip.caption.untimed(), requested=requested_moments(clip.caption))
    assert scored.sound_scores[0].f1 == 1


@pytest.mark.parametrize(
    ("clip", "finding"),
    [
        (Clip(frames=flashes([5])), "no sound"),
        (Clip(frames=None, waveform=knocks([0.5])), "no picture"),
        (Clip(frames=flashes([]), waveform=knocks([0.5])), "still"),
        (Clip(frames=flashes([5]), waveform=np.zeros((1, 31360), np.float32)), "silent"),
        (Clip(frames=flashes([5]), waveform=np.ones((1, 31360), np.float32)), "clipped"),
        (Clip(frames=flashes([5]), waveform=knocks([0.5])[:, :16000]), "960 ms shorter"),
    ],
)
def test_findings_name_what_is_wrong(clip: Clip, finding: str) -> None:
    record = measure_clip(clip)
    assert any(finding in text for text in record.findings)


@pytest.mark.parametrize("world", ["bounce", "drums"])
def test_world_detectors_confirm_their_own_renders(world: str) -> None:
    example = WORLDS[world].render(1_000_007)
    record = measure_clip(
        example.clip, detector=Truth(world=world, content=example.truth).detect, detector_name=world
    )
    assert record.detector == world
    assert record.sound_scores[0].f1 == 1
    assert record.picture_scores[0].f1 == 1
    assert record.objects_visible == 1
    assert min(record.attributes.values()) == 1


def test_unknown_worlds_are_refused() -> None:
    with pytest.raises(ValueError, match="bounce"):
        get_world("atlantis")


def test_pair_offset_is_the_median_of_matched_pairs() -> None:
    assert pair_offset([0.11, 0.53, 1.9], [0.1, 0.5, 1.0]) == pytest.approx(20)
    assert pair_offset([1.0], []) is None


def records(late: list[float]) -> list[ClipRecord]:
    return [measure_clip(flash_and_beep((6, 20, 37), seconds)) for seconds in late]


def test_summary_pools_counts_and_leaves_failures_out() -> None:
    measured = records([0.0, 0.01, 0.08])
    figures = summarise([*measured, failed_clip("broken", "cannot be decoded")])
    assert figures["sound_f1_60"].value == pytest.approx(6 / 9)
    assert figures["sound_f1_120"].value == 1
    assert figures["picture_recall_60"].value == 1
    assert figures["sound_f1_60"].num_clips == 3
    assert figures["offset_median_ms"].value == pytest.approx(10, abs=3)
    assert figures["sound_timing_bias_ms"].value == pytest.approx(30, abs=3)
    assert "objects_visible" not in figures
    assert figures == summarise([*measured, failed_clip("broken", "cannot be decoded")])
    for figure in figures.values():
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value + 1e-9
        assert figure.value <= figure.high + 1e-9


def test_summary_averages_what_detectors_say() -> None:
    first = replace(ClipRecord(name="a"), objects_visible=1.0, attributes={"colour": 1.0})
    second = replace(ClipRecord(name="b"), objects_visible=0.5)
    figures = summarise([first, second])
    assert figures["objects_visible"].value == 0.75
    assert figures["attribute_colour"] == Figure(value=1, low=None, high=None, num_clips=1)
    assert summarise([]) == {}


def test_bootstrap_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(100):
        figure = bootstrap(rng.normal(3, 1, (40, 1)).tolist(), mean, rng, resamples=300)
        assert figure is not None
        assert figure.low is not None
        assert figure.high is not None
        covered += figure.low <= 3 <= figure.high
    assert 86 <= covered <= 100


def test_detector_sees_the_clip_it_is_given() -> None:
    example = WORLDS["bounce"].render(1_000_003)
    other = WORLDS["bounce"].render(1_000_004)
    truth = Truth(world="bounce", content=example.truth)
    wrong = measure_clip(other.clip, example.captions[0], truth.detect)
    assert wrong.sound_scores[0].f1 is not None
    assert wrong.sound_scores[0].f1 < 1
    assert float(FPS) == other.clip.fps
