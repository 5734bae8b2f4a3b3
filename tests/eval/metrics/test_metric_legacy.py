import numpy as np
import pytest
from avgen_eval.events import match_events
from avgen_eval.metrics.legacy import (
    VARIANTS,
    LegacyAVAlign,
    av_align_javis_code,
    av_align_javis_readme,
    av_align_tempotokens_2023,
    av_align_tempotokens_2025,
    flow_peaks,
)

FPS = 10.0
AUDIO, VIDEO = [0.52, 0.55, 1.09, 1.3], [0.5, 1.0, 1.5]


def test_golden_values() -> None:
    assert av_align_tempotokens_2023(AUDIO, VIDEO, FPS) == 3 / 4
    assert av_align_tempotokens_2025(AUDIO, VIDEO, FPS) == 2 / 5
    assert av_align_javis_code(AUDIO, VIDEO, FPS) == pytest.approx(3 / (4 + 1e-6), abs=1e-12)
    assert av_align_javis_readme(AUDIO, VIDEO, FPS) == 1
    assert av_align_javis_readme(AUDIO, VIDEO, FPS, frames=1) == 5 / 7


def test_a_burst_of_sounds_scores_above_one_in_2023_only() -> None:
    burst, video = [0.98, 1.0, 1.02], [1.0]
    assert av_align_tempotokens_2023(burst, video, FPS) == 3
    assert av_align_javis_code(burst, video, FPS) == pytest.approx(3, abs=1e-5)
    assert av_align_tempotokens_2025(burst, video, FPS) == 1 / 3
    assert av_align_javis_readme(burst, video, FPS) == 1


def test_the_edge_of_the_window_counts_in_the_readme_only() -> None:
    # Exact in binary, so that only the comparison decides.
    assert av_align_tempotokens_2023([1.25], [1.0], 4.0) == 0
    assert av_align_tempotokens_2025([1.25], [1.0], 4.0) == 0
    assert av_align_javis_readme([1.25], [1.0], 4.0, frames=1) == 1


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_over_nothing_is_not_a_number(name: str) -> None:
    formula, _ = VARIANTS[name]
    assert formula([], [], FPS) is None
    assert formula([1.0], [], FPS) == formula([], [1.0], FPS) == 0
    with pytest.raises(ValueError, match="fps is 0"):
        formula([1.0], [1.0], 0)


def test_the_frame_rate_alone_changes_the_value() -> None:
    scores = [av_align_tempotokens_2025([1.05], [1.0], fps) for fps in (8, 16, 24)]
    assert scores == [1, 1, 0]


def test_taking_the_first_free_peak_is_optimal_on_lists_in_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        audio, video = (np.sort(rng.uniform(0, 3, rng.integers(1, 12))) for _ in range(2))
        pairs = len(match_events(audio.tolist(), video.tolist(), 1 / FPS))
        expected = pairs / (len(audio) + len(video) - pairs)
        assert av_align_tempotokens_2025(audio, video, FPS) == pytest.approx(expected)


def test_flow_peaks_are_strict_maxima_dated_at_the_later_frame() -> None:
    flow = [1.0, 3.0, 2.0, 2.0, 5.0, 1.0]
    assert flow_peaks(flow, FPS) == [0.2, 0.5]
    assert flow_peaks(flow, FPS, min_flow=4) == [0.5]
    assert flow_peaks([1.0, 4.0, 4.0, 1.0], FPS) == []
    assert flow_peaks([9.0, 1.0, 9.0], FPS) == []
    assert flow_peaks([1.0], FPS) == flow_peaks([], FPS) == []
    with pytest.raises(ValueError, match=r"\(2, 2\) must be one row"):
        flow_peaks(np.ones((2, 2)), FPS)
    with pytest.raises(ValueError, match="finite"):
        flow_peaks([1.0, float("nan")], FPS)


def test_slow_motion_has_peaks_in_2023_and_none_in_2025() -> None:
    faint = [0.01, 0.05, 0.01, 0.01]
    values = LegacyAVAlign().measure(audio_peaks=[0.2], flow=faint, fps=FPS)
    assert values["tempotokens-2023"] == 1
    assert values["tempotokens-2025"] == 0


def test_merged_means_leave_out_clips_without_peaks() -> None:
    flow = [0.2, 1.0, 0.2, 0.2]
    clips = ([0.2], flow), ([0.9], flow), ([], [0.0, 0.0])
    parts, whole = [LegacyAVAlign(), LegacyAVAlign()], LegacyAVAlign()
    for index, (peaks, curve) in enumerate(clips):
        parts[index % 2].update(audio_peaks=peaks, flow=curve, fps=FPS)
        whole.update(audio_peaks=peaks, flow=curve, fps=FPS)
    parts[0].merge_state(parts[1])
    assert list(whole.compute()) == list(VARIANTS)
    assert whole.compute()["tempotokens-2025"] == 0.5
    assert parts[0].compute() == whole.compute()
    assert whole.counts.tolist() == [2, 2, 2, 2]
