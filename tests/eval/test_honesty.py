"""`avgen eval honesty`: captions that no world writes, known answers of the checks, and copies."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from avgen_data_prep.worlds import WORLDS
from avgen_eval.cli import main
from avgen_eval.failures import Failures
from avgen_eval.honesty.captions import contradicted, merged, reworded, with_synonyms, wordings
from avgen_eval.honesty.checks import CHECKS, run_check
from avgen_eval.honesty.neighbours import Space, compare, describe
from avgen_eval.requested import requested_moments
from avgen_eval.suites import Suite
from avgen_eval.summary import summarise

from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.codecs.video_vae import VideoVAE
from avgen.model.bundle import Network
from avgen.model.config import preset
from avgen.pipeline import AVPipeline

SEEDS = range(1_000_000, 1_000_040)
WITH_TEMPLATES = ("bounce", "drums")


@pytest.fixture(scope="module")
def examples():
    return {name: [WORLDS[name].render(s, size=16) for s in SEEDS] for name in WITH_TEMPLATES}


def texts(caption) -> set[str]:
    return {caption.text, *(event.text for event in caption.events)}


@pytest.mark.parametrize("world", WITH_TEMPLATES)
def test_no_world_writes_the_new_sentences(world, examples):
    own = {t.lower() for e in examples[world] for c in e.captions for t in texts(c)}
    for seed, example in zip(SEEDS, examples[world], strict=True):
        caption = reworded(world, example.captions[0], example.truth, seed)
        assert not {text.lower() for text in texts(caption)} & own
        assert requested_moments(caption) == requested_moments(example.captions[0])
        for item in example.truth["objects"]:
            assert item["colour"] in caption.text
    count = len(wordings()["templates"][world]["scene"])
    first, *others = (reworded(world, example.captions[0], example.truth, s) for s in range(count))
    assert all(not texts(first) & texts(other) for other in others)


def test_no_world_uses_the_new_words(examples):
    own = " ".join(
        t for rows in examples.values() for e in rows for c in e.captions for t in texts(c)
    )
    used = set(re.findall(r"[a-z-]+", own.lower()))
    assert not set(wordings()["synonyms"].values()) & used
    assert set(wordings()["synonyms"]) <= used | {"box"}
    caption = examples["bounce"][0].captions[0]
    other = with_synonyms(caption)
    assert [event.start_us for event in other.events] == [
        event.start_us for event in caption.events
    ]
    left = set(re.findall(r"[a-z-]+", " ".join(texts(other)).lower()))
    assert not left & set(wordings()["synonyms"])


def test_worlds_without_sentences_are_refused():
    example = WORLDS["talker"].render(0, size=16)
    with pytest.raises(
        ValueError, match="no sentences for world 'talker'; there are some for bounce"
    ):
        reworded("talker", example.captions[0], example.truth, 0)


@pytest.mark.parametrize("world", WITH_TEMPLATES)
def test_contradictions_are_in_the_events_alone(world, examples):
    for seed, example in zip(SEEDS, examples[world], strict=True):
        caption, other = contradicted(example.captions[1], example.truth, seed)
        assert caption.text == example.captions[1].text
        old = {item["colour"] for item in example.truth["objects"]}
        new = [item["colour"] for item in other["objects"]]
        assert not old & set(new)
        assert len(set(new)) == len(new)
        words = set(re.findall(r"[a-z]+", " ".join(event.text for event in caption.events)))
        assert not words & old


def test_merged_captions_keep_all_events_and_their_causes(examples):
    first, second = (examples[world][0].captions[0] for world in WITH_TEMPLATES)
    both = merged(first, second)
    assert len(both.events) == len(first.events) + len(second.events)
    assert first.text in both.text
    assert second.text in both.text
    causes = [event.cause for event in both.events if event.cause]
    assert len(causes) == len(set(causes)) == len(both.events) // 2


def test_clips_as_they_should_be_pass_and_contradicted_colours_do_not():
    suite = Suite(worlds=("drums",), count=2)
    failures = Failures(1)
    records = run_check("contradictions", suite, None, failures=failures)
    says = {label: summarise(rows) for label, rows in records.items()}
    assert says["drums as the text says"]["attribute_colour"].value == 1.0
    assert says["drums as the events say"]["attribute_colour"].value == 0.0
    assert says["drums as the text says"]["sound_f1_60"].value > 0.95
    assert len(failures.kept["contradictions"]) == 1
    assert run_check("two_worlds", suite, None) == {}


def test_longer_clips_are_asked_for():
    suite = Suite(worlds=("drums",), count=1)
    asks = list(CHECKS["durations"](suite))
    assert [ask.caption.duration for ask in asks] == [3.0, 4.0]
    (four,) = CHECKS["crowded"](replace(suite, count=1))
    colours = {item["colour"] for item in four.looked[0].truth.content["objects"]}
    assert len(colours) == 4
    assert four.render is None


def test_copies_are_flagged_and_other_clips_are_not():
    training = [WORLDS["drums"].render(seed, size=32).clip for seed in range(60)]
    held = [WORLDS["drums"].render(seed, size=32).clip for seed in range(1_000_000, 1_000_012)]
    rng = np.random.default_rng(0)

    def damaged(clip):
        noise = rng.normal(0, 8, clip.frames.shape)
        hiss = rng.normal(0, 0.003, clip.waveform.shape)
        return clip.replace(
            frames=np.clip(clip.frames + noise, 0, 255).astype(np.uint8),
            waveform=np.clip(clip.waveform + hiss, -1, 1).astype(np.float32),
        )

    space = Space.of(iter(training), [f"drums {seed}" for seed in range(60)])
    copies = [(i, damaged(training[i])) for i in range(0, 60, 5)]
    repeated = compare(space, [damaged(clip) for clip in training[1:13]], held, copies)
    assert repeated.flagged.all()
    assert repeated.neighbour.tolist() == list(range(1, 13))
    assert repeated.figures["nearest_ratio"].value < 0.6
    assert repeated.figures["copies_flagged_of_training"].value == 1.0
    assert repeated.figures["copies_flagged_of_held_out"].value == 0.0
    fresh = compare(space, held, held, copies)
    assert not fresh.flagged.any()
    assert fresh.figures["nearest_ratio"].value == 1.0


def test_vectors_do_not_depend_on_length_or_size():
    clip = WORLDS["drums"].render(0, size=32).clip
    longer = WORLDS["drums"].render(0, size=64, duration=3.0).clip
    short = clip.slice(0.0, 0.4)
    sizes = {tuple(part.size for part in describe(c)) for c in (clip, longer, short)}
    assert len(sizes) == 1
    with pytest.raises(ValueError, match="needs picture and sound"):
        describe(clip.replace(waveform=None))
    with pytest.raises(ValueError, match="1 training clips; give at least 2"):
        Space.of([clip], ["a"])


def test_command_checks_untrained_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Network(replace(preset("tiny"), depth=1))
    AVPipeline(network, VideoVAE(), SeanetAudioCodec()).save_pretrained(tmp_path)
    target, page = tmp_path / "honesty.json", tmp_path / "page.html"
    arguments = ["honesty", "--weights", str(tmp_path), "--world", "drums", "--count", "1"]
    checks = ["--check", "edges", "--check", "neighbours", "--training-clips", "8", "--worst", "1"]
    output = ["--steps", "1", "--json", str(target), "--failures", str(page)]
    assert main([*arguments, *checks, *output]) == 0
    content = json.loads(target.read_text())
    assert set(content["results"]) == {"edges", "neighbours"}
    assert content["results"]["neighbours"]["drums"]["nearest_ratio"]["value"] > 0
    assert content["settings"]["training"] == "8 seeds of each world"
    html = page.read_text()
    assert html.count("<article") == 3
    assert "training clip" in html
