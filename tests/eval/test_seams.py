"""Continuity at a place, and the classifier of seams, on clips whose seams are known."""

import numpy as np
import pytest
from avgen_data_prep.worlds import WORLDS
from avgen_eval.tasks.continuity import boundary, measure_jumps, rank, ratio_to_median
from avgen_eval.tasks.seam import classifier_accuracy, seam_features
from eval_media import flash_and_beep

from avgen.clip import Clip

SEEDS = range(1_000_000, 1_000_024)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [WORLDS["drums"].render(seed, size=32).clip for seed in SEEDS]


def spliced(first: Clip, second: Clip) -> Clip:
    """The first second of one clip and the rest of another."""
    return first.replace(
        frames=np.concatenate([first.frames[:25], second.frames[25:]]),
        waveform=np.concatenate([first.waveform[:, :16_000], second.waveform[:, 16_000:]], axis=1),
    )


def test_an_artificial_seam_is_told(clips):
    seams = [spliced(a, b) for a, b in zip(clips, clips[1:] + clips[:1], strict=True)]
    features = [[seam_features(clip, 1.0) for clip in each] for each in (seams, clips)]
    accuracy = classifier_accuracy(*features, list(SEEDS))
    assert accuracy.value > 0.9
    assert accuracy.low is not None
    assert accuracy.low > 0.8
    assert accuracy.num_clips == 2 * len(clips)


def test_where_there_is_no_seam_none_is_told():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 40))
    accuracy = classifier_accuracy(list(rows[:200]), list(rows[200:]), list(range(200)))
    assert accuracy.low < 0.5 < accuracy.high
    assert abs(accuracy.value - 0.5) < 0.08


def test_the_same_clips_on_both_sides_cannot_be_told(clips):
    features = [seam_features(clip, 1.0) for clip in clips]
    assert classifier_accuracy(features, features, list(SEEDS)).value == pytest.approx(0.5)


def test_no_clip_is_learned_by_heart():
    """Labels that only the group gives away are not told: groups are never in training and test."""
    rng = np.random.default_rng(1)
    own = rng.normal(size=(40, 5))
    flip = rng.permutation(40) < 20
    first = [10 * row if f else -10 * row for row, f in zip(own, flip, strict=True)]
    second = [-row for row in first]
    assert classifier_accuracy(first, second, list(range(40))).value < 0.75


def test_a_jump_has_the_highest_rank_where_it_is(clips):
    clip = spliced(clips[0], clips[1])
    jumps, index = measure_jumps(clip), boundary(clip, 1.0)
    assert index == 24
    assert len(jumps.picture) == len(jumps.motion) == len(jumps.sound) == 48
    assert rank(jumps.picture, index) == 1.0
    assert ratio_to_median(jumps.picture, index) > 3
    quiet = measure_jumps(clips[0])
    assert rank(quiet.picture, index) < 1.0


def test_sound_and_picture_change_at_the_boundary_of_their_event():
    jumps = measure_jumps(flash_and_beep(frames=(20,)))
    assert int(jumps.picture[:21].argmax()) == 19
    assert int(jumps.sound.argmax()) in (18, 19)


def test_ranks_of_equal_values_are_in_the_middle():
    assert rank(np.ones(9), 4) == 0.5
    assert rank(np.arange(5.0), 4) == 1.0
    assert rank(np.arange(5.0), 0) == 0.0
    assert ratio_to_median(np.array([1.0, 1.0, 4.0]), 2) == 4.0


def test_places_without_surroundings_are_refused(clips):
    with pytest.raises(
        ValueError, match=r"0.1 s .* fewer than 6 frames on a side; move it inwards"
    ):
        seam_features(clips[0], 0.1)
    with pytest.raises(ValueError, match="give a time inside"):
        boundary(clips[0], 1.96)
    with pytest.raises(ValueError, match="needs picture and sound"):
        measure_jumps(clips[0].replace(waveform=None))
    with pytest.raises(ValueError, match="give as many of each, in at least 2 groups"):
        classifier_accuracy([np.zeros(3)], [np.zeros(3)], ["one"])
