import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from avgen_data_prep.worlds import WORLDS
from avgen_eval.cli import main
from avgen_eval.roundtrip import Codecs, load_codecs, round_trip
from avgen_eval.suites import Suite, run_codecs, run_suite, suite_figures

from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.codecs.video_vae import VideoVAE
from avgen.model.bundle import Network
from avgen.model.config import preset
from avgen.pipeline import AVPipeline


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the shape that ships, with a shallow transformer."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    network = Network(replace(preset("tiny"), depth=1))
    AVPipeline(network, VideoVAE(), SeanetAudioCodec()).save_pretrained(folder)
    return folder


def test_renders_are_the_upper_control() -> None:
    steps: list[int] = []
    suite = Suite(worlds=("bounce", "drums"), count=3, batch_size=2)
    result = run_suite(suite, "render", keep_clips=1, step=steps.append)
    assert steps == [2, 1, 2, 1]
    assert {world: len(clips) for world, clips in result.clips.items()} == {"bounce": 1, "drums": 1}
    assert result.seconds_per_clip is None
    figures = suite_figures(result)
    assert set(figures) == {"bounce", "drums", "all"}
    for name in ("sound_f1_60", "picture_f1_60", "objects_visible"):
        assert figures["all"][name].value > 0.95
    assert figures["drums"]["sound_f1_60_chance"].value < 0.7
    assert result.records["drums"][2].name == "drums 1000002"


def test_codec_control_and_codec_figures(weights: Path) -> None:
    codecs = load_codecs(str(weights))
    suite = Suite(worlds=("bounce",), count=2)
    result = run_suite(suite, "codec", codecs=codecs)
    assert result.seconds_per_clip is not None
    figures = run_codecs(suite, codecs)["bounce"]
    assert 0 < figures["psnr_db"].value < 40
    assert figures["psnr_db"].unit == "dB"
    assert figures["log_mel_db"].value > 0


def test_round_trip_keeps_shapes_and_refuses_other_rates(weights: Path) -> None:
    codecs = load_codecs(str(weights))
    clip = WORLDS["bounce"].render(1_000_000).clip
    (decoded,) = round_trip([clip], codecs)
    assert decoded.frames is not None
    assert clip.frames is not None
    assert decoded.frames.shape == clip.frames.shape
    assert decoded.waveform is not None
    assert decoded.waveform.shape == (1, 49 * 640)
    with pytest.raises(ValueError, match="8000 Hz"):
        round_trip([clip.replace(sample_rate=8000)], codecs)
    with pytest.raises(ValueError, match="no sound"):
        round_trip([clip.replace(waveform=None)], codecs)


def test_round_trip_through_exact_codecs_changes_nothing() -> None:
    class Identity(torch.nn.Module):
        sample_rate, audio_channels = 16_000, 1

        def encode(self, media: torch.Tensor) -> torch.Tensor:
            return media

        decode = encode

    clip = WORLDS["drums"].render(1_000_000).clip
    (same,) = round_trip([clip], Codecs(video=Identity(), audio=Identity()))  # type: ignore[arg-type]
    for name in ("frames", "waveform"):
        assert np.array_equal(getattr(same, name), getattr(clip, name))


def test_worlds_command_generates_measures_and_reports(weights: Path, tmp_path: Path) -> None:
    target, page = tmp_path / "worlds.json", tmp_path / "page.html"
    arguments = ["--weights", str(weights), "--world", "bounce", "--count", "2", "--steps", "1"]
    options = ["--untimed", "--records", "--json", str(target), "--report", str(page)]
    assert main(["worlds", *arguments, *options]) == 0
    result = json.loads(target.read_text())
    assert result["settings"]["untimed"] is True
    assert result["settings"]["seed_start"] == 1_000_000
    generated = result["results"]["generated"]
    assert generated["num_clips"] == {"bounce": 2}
    assert generated["seconds_per_clip"] > 0
    asked = [clip["requested"]["sound"] for clip in generated["clips"]["bounce"]]
    truth = [WORLDS["bounce"].render(1_000_000 + i).truth["events"] for i in range(2)]
    assert [len(times) for times in asked] == [len(events) for events in truth]
    assert page.read_text().count("<article") == 2


def test_codecs_command_and_reference(weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "codecs.json"
    arguments = ["--weights", str(weights), "--world", "drums", "--count", "1"]
    assert main(["codecs", *arguments, "--json", str(target)]) == 0
    result = json.loads(target.read_text())
    assert len(result["settings"]["video_codec"]) == 64
    assert "psnr_db" in result["results"]["codecs"]["worlds"]["drums"]
    assert main(["worlds", *arguments, "--reference", "--json", str(target)]) == 0
    assert set(json.loads(target.read_text())["results"]) == {"render", "codec"}


def test_reference_without_codecs_measures_the_renders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "reference.json"
    arguments = ["worlds", "--reference", "--weights", str(tmp_path), "--world", "drums"]
    assert main([*arguments, "--count", "1", "--json", str(target)]) == 0
    assert set(json.loads(target.read_text())["results"]) == {"render"}
    assert "without the codec control" in capsys.readouterr().out


def test_empty_suites_are_refused() -> None:
    with pytest.raises(ValueError, match="count 0"):
        Suite(worlds=("bounce",), count=0)
    with pytest.raises(ValueError, match="choose from"):
        run_suite(Suite(worlds=("atlantis",), count=1), "render")
