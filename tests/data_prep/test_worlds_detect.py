import dataclasses

import numpy as np
import pytest
from avgen_data_prep.worlds import WORLDS
from avgen_data_prep.worlds.base import make_stage
from avgen_data_prep.worlds.bounce.picture import paint_scene
from avgen_data_prep.worlds.bounce.scene import draw_scene
from scipy.ndimage import gaussian_filter

WITH_ONSETS = ["bounce", "drums", "talker"]
NAMES = [*WITH_ONSETS, "engine"]
FIRST = 1_000_000


def matched(true, found, window=0.06):
    """Pairs of two sorted lists within a window; greedy is optimal on a line."""
    true, found = sorted(true), sorted(found)
    i = j = pairs = 0
    while i < len(true) and j < len(found):
        if abs(true[i] - found[j]) <= window:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif true[i] < found[j]:
            i += 1
        else:
            j += 1
    return pairs


def f1(rows):
    pairs = sum(matched(true, found) for true, found in rows)
    return 2 * pairs / max(1, sum(len(true) + len(found) for true, found in rows))


def event_times(example):
    return [event["time"] for event in example.truth["events"]]


def scores(examples, detections):
    times = [event_times(example) for example in examples]
    sound = f1([(t, d.sound_times) for t, d in zip(times, detections, strict=True)])
    picture = f1([(t, d.picture_times) for t, d in zip(times, detections, strict=True)])
    return sound, picture, float(np.mean([d.objects_visible for d in detections]))


def degraded(clip, seed):
    """Blur, fine and coarse noise in the picture (about 26 dB), noise in the sound."""
    rng = np.random.default_rng(seed)
    frames = gaussian_filter(clip.frames.astype(np.float32), (0, 0.6, 0.6, 0))
    coarse = gaussian_filter(rng.standard_normal(frames.shape, dtype=np.float32), (1, 2, 2, 0))
    noisy = frames + 10.5 * rng.standard_normal(frames.shape, dtype=np.float32)
    noisy = np.clip(noisy + 6.0 * coarse / coarse.std(), 0, 255).astype(np.uint8)
    sound = clip.waveform + 0.012 * rng.standard_normal(clip.waveform.shape, dtype=np.float32)
    return dataclasses.replace(clip, frames=noisy, waveform=sound)


@pytest.fixture(scope="module")
def examples():
    return {name: [WORLDS[name].render(FIRST + i) for i in range(9)] for name in NAMES}


