import numpy as np
import pytest
from avgen_data_prep.worlds import WORLDS
from avgen_data_prep.worlds.drums.kit import INSTRUMENTS
from avgen_data_prep.worlds.unseen import UNSEEN
from avgen_eval.known import get_world

SEEDS = range(1_000_000, 1_000_006)


@pytest.fixture(scope="module")
def examples():
    return {name: [world.render(seed) for seed in SEEDS] for name, world in UNSEEN.items()}


def times(example) -> np.ndarray:
    return np.array([event["time"] for event in example.truth["events"]])


def test_no_training_data_is_made_of_them():
    assert not set(UNSEEN) & set(WORLDS)
    assert get_world("close-drums") is UNSEEN["close-drums"]
    with pytest.raises(ValueError, match="choose from bounce, close-drums"):
        get_world("atlantis")


def test_close_strikes_are_60_to_90_ms_apart_on_different_pads(examples):
    for example in examples["close-drums"]:
        gaps, pads = np.diff(times(example))[::2], [e["object"] for e in example.truth["events"]]
        assert ((gaps >= 0.06) & (gaps <= 0.09)).all()
        assert all(a != b for a, b in zip(pads[::2], pads[1::2], strict=True))
        assert len(gaps) >= 1


def test_edge_strikes_are_where_training_has_none(examples):
    for example in examples["edge-drums"]:
        first, *_, last = times(example)
        assert first < 0.1
        assert last > 1.96 - 0.1


def test_recoloured_instruments_never_have_their_own_colour(examples):
    for example in examples["recoloured-drums"]:
        for item in example.truth["objects"]:
            assert item["colour"] != INSTRUMENTS[item["name"]].colour
            assert item["colour"] in example.captions[0].text


@pytest.mark.parametrize("name", sorted(UNSEEN))
def test_their_detectors_find_what_they_render(name, examples):
    found = asked = 0
    for example in examples[name]:
        detection = UNSEEN[name].detect(example.clip, example.truth)
        for heard in (detection.sound_times, detection.picture_times):
            gaps = np.abs(times(example)[:, None] - np.array(heard)[None])
            found += int((gaps.min(axis=1) < 0.03).sum())
            asked += len(times(example))
        assert detection.objects_visible == 1.0
    assert found >= 0.9 * asked
