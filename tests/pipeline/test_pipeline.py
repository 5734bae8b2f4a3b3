import shutil
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from avgen_eval.roundtrip import Codecs, round_trip
from safetensors.torch import save_file

from avgen import checkpoint
from avgen.caption import Event, TimedCaption
from avgen.checkpoint import CheckpointError
from avgen.clip import Clip
from avgen.codecs.video_vae import VideoVAE
from avgen.pipeline import AVPipeline, Request
from avgen.pipeline.pipeline import GUIDANCE, SOLVER
from avgen.sampling.guidance import Guidance

HIT = Event.at(0.1, 0.2, "the red ball hits the floor", "visual")


def clip(frames: int = 21, *, size: int = 64, seed: int = 0) -> Clip:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 255, (frames, size, size, 3), np.uint8)
    return Clip(
        frames=pictures, waveform=rng.uniform(-0.5, 0.5, (1, frames * 640)).astype(np.float32)
    )


def test_a_prompt_with_events_becomes_a_clip_of_the_asked_length(pipe):
    made = pipe("a red ball", events=[HIT], duration=0.52, steps=2)
    assert made.frames.shape == (13, 64, 64, 3)
    assert made.waveform.shape == (1, 13 * 640)
    assert made.duration == pytest.approx(0.52)
    assert made.caption.events == (HIT,)
    assert made.request["prompt"] == "a red ball"
    assert made.request["seed"] == 0
    assert (made.request["steps"], made.request["solver"]) == (2, SOLVER)
    assert Guidance(**made.request["guidance"]) == GUIDANCE


def test_a_clip_tells_how_it_was_sampled_even_of_a_mapping_that_cannot_be_copied(pipe, tmp_path):
    guidance = Guidance(text=MappingProxyType({"video": 3}), above=0.5)
    made = pipe("a", duration=0.2, steps=1, solver="ancestral", guidance=guidance)
    told = Clip.open(made.save(tmp_path / "a.mp4")).request
    assert told["solver"] == "ancestral"
    assert told["guidance"]["text"] == {"video": 3}
    assert Guidance(**told["guidance"]) == Guidance(text={"video": 3}, above=0.5)


def test_length_is_snapped_to_the_frames_the_codec_has(pipe):
    assert pipe("a", duration=0.5, steps=1).num_frames == 13
    assert pipe("a", steps=1).num_frames == 49


def test_same_seed_same_clip_whatever_the_batch(pipe):
    requests = [
        Request(prompt=f"ball {'x' * 9 * i}", events=(HIT,) * (i % 2), duration=0.36, seed=i)
        for i in range(3)
    ]
    alone = [pipe.generate([request], steps=2)[0] for request in requests]
    together = pipe.generate(requests, steps=2, batch_size=3)
    for a, b in zip(alone, together, strict=True):
        assert np.abs(a.frames.astype(int) - b.frames.astype(int)).max() <= 1
        assert np.abs(a.waveform - b.waveform).max() < 1e-2
    again = pipe.generate([requests[0]], steps=2)[0]
    assert np.array_equal(again.frames, alone[0].frames)
    assert not np.array_equal(pipe("ball ", duration=0.36, seed=9, steps=2).frames, alone[0].frames)


def test_sound_for_a_silent_video_keeps_the_picture(pipe):
    silent = clip().replace(waveform=None)
    made = pipe("a", video=silent, steps=2)
    assert np.array_equal(made.frames, silent.frames)
    assert made.waveform.shape == (1, 21 * 640)


def test_picture_for_a_sound_keeps_the_sound(pipe):
    sound = clip().replace(frames=None)
    made = pipe("a", audio=sound, steps=2)
    assert np.allclose(made.waveform, sound.waveform)
    assert made.num_frames == 21


def test_continuing_keeps_what_was_given_and_makes_the_rest(pipe):
    prefix = clip(13)
    made = pipe("a", prefix=prefix, duration=1.0, steps=2)
    assert made.num_frames == 25
    assert np.array_equal(made.frames[:13], prefix.frames)
    fade = round(0.005 * 16_000)
    assert np.array_equal(
        made.waveform[:, : 13 * 640 - fade], prefix.waveform[:, : 13 * 640 - fade]
    )
    assert made.frames[13:].std() > 0


