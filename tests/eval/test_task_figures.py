"""`avgen eval tasks`: known answers of the measurements, and the command with untrained weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from avgen_eval.cli import main
from avgen_eval.clips import ClipRecord
from avgen_eval.events import score_within
from avgen_eval.requested import Requested
from avgen_eval.roundtrip import Codecs
from avgen_eval.suites import Suite
from avgen_eval.tasks.conditions import CONDITIONS, SPAN, Condition, cases, given
from avgen_eval.tasks.course import part_counts
from avgen_eval.tasks.measure import Bench, run_task

from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.codecs.video_vae import VideoVAE
from avgen.model.bundle import Network
from avgen.model.config import preset
from avgen.pipeline import AVPipeline

SUITE = Suite(worlds=("drums",), count=3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the shape that ships, with a shallow transformer."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    network = Network(replace(preset("tiny"), depth=1))
    AVPipeline(network, VideoVAE(), SeanetAudioCodec()).save_pretrained(folder)
    return folder


def reference(suite: Suite = SUITE) -> Bench:
    """True clips in place of generated ones."""
    codecs = Codecs(video=torch.nn.Identity(), audio=torch.nn.Identity())  # type: ignore[arg-type]
    return Bench(suite=suite, pipeline=None, codecs=codecs)


def test_true_sounds_have_their_events_and_those_of_another_clip_have_not() -> None:
    figures = run_task(reference(), "v2a")
    assert set(figures) == {"own", "untimed", "other", "untimed_other"}
    own, other = figures["own"]["drums"], figures["untimed_other"]["drums"]
    assert own["sound_f1_60"].value > 0.95
    assert other["sound_f1_60"].value < 0.6
    assert other["sound_f1_60_given"].value > 0.95
    assert "sound_f1_60_given" not in own


def test_conditions_give_what_they_say() -> None:
    case = cases(SUITE, "drums")[2]
    first = cases(SUITE, "drums")[0]
    assert np.array_equal(case.following.clip.frames, first.example.clip.frames)
    own, untimed, other, both = (case.request(c) for c in CONDITIONS["v2a"])
    for request, source in ((own, case), (untimed, case), (other, first), (both, first)):
        assert request.video is not None
        assert request.video.waveform is None
        assert np.array_equal(request.video.frames, source.example.clip.frames)
        assert request.prompt == own.prompt
    assert own.events == other.events
    assert untimed.events == both.events
    assert {event.start_us for event in untimed.events} == {0}
    assert case.request(Condition(task="a2v", other=True)).audio.frames is None
    assert case.request(Condition(task="extend")).prefix.duration == 1.0
    assert case.request(Condition(task="infill")).span == SPAN
    assert np.array_equal(case.request(Condition(task="i2av")).image, case.example.clip.frames[0])
    with pytest.raises(ValueError, match="task 'v2v' is unknown; use t2av, i2av"):
        given("v2v", case.example.clip)


def test_first_frames_of_the_truth_are_those_given() -> None:
    figures = run_task(reference(), "i2av")["own"]["drums"]
    assert figures["first_frame_psnr_db"].value == 100.0
    assert figures["second_frame_psnr_db"].value == 100.0
    assert figures["second_frame_psnr_db"].unit == "dB"
    assert figures["still_frame_psnr_db"].value <= 100.0


def test_events_within_a_span() -> None:
    score = score_within([0.5, 1.0, 1.5], [0.52, 0.98, 1.3, 1.9], 60, (1.0, 1.6))
    assert (score.num_requested, score.num_detected, score.num_matched) == (2, 2, 1)
    assert score.errors_ms == pytest.approx((-20.0,))
    nothing = score_within([0.5], [0.52], 60, (1.0, 2.0))
    assert (nothing.num_requested, nothing.num_detected) == (0, 0)


def test_parts_of_a_long_clip_count_their_own_events() -> None:
    times = (0.5, 6.0, 7.0)
    record = ClipRecord(
        name="a", requested=Requested(sound=times, picture=times), sound_times=(0.5, 6.01, 8.0)
    )
    assert part_counts(record, "sound", (0, 5)) == (2, 2)
    assert part_counts(record, "sound", (5, 10)) == (2, 4)
    assert part_counts(record, "picture", (5, 10)) == (0, 2)
    assert part_counts(record, "sound", (10, 15)) is None


@pytest.mark.filterwarnings("ignore:lbfgs")
def test_command_measures_continuations_and_shows_the_worst(weights: Path, tmp_path: Path) -> None:
    target, page = tmp_path / "tasks.json", tmp_path / "page.html"
    arguments = ["tasks", "--weights", str(weights), "--world", "drums", "--count", "2"]
    options = ["--task", "extend", "--steps", "1", "--json", str(target), "--failures", str(page)]
    assert main([*arguments, *options, "--worst", "1"]) == 0
    content = json.loads(target.read_text())
    assert content["settings"]["source"] == "generated"
    figures = content["results"]["extend"]["own"]["drums"]
    for seam in ("decoded", "delivered"):
        for control in ("whole", "codec"):
            assert 0 <= figures[f"seam_accuracy_{seam}_against_{control}"]["value"] <= 1
    assert {"sound_f1_60_made", "motion_rank_seam_codec"} <= set(figures)
    assert set(content["results"]["extend"]) == {"own", "whole"}
    html = page.read_text()
    assert html.count("<article") == 2
    assert "extend, own: drums 100000" in html


def test_command_refuses_unknown_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["tasks", "--task", "v2v"])
    assert "invalid choice: 'v2v'" in capsys.readouterr().err
