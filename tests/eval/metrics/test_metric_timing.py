import numpy as np
import pytest
from avgen_eval.metrics.timing import (
    TimingMetric,
    interval_iou,
    order_tau,
    requested_intervals,
    requested_on,
    shared_values,
    timing_values,
)
from avgen_eval.requested import requested_moments
from scipy.stats import kendalltau, somersd

from avgen.caption import Event, TimedCaption

SECOND = 1_000_000


def caption(*events: Event, duration: float = 4.0) -> TimedCaption:
    return TimedCaption(duration_us=round(duration * SECOND), text="a room", events=events)


def scene() -> TimedCaption:
    """Two flashes with their bangs, a word and a chord, over rain that never stops."""
    return caption(
        Event.at(0.9, 1.2, "a flash", "visual", id="a"),
        Event.at(1.0, 1.1, "a bang", "sfx", cause="a"),
        Event.at(2.4, 2.7, "a flash", "visual", id="b"),
        Event.at(2.5, 2.6, "a bang", "sfx", cause="b"),
        Event.at(1.5, 2.0, "hello", "speech"),
        Event.at(3.0, 3.6, "a chord", "music"),
        Event.at(0.0, 4.0, "rain", "ambience"),
        Event.at(2.0, 3.0, "pan left", "camera"),
    )


def test_hand_made_case() -> None:
    values = timing_values([0.5, 1.0, 1.5], [0.53, 1.12, 1.5, 1.9])
    assert values["precision_50ms"] == values["precision_100ms"] == 2 / 4
    assert values["recall_50ms"] == 2 / 3
    assert values["f1_50ms"] == 4 / 7
    assert values["recall_250ms"] == values["recall_500ms"] == 1
    assert values["precision_250ms"] == 3 / 4
    assert values["error_mean_ms"] == pytest.approx(50)
    assert values["error_median_ms"] == pytest.approx(30)
    assert values["error_p90_ms"] == pytest.approx(30 + 0.8 * 90)
    assert values["bias_ms"] == pytest.approx(50)
    assert values["count_error"] == values["count_error_abs"] == 1


def test_early_events_have_a_negative_bias_and_missing_ones_a_negative_count() -> None:
    values = timing_values([1.0, 2.0, 3.0], [0.9])
    assert values["bias_ms"] == pytest.approx(-100)
    assert values["error_mean_ms"] == pytest.approx(100)
    assert (values["count_error"], values["count_error_abs"]) == (-2, 2)


def test_what_nobody_asked_for_has_no_timing_and_silence_has_no_precision() -> None:
    assert set(timing_values([], [1.0, 2.0]).values()) == {None}
    silent = timing_values([1.0, 2.0], [])
    assert (silent["recall_50ms"], silent["f1_500ms"], silent["count_error"]) == (0, 0, -2)
    assert silent["precision_50ms"] is silent["error_mean_ms"] is silent["bias_ms"] is None


def test_order_is_kendalls_tau_without_ties_and_somers_d_with_them() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        asked, found = rng.uniform(0, 3, (2, 7))
        expected = kendalltau(asked, found).statistic
        assert order_tau(asked.tolist(), found.tolist()) == pytest.approx(expected)
        asked = np.round(asked)
        expected = somersd(asked, found).statistic
        assert order_tau(asked.tolist(), found.tolist()) == pytest.approx(expected)
    assert order_tau([1.0, 2.0], [1.9, 1.1]) == -1
    assert order_tau([1.0, 1.0], [1.0, 1.1]) is order_tau([1.0], [1.0]) is order_tau([], []) is None
    with pytest.raises(ValueError, match="2 requested and 1 detected"):
        order_tau([1.0, 2.0], [1.0])


def test_interval_iou() -> None:
    assert interval_iou([(0, 2)], [(1, 3)]) == pytest.approx(1 / 3)
    assert interval_iou([(0, 1), (0.5, 2)], [(0, 2)]) == 1
    assert interval_iou([(0, 1)], [(2, 3)]) == interval_iou([(0, 1)], []) == 0
    assert interval_iou([], []) is interval_iou([(1, 1)], []) is None
    with pytest.raises(ValueError, match=r"interval \(2, 1\)"):
        interval_iou([(2, 1)], [(0, 1)])


def test_requests_of_one_track() -> None:
    text = scene()
    assert requested_on(text, "sfx") == (1.0, 2.5)
    assert requested_on(text, "speech") == (1.5,)
    assert requested_on(text, "action") == ()
    # The flash is to be seen when the bang that it causes is heard, not when it starts.
    assert requested_on(text, "visual") == requested_moments(text).picture == (1.0, 2.5)
    assert requested_intervals(text, ["sfx"]) == [(1.0, 1.1), (2.5, 2.6)]
    assert requested_intervals(text, ["ambience"]) == []
    assert requested_intervals(text, ["camera"]) == [(2.0, 3.0)]


def test_cause_on_a_track_left_out_is_no_error() -> None:
    chain = caption(
        Event.at(0.5, 0.6, "a shout", "speech", id="s"),
        Event.at(1.0, 2.0, "it jumps", "action", id="j", cause="s"),
        Event.at(1.4, 1.5, "thud", "sfx", cause="j"),
    )
    assert requested_on(chain, "sfx") == (1.4,)
    assert requested_on(chain, "action") == (1.4,)
    assert requested_on(chain, "visual") == ()