def test_what_is_given_can_come_out_of_the_codecs_like_the_rest(pipe):
    prefix = clip(13)
    kept, even = (
        pipe("a", prefix=prefix, duration=1.0, steps=2, keep_given=keep) for keep in (True, False)
    )
    assert np.array_equal(kept.frames[13:], even.frames[13:])
    assert np.allclose(kept.waveform[:, 13 * 640 :], even.waveform[:, 13 * 640 :])
    again = round_trip([prefix], Codecs(video=pipe.video_codec, audio=pipe.audio_codec))[0]
    assert np.abs(even.frames[:13].astype(int) - again.frames).max() <= 1
    assert np.allclose(even.waveform[:, : 13 * 640], again.waveform, atol=1e-4)


def test_filling_a_span_keeps_what_is_around_it(pipe):
    whole = clip(25)
    made = pipe("a", infill=whole, span=(0.36, 0.68), steps=2)
    assert made.num_frames == 25
    for part in (slice(0, 9), slice(17, 25)):
        assert np.array_equal(made.frames[part], whole.frames[part])
    assert not np.array_equal(made.frames[9:17], whole.frames[9:17])
    fade = 80
    for part in (slice(0, 9 * 640 - fade), slice(17 * 640 + fade, 25 * 640)):
        assert np.array_equal(made.waveform[:, part], whole.waveform[:, part])
    assert np.abs(made.waveform - whole.waveform)[:, 9 * 640 : 17 * 640].mean() > 0.1
    assert made.request["span"] == [0.36, 0.68]


def test_what_the_filled_span_showed_before_is_not_seen(pipe):
    first, second = clip(25), clip(25, seed=1)
    frames, waveform = second.frames.copy(), second.waveform.copy()
    for start, stop in ((0, 9), (17, 25)):
        frames[start:stop] = first.frames[start:stop]
        waveform[:, start * 640 : stop * 640] = first.waveform[:, start * 640 : stop * 640]
    other = first.replace(frames=frames, waveform=waveform)
    made, again = (pipe("a", infill=c, span=(0.36, 0.68), steps=2) for c in (first, other))
    assert np.array_equal(made.frames, again.frames)
    assert np.array_equal(made.waveform, again.waveform)


def test_a_rollout_is_made_of_continuations(pipe):
    late = Event.at(1.2, 1.3, "it hits the wall", "visual")
    request = Request(prompt="a", events=(HIT, late), duration=1.8, seed=3)
    (made,) = pipe.roll_out([request], window=0.84, history=0.36, steps=2)
    assert made.num_frames == 45
    assert made.waveform.shape == (1, 45 * 640)
    assert made.caption.events == (HIT, late)
    assert made.request["duration"] == 1.8
    opening = pipe("a", events=[HIT], duration=0.84, seed=3, steps=2)
    assert np.array_equal(made.frames[:21], opening.frames)
    second_events = [late.replace(start_us=720_000, end_us=820_000)]
    second = pipe(
        "a", events=second_events, prefix=opening.slice(0.48), duration=0.84, seed=4, steps=2
    )
    assert np.array_equal(made.frames[21:33], second.frames[9:])
    third_events = [late.replace(start_us=240_000, end_us=340_000)]
    third = pipe(
        "a", events=third_events, prefix=made.slice(0.96, 1.32), duration=0.84, seed=5, steps=2
    )
    assert np.array_equal(made.frames[33:], third.frames[9:])
    whole = pipe.roll_out([Request(prompt="a", duration=0.52, seed=3)], steps=2)[0]
    assert np.array_equal(whole.frames, pipe("a", duration=0.52, seed=3, steps=2).frames)


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({"video": clip()}, {}, "video is given for the whole clip"),
        ({}, {"history": 1.96}, "history 1.96 s leaves nothing to make of a window of 1.96 s"),
        ({"prefix": clip(53)}, {}, r"prefix of 2.12 s fills the window of 1.96 s; cut it"),
    ],
)
def test_rollouts_that_cannot_be_made(pipe, fields, options, message):
    with pytest.raises(ValueError, match=message):
        pipe.roll_out([Request(prompt="a", duration=3.0, **fields)], steps=1, **options)


def test_an_image_is_the_first_frame(pipe):
    image = clip(1).frames[0]
    made = pipe("a", image=image, duration=0.36, steps=2)
    assert np.array_equal(made.frames[0], image)


def test_given_media_of_another_size_and_rate_are_fitted(pipe):
    other = clip(25, size=96).replace(fps=Fraction(50), waveform=None)
    made = pipe("a", video=other, duration=0.52, steps=1)
    assert made.frames.shape == (13, 64, 64, 3)


