import json
from fractions import Fraction

import numpy as np
import pytest
from avgen_data_prep.worlds import WORLDS
from avgen_data_prep.worlds.bounce import draw_scene, words
from avgen_data_prep.worlds.palette import BACKGROUNDS, FLOORS, PALETTE

NAMES = sorted(WORLDS)
SEEDS = range(1_000_000, 1_000_009)


@pytest.fixture(scope="module")
def examples():
    return {name: [WORLDS[name].render(seed) for seed in SEEDS] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_clip_other_seed_other_clip(name, examples):
    first, again = examples[name][0], WORLDS[name].render(SEEDS[0])
    assert np.array_equal(first.clip.frames, again.clip.frames)
    assert np.array_equal(first.clip.waveform, again.clip.waveform)
    assert first.captions == again.captions
    assert first.truth == again.truth
    assert examples[name][1].truth != first.truth
    assert not np.array_equal(examples[name][1].clip.frames, first.clip.frames)


@pytest.mark.parametrize("name", NAMES)
def test_standard_clip_is_49_frames_and_as_long_in_sound(name, examples):
    clip = examples[name][0].clip
    assert clip.frames.shape == (49, 64, 64, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.waveform.shape == (1, 49 * 640)
    assert clip.waveform.dtype == np.float32


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("duration", "fps", "size", "rate"),
    [(0.5, 10, 16, 8_000), (1.0, Fraction(24_000, 1001), 48, 22_050), (3.0, 50, 100, 48_000)],
)
def test_any_size_rate_and_duration(name, duration, fps, size, rate):
    example = WORLDS[name].render(3, duration=duration, fps=fps, size=size, sample_rate=rate)
    frames = round(duration * fps)
    assert example.clip.frames.shape == (frames, size, size, 3)
    assert example.clip.waveform.shape == (1, round(frames / fps * rate))
    assert example.captions[0].duration_us == round(frames / Fraction(fps) * 1_000_000)
    assert example.truth["objects"]


@pytest.mark.parametrize("name", NAMES)
def test_scene_does_not_depend_on_the_grid(name, examples):
    other = WORLDS[name].render(SEEDS[2], fps=50, size=32, sample_rate=48_000)
    assert other.truth == examples[name][2].truth
    assert other.captions == examples[name][2].captions


@pytest.mark.parametrize("name", NAMES)
def test_waveform_is_audible_and_does_not_clip(name, examples):
    for example in examples[name]:
        assert 0.1 < np.abs(example.clip.waveform).max() < 0.98


@pytest.mark.parametrize("name", ["bounce", "drums", "talker"])
def test_events_keep_their_distance_from_each_other_and_from_the_ends(name, examples):
    for example in examples[name]:
        times = [event["time"] for event in example.truth["events"]]
        assert times
        assert times == sorted(times)
        assert times[0] >= 0.1
        assert times[-1] <= 1.86
        assert np.diff(times).min(initial=1.0) >= 0.12


@pytest.mark.parametrize("name", NAMES)
def test_captions_are_paraphrases_with_equal_times(name, examples):
    for example in examples[name]:
        assert len(example.captions) >= 3
        assert len({caption.text for caption in example.captions}) == len(example.captions)
        assert example.clip.caption == example.captions[0]
        spans = [
            sorted((e.start_us, e.end_us, e.track, e.id, e.cause) for e in caption.events)
            for caption in example.captions
        ]
        assert all(span == spans[0] for span in spans)


@pytest.mark.parametrize("name", NAMES)
def test_captions_are_short_and_name_every_colour_and_the_background(name, examples):
    for example in examples[name]:
        for caption in example.captions:
            assert len(caption.text.encode()) <= 220
            assert all(0 < len(event.text.encode()) <= 48 for event in caption.events)
            assert all(item["colour"] in caption.text.lower() for item in example.truth["objects"])
            assert example.truth["background"] in caption.text.lower()


@pytest.mark.parametrize(("name", "track"), [("bounce", "sfx"), ("drums", "sfx")])
def test_each_true_event_is_seen_and_heard_in_the_caption(name, track, examples):
    for example in examples[name]:
        for caption in example.captions:
            heard = [event for event in caption.events if event.track == track]
            seen = {event.id: event for event in caption.events if event.track == "visual"}
            assert len(heard) == len(seen) == len(example.truth["events"])
            for event, true in zip(heard, example.truth["events"], strict=True):
                assert event.start == pytest.approx(true["time"], abs=1e-6)
                cause = seen[event.cause]
                assert cause.start - 1e-6 <= true["time"] < cause.end
                assert example.truth["objects"][true["object"]]["colour"] in str(cause.entity)


def test_bounce_event_texts_say_which_object_hits_what(examples):
    for example in examples["bounce"]:
        for caption in example.captions:
            seen = [event for event in caption.events if event.track == "visual"]
            for event, true in zip(seen, example.truth["events"], strict=True):
                item = example.truth["objects"][true["object"]]
                assert f"{item['colour']} {item['shape']}" in event.text
                assert true["surface"] in event.text


def test_speech_events_carry_the_words(examples):
    for example in examples["talker"]:
        for caption in example.captions:
            spoken = [event for event in caption.events if event.track == "speech"]
            for event, true in zip(spoken, example.truth["events"], strict=True):
                assert true["word"] in event.text
                assert event.end == pytest.approx(true["end"], abs=1e-6)


def test_engine_spans_cover_the_clip_and_change_speed(examples):
    for example in examples["engine"]:
        spans = example.truth["spans"]
        assert spans[0]["start"] == 0.0
        assert spans[-1]["end"] == pytest.approx(1.96)
        assert any(span["from"] != span["to"] for span in spans)
        # One spoke turns less than half a revolution per frame, so its speed is never ambiguous.
        assert max(max(span["from"], span["to"]) for span in spans) < 0.5 * 25
        actions = [e for e in example.captions[0].events if e.track == "action"]
        assert len(actions) == len(spans)


@pytest.mark.parametrize("name", NAMES)
def test_truth_is_json_able(name, examples):
    truth = examples[name][0].truth
    assert json.loads(json.dumps(truth)) == truth
    assert truth["world"] == name
    assert truth["seed"] == SEEDS[0]


def test_bodies_of_a_clip_never_share_a_colour_or_overlap():
    for seed in range(60):
        scene = draw_scene(np.random.default_rng(seed), 1.96)
        assert len({body.colour for body in scene.bodies}) == len(scene.bodies)
        times = np.arange(0.0, 1.96, 1 / 25)
        for number, body in enumerate(scene.bodies):
            x, y = body.path.positions(times)
            for other in scene.bodies[:number]:
                other_x, other_y = other.path.positions(times)
                wide = body.half_extent[0] + other.half_extent[0]
                high = body.half_extent[1] + other.half_extent[1]
                assert ((np.abs(x - other_x) > wide) | (np.abs(y - other_y) > high)).all()


def test_longest_bounce_captions_fit():
    look = "medium orange rubber triangle"
    bodies = [words.BodyWords(look, 0.5, 0.4, 0.6, -1.0)] * 3
    background, floor = max(BACKGROUNDS, key=len), max(FLOORS, key=len)
    for style in range(words.NUM_STYLES):
        assert len(words.scene_text(style, bodies[:2], background, floor).encode()) <= 220
        assert len(words.scene_text(style, bodies, background, floor).encode()) <= 250
        for material in words.SOUNDS:
            texts = words.hit_texts(style, "orange triangle", material, "right wall")
            assert all(len(text.encode()) <= 48 for text in texts)


def test_sound_starts_at_the_hit_and_not_before(examples):
    for example in examples["bounce"] + examples["drums"]:
        waveform = example.clip.waveform[0]
        first = example.truth["events"][0]["time"]
        before = int(first * 16_000)
        assert not waveform[:before].any()
        assert np.abs(waveform[before : before + 80]).max() > 0.02


def test_frames_show_the_state_at_their_own_time(examples):
    for example in examples["drums"]:
        for event in example.truth["events"]:
            item = example.truth["objects"][event["object"]]
            column, row = (round(64 * value) for value in item["start"])
            after = int(np.ceil(event["time"] * 25))
            spot = example.clip.frames[:, row, column].astype(int).sum(axis=-1)
            assert spot[after] > spot[after - 1] + 60


def test_colours_stand_out_from_every_background_and_floor():
    for tone in (*BACKGROUNDS.values(), *FLOORS.values()):
        for colour in PALETTE.values():
            assert np.abs(np.subtract(colour, tone)).max() > 80


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"duration": 0.1},
        {"duration": float("nan")},
        {"duration": float("inf")},
        {"fps": 0},
        {"size": 4},
        {"sample_rate": 100},
    ],
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values()))).lstrip("-")):
        WORLDS["bounce"].render(**{"seed": 0, **wrong})