def test_one_event_does_not_answer_for_two_tracks() -> None:
    asked = (1.0, 1.1)
    first = shared_values(asked, (1.0,), [1.06])
    second = shared_values(asked, (1.1,), [1.06])
    assert (first["recall_100ms"], second["recall_100ms"]) == (0, 1)
    assert second["bias_ms"] == pytest.approx(-40)
    assert first["precision_100ms"] is first["f1_100ms"] is first["count_error"] is None


def test_one_event_answers_for_two_tracks_that_ask_at_one_instant() -> None:
    both = (1.0,)
    assert shared_values(both, (1.0,), [1.03])["recall_50ms"] == 1
    late = shared_values(both, (1.015,), [1.03])
    assert late["bias_ms"] == pytest.approx(15)


def test_perfect_clip() -> None:
    values = TimingMetric().measure(
        scene(), sound_times=[1.0, 1.5, 2.5, 3.0], picture_times=[1.0, 2.5]
    )
    assert values.keys() == TimingMetric.fields.keys()
    for group in ("sound", "picture"):
        assert values[f"{group}_f1_50ms"] == 1
        assert values[f"{group}_count_error"] == values[f"{group}_bias_ms"] == 0
    for track in ("sfx", "speech", "music", "visual"):
        assert values[f"{track}_recall_50ms"] == 1
    assert values["action_recall_50ms"] is None
    assert values["order"] == 1
    assert values["sound_order"] is values["sound_iou"] is None


def test_tracks_share_the_errors_of_their_stream() -> None:
    values = TimingMetric().measure(scene(), sound_times=[1.0, 1.58, 2.5, 3.2])
    assert values["sfx_error_mean_ms"] == 0
    assert values["speech_bias_ms"] == pytest.approx(80)
    assert values["music_bias_ms"] == pytest.approx(200)
    assert (values["music_recall_100ms"], values["music_recall_250ms"]) == (0, 1)
    assert values["sound_bias_ms"] == pytest.approx(70)
    assert values["sfx_precision_50ms"] is values["picture_recall_50ms"] is None


def test_tracks_told_apart_have_precision_and_order() -> None:
    text = caption(
        Event.at(1.0, 1.1, "bang", "sfx"),
        Event.at(1.3, 1.5, "hello", "speech"),
        Event.at(3.0, 3.1, "chord", "music"),
    )
    swapped = {"sfx": [1.3], "speech": [1.0], "music": [3.0, 3.9]}
    values = TimingMetric().measure(text, sound_times=[1.0, 1.3, 3.0, 3.9], track_times=swapped)
    assert values["sound_recall_50ms"] == 1
    assert values["sfx_recall_250ms"] == 0
    assert values["sfx_bias_ms"] == pytest.approx(300)
    assert values["music_precision_50ms"] == 0.5
    assert values["music_count_error"] == 1
    assert values["sound_order"] == values["order"] == pytest.approx(1 / 3)


def test_picture_and_sound_that_change_places_are_out_of_order() -> None:
    text = caption(Event.at(1.0, 1.1, "lightning", "visual"), Event.at(1.3, 1.8, "thunder", "sfx"))
    late = TimingMetric().measure(text, sound_times=[1.3], picture_times=[1.45])
    assert late["order"] == -1
    assert late["picture_bias_ms"] == pytest.approx(400)
    fine = TimingMetric().measure(text, sound_times=[1.35], picture_times=[1.05])
    assert fine["order"] == 1


def test_intervals_by_stream_and_track() -> None:
    values = TimingMetric().measure(
        scene(),
        intervals={"music": [(3.0, 3.3)], "camera": [(2.0, 3.0)], "ambience": [(0.0, 4.0)]},
    )
    assert values["music_iou"] == pytest.approx(0.5)
    assert values["camera_iou"] == 1
    assert values["ambience_iou"] is values["speech_iou"] is None


def test_untimed_captions_ask_for_nothing() -> None:
    values = TimingMetric().measure(
        scene().untimed(), sound_times=[1.0], picture_times=[1.0], intervals={"sfx": [(1.0, 1.1)]}
    )
    assert set(values.values()) == {None}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="track_times has drums; choose from sfx"):
        TimingMetric().measure(scene(), track_times={"drums": [1.0]})
    with pytest.raises(ValueError, match="track_times has ambience"):
        TimingMetric().measure(scene(), track_times={"ambience": [1.0]})
    with pytest.raises(ValueError, match="intervals has voice"):
        TimingMetric().measure(scene(), intervals={"voice": []})
    with pytest.raises(ValueError, match="finite"):
        TimingMetric().measure(scene(), sound_times=[float("nan")])


def test_two_processes_give_the_result_of_one() -> None:
    sounds = ([1.0, 1.5, 2.5, 3.0], [1.05, 2.6], [], [0.2])
    parts, whole = [TimingMetric(), TimingMetric()], TimingMetric()
    for index, times in enumerate(sounds):
        for metric in (parts[index % 2], whole):
            metric.update(scene(), sound_times=times, picture_times=[1.0])
    parts[0].merge_state(parts[1])
    merged, single = parts[0].compute(), whole.compute()
    for name in TimingMetric.fields:
        assert merged[name].item() == pytest.approx(single[name].item(), nan_ok=True)
    assert single["sound_recall_100ms"] == pytest.approx((1 + 2 / 4) / 4)
    assert single["sound_precision_50ms"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert single["music_recall_50ms"] == 0.25
    assert single["action_f1_50ms"].isnan()