def test_progress_is_reported_and_can_stop(pipe):
    seen = []
    pipe("a", duration=0.2, steps=3, progress=lambda step, total: seen.append((step, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]

    def stop(step: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe("a", duration=0.2, steps=3, progress=stop)


def test_guidance_changes_the_clip_and_one_is_off(pipe):
    def make(guidance):
        return pipe("a ball", events=[HIT], duration=0.36, steps=2, guidance=guidance).frames

    assert np.array_equal(make(1.0), make(Guidance()))
    assert not np.array_equal(make(3.0), make(1.0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"events": (Event.at(3.0, 3.1, "late"),), "duration": 1.0},
            "'late' starts at 3 s, but the clip ends at",
        ),
        ({"duration": -1.0}, "must be positive"),
        ({"height": 60}, "multiple of 16"),
        ({"video": clip(), "audio": clip()}, "given together"),
        ({"prefix": clip(13).replace(waveform=None)}, "needs picture and sound"),
        ({"prefix": clip(25), "duration": 0.5}, "includes the prefix"),
        ({"video": clip().replace(frames=None)}, "has no picture"),
        ({"infill": clip()}, "give the clip and the span"),
        ({"span": (0.1, 0.2)}, "give the clip and the span"),
        ({"infill": clip(), "span": (0.4, 0.4)}, "span 0.4 to 0.4 s must lie in the clip"),
        ({"infill": clip(), "span": (0.4, 2.0)}, "0 <= start < end <= 0.84"),
        ({"infill": clip(), "span": (0.1, 0.4), "duration": 2.0}, "longer than the clip to fill"),
        ({"infill": clip().replace(frames=None), "span": (0.1, 0.4)}, "needs picture and sound"),
    ],
)
def test_requests_that_cannot_be_met(pipe, fields, message):
    with pytest.raises(ValueError, match=message):
        pipe.generate([Request(prompt="a", **fields)], steps=1)


def test_a_caption_is_a_prompt(pipe):
    caption = TimedCaption(duration_us=360_000, text="a ball", events=(HIT,))
    assert pipe(caption, steps=1).caption == caption


def test_save_and_load_again(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = AVPipeline.from_pretrained(tmp_path)
    a, b = (p("a", duration=0.2, steps=1).frames for p in (pipe, again))
    assert np.array_equal(a, b)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "newer", "kind", "missing"])
def test_weights_that_cannot_be_used_say_what_to_do(folder, tmp_path, damage):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "model.safetensors"
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[-10] ^= 0xFF
        path.write_bytes(data)
    elif damage == "foreign":
        save_file({"x": pipe_tensor()}, path)
    elif damage == "newer":
        path.write_bytes(bytes(data).replace(b'"avgen.format":"1"', b'"avgen.format":"9"'))
    elif damage == "kind":
        shutil.copyfile(tmp_path / "video_vae.safetensors", path)
    else:
        path.unlink()
    expected = {
        "truncated": "may be truncated", "flipped": "damaged: copy it again", "foreign": "not written by avgen",
        "newer": "upgrade avgen", "kind": "'joint' are needed", "missing": "no such weights file",
    }  # fmt: skip
    with pytest.raises(CheckpointError, match=expected[damage]):
        AVPipeline.from_pretrained(tmp_path)


def pipe_tensor():
    import torch

    return torch.zeros(2)


def test_weights_of_another_codec_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    VideoVAE(latent_channels=4).save(tmp_path / "video_vae.safetensors")
    with pytest.raises(CheckpointError, match="trained on video latents of codec"):
        AVPipeline.from_pretrained(tmp_path)


def test_unknown_weights_name_those_that_ship():
    with pytest.raises(CheckpointError, match="tiny"):
        AVPipeline.from_pretrained("huge")


def test_saving_leaves_no_temporary_files(tmp_path):
    import torch

    checkpoint.save(tmp_path / "a.safetensors", {"x": torch.ones(2)}, kind="joint", config={})
    assert [p.name for p in Path(tmp_path).iterdir()] == ["a.safetensors"]


def test_snapped_sound_is_made_of_codes(pipe):
    request = Request(prompt="a ball", duration=0.2)
    plain, snapped = (pipe.generate([request], steps=2, snap_audio=s)[0] for s in (False, True))
    assert np.array_equal(plain.frames, snapped.frames)
    assert not np.array_equal(plain.waveform, snapped.waveform)