@pytest.fixture(scope="module")
def detections(examples):
    return {name: [WORLDS[name].detect(e.clip, e.truth) for e in examples[name]] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_clean_clips_score_full_marks(name, examples, detections):
    sound, picture, visible = scores(examples[name], detections[name])
    assert visible >= 0.99
    if name in WITH_ONSETS:
        assert sound >= 0.99
        assert picture >= 0.99
    for detection in detections[name]:
        assert min(detection.attributes.values()) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_hundred_held_out_clips_score_full_marks(name):
    world = WORLDS[name]
    rows = [world.render(FIRST + 500 + seed) for seed in range(100)]
    found = [world.detect(example.clip, example.truth) for example in rows]
    sound, picture, visible = scores(rows, found)
    assert visible >= 0.99
    assert np.mean([min(d.attributes.values()) for d in found]) >= 0.99
    if name in WITH_ONSETS:
        assert sound >= 0.99
        assert picture >= 0.99


@pytest.mark.parametrize("name", NAMES)
def test_blurred_and_noisy_clips_still_score(name, examples):
    rows = examples[name][:5]
    noisy = [degraded(example.clip, seed) for seed, example in enumerate(rows)]
    pairs = list(zip(noisy, rows, strict=True))
    error = [np.mean((n.frames / 255.0 - e.clip.frames / 255.0) ** 2) for n, e in pairs]
    assert -10 * np.log10(np.mean(error)) < 27.0
    found = [WORLDS[name].detect(clip, example.truth) for clip, example in pairs]
    sound, picture, visible = scores(rows, found)
    assert visible >= 0.95
    assert np.mean([min(d.attributes.values()) for d in found]) >= 0.95
    if name in WITH_ONSETS:
        assert sound >= 0.95
        assert picture >= 0.95
    else:
        assert min(d.extra["correlation"] for d in found) >= 0.95


@pytest.mark.parametrize("name", WITH_ONSETS)
def test_other_size_and_rates_score_too(name):
    grid = {"size": 96, "fps": 30, "sample_rate": 24_000, "duration": 1.5}
    rows = [WORLDS[name].render(FIRST + seed, **grid) for seed in range(4)]
    found = [WORLDS[name].detect(example.clip, example.truth) for example in rows]
    assert min(scores(rows, found)) >= 0.95


@pytest.mark.parametrize("name", WITH_ONSETS)
def test_onsets_are_dated_to_a_few_milliseconds(name, examples, detections):
    for medium, limit in (("sound_times", 0.005), ("picture_times", 0.025)):
        errors = [
            min(abs(found - time) for found in getattr(detection, medium))
            for example, detection in zip(examples[name], detections[name], strict=True)
            for time in event_times(example)
        ]
        assert np.median(errors) < limit


def delayed(clip, num_frames):
    """The clip with its first frame held and silence before it."""
    frames = np.concatenate([np.repeat(clip.frames[:1], num_frames, axis=0), clip.frames])
    sound = np.pad(clip.waveform, ((0, 0), (640 * num_frames, 0)))
    return dataclasses.replace(
        clip,
        frames=frames[: len(clip.frames)],
        waveform=sound[:, : clip.waveform.shape[1]],
    )


@pytest.mark.parametrize("name", WITH_ONSETS)
def test_detected_times_follow_a_delay_of_the_clip(name, examples):
    rows = examples[name]
    found = [WORLDS[name].detect(delayed(e.clip, 4), e.truth) for e in rows]
    for medium in ("sound_times", "picture_times"):
        times = [getattr(detection, medium) for detection in found]
        late = [[t + 0.16 for t in event_times(e) if t + 0.16 < 1.86] for e in rows]
        inside = [[t for t in row if t < 1.86] for row in times]
        assert f1(list(zip(late, inside, strict=True))) >= 0.95
        # Other events lie 160 ms later by chance now and then, so this is not zero.
        assert f1([(event_times(e), row) for e, row in zip(rows, times, strict=True)]) < 0.35


@pytest.mark.parametrize("name", WITH_ONSETS)
def test_truth_shifted_by_150_ms_scores_below_chance(name, examples, detections):
    for shift in (-0.15, 0.15):
        rows = [
            ([time + shift for time in event_times(example)], detection.sound_times)
            for example, detection in zip(examples[name], detections[name], strict=True)
        ]
        assert f1(rows) < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_of_another_clip_scores_low(name, examples):
    rows = examples[name]
    clips = [e.clip for e in rows[1:] + rows[:1]]
    found = [WORLDS[name].detect(clip, e.truth) for clip, e in zip(clips, rows, strict=True)]
    sound, picture, visible = scores(rows, found)
    assert visible <= 0.5
    assert np.mean([np.mean(list(d.attributes.values())) for d in found]) <= 0.5
    assert max(sound, picture) <= 0.6


def two_body_scene():
    for seed in range(50):
        scene = draw_scene(np.random.default_rng([1, seed]), 1.96)
        if len(scene.bodies) == 2:
            return seed, scene
    raise AssertionError("no scene with two bodies")


def test_missing_and_additional_objects_are_noticed():
    seed, scene = two_body_scene()
    world = WORLDS["bounce"]
    example = world.render(seed)
    stage = make_stage(seed, 1.96, 25, 64, 16_000)
    lonely = paint_scene(dataclasses.replace(scene, bodies=scene.bodies[:1]), stage)
    clip = dataclasses.replace(example.clip, frames=lonely.astype(np.uint8))
    assert world.detect(example.clip, example.truth).objects_visible == 1.0
    missing = world.detect(clip, example.truth)
    assert missing.objects_visible == 0.0
    assert missing.attributes["colour"] == 0.5
    fewer = {**example.truth, "objects": example.truth["objects"][:1], "events": []}
    assert world.detect(clip, fewer).objects_visible == 1.0
    assert world.detect(example.clip, fewer).objects_visible == 0.0


def test_an_object_in_pieces_does_not_count_as_visible(examples):
    example = examples["bounce"][0]
    frames = example.clip.frames.copy()
    ghost = np.roll(frames, 24, axis=2)
    vivid = ghost.max(axis=-1).astype(int) - ghost.min(axis=-1) > 70
    frames[vivid] = ghost[vivid]
    twin = dataclasses.replace(example.clip, frames=frames)
    assert WORLDS["bounce"].detect(twin, example.truth).objects_visible < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_wrong_colours_are_noticed(name, examples):
    for example in examples[name][:4]:
        swapped = dataclasses.replace(example.clip, frames=example.clip.frames[..., [1, 2, 0]])
        found = WORLDS[name].detect(swapped, example.truth)
        assert found.attributes["colour"] <= 0.5
        assert found.objects_visible <= 0.1


@pytest.mark.parametrize("name", NAMES)
def test_silence_and_stillness_have_no_events(name, examples):
    example = examples[name][0]
    still = np.repeat(example.clip.frames[:1], len(example.clip.frames), axis=0)
    clip = dataclasses.replace(
        example.clip, frames=still, waveform=np.zeros_like(example.clip.waveform)
    )
    found = WORLDS[name].detect(clip, example.truth)
    assert found.sound_times == []
    assert found.picture_times == []


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_measured_without_crashing_and_shows_nothing(name, examples):
    example = examples[name][0]
    rng = np.random.default_rng(0)
    clip = dataclasses.replace(
        example.clip,
        frames=rng.integers(0, 256, example.clip.frames.shape, dtype=np.uint8),
        waveform=(0.1 * rng.standard_normal(example.clip.waveform.shape)).astype(np.float32),
    )
    assert WORLDS[name].detect(clip, example.truth).objects_visible <= 0.1


def test_materials_and_instruments_are_told_by_their_sound(examples, detections):
    assert np.mean([d.extra["material"] for d in detections["bounce"]]) >= 0.95
    assert np.mean([d.extra["timbre"] for d in detections["drums"]]) >= 0.9
    other = {"rubber": "glass", "glass": "wood", "wood": "metal", "metal": "rubber"}
    for example in examples["bounce"][:3]:
        objects = [{**o, "material": other[o["material"]]} for o in example.truth["objects"]]
        found = WORLDS["bounce"].detect(example.clip, {**example.truth, "objects": objects})
        assert found.extra["material"] == 0.0


def test_a_strike_on_another_pad_is_noticed(examples):
    for example in examples["drums"][:4]:
        count = len(example.truth["objects"])
        moved = [{**e, "object": (e["object"] + 1) % count} for e in example.truth["events"]]
        found = WORLDS["drums"].detect(example.clip, {**example.truth, "events": moved})
        assert found.attributes["pad"] == 0.0


def test_talker_lag_follows_the_delay_of_the_voice(examples):
    for example in examples["talker"][:4]:
        late = np.pad(example.clip.waveform, ((0, 0), (1_280, 0)))[:, :-1_280]
        clip = dataclasses.replace(example.clip, waveform=late)
        found = WORLDS["talker"].detect(clip, example.truth)
        assert found.extra["lag_ms"] == pytest.approx(80.0, abs=20.0)
        straight = WORLDS["talker"].detect(example.clip, example.truth)
        assert abs(straight.extra["lag_ms"]) <= 20.0
        assert straight.extra["correlation"] > 0.85


def test_talker_tells_vowels_apart(examples):
    turn = {"aah": "eee", "eee": "ooh", "ooh": "ehh", "ehh": "aah"}
    for example in examples["talker"][:4]:
        events = [{**event, "word": turn[event["word"]]} for event in example.truth["events"]]
        found = WORLDS["talker"].detect(example.clip, {**example.truth, "events": events})
        assert found.attributes["vowel"] == 0.0
        assert found.attributes["mouth"] == 0.0


def test_engine_correspondence_breaks_when_the_sound_is_reversed(examples, detections):
    for example, straight in list(zip(examples["engine"], detections["engine"], strict=True))[:3]:
        assert straight.extra["correlation"] > 0.98
        assert straight.extra["sound_error"] < 0.02
        assert straight.extra["picture_error"] < 0.05
        clip = dataclasses.replace(example.clip, waveform=example.clip.waveform[:, ::-1].copy())
        turned = WORLDS["engine"].detect(clip, example.truth)
        assert turned.extra["correlation"] < straight.extra["correlation"]
        assert turned.extra["sound_error"] > straight.extra["sound_error"]
        back = dataclasses.replace(example.clip, frames=example.clip.frames[::-1].copy())
        assert WORLDS["engine"].detect(back, example.truth).attributes["turn"] == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_clips_that_cannot_be_measured_are_refused(name, examples):
    example, world = examples[name][0], WORLDS[name]
    with pytest.raises(ValueError, match="not"):
        world.detect(example.clip, {**example.truth, "world": "elsewhere"})
    with pytest.raises(ValueError, match="sound"):
        world.detect(dataclasses.replace(example.clip, waveform=None), example.truth)
    with pytest.raises(ValueError, match="frames"):
        world.detect(dataclasses.replace(example.clip, frames=None), example.truth)
