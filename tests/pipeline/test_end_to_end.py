"""Worlds to shards to training to weights to a clip, by the commands, with small untrained codecs."""

import shutil
from pathlib import Path

import pytest

from avgen.cli import main
from avgen.pipeline import AVPipeline


@pytest.fixture(scope="module")
def data(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("worlds") / "data"
    assert (
        main(["prep", "worlds", str(out), "--world", "bounce", "--count", "4", "--weights", folder])
        == 0
    )
    return out


def train(folder: str, data: Path, out: Path, *more: str) -> None:
    from avgen_eval.callbacks import EvaluateClips
    from lightning.pytorch import Trainer, seed_everything

    from avgen.cli.train import quiet_known_warnings
    from avgen.data.datamodule import LatentDataModule
    from avgen.training.callbacks import ExportWeights, Throughput
    from avgen.training.ema import EMA
    from avgen.training.joint import JointTraining

    quiet_known_warnings()
    seed_everything(0, verbose=False)
    trainer = Trainer(
        max_steps=2, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        enable_checkpointing=False, logger=False, log_every_n_steps=1,
        callbacks=[
            EMA(decay=0.5),
            Throughput(every_n_steps=1),
            EvaluateClips(2, codecs=folder, worlds=("bounce",), count=2, steps=1, folder=str(out / "eval")),
            ExportWeights(str(out / "model.safetensors")),
        ],
    )  # fmt: skip
    trainer.fit(
        JointTraining(init_from=folder),
        LatentDataModule([str(data)], batch_size=2, val_fraction=0.0),
    )
    assert {"eval/worlds/world.sound_f1_60ms", "speed/mfu", "train/loss_video"} <= set(
        trainer.callback_metrics
    )


@pytest.mark.filterwarnings("ignore")
def test_from_worlds_to_a_clip(folder, data, tmp_path, monkeypatch, capsys):
    train(folder, data, tmp_path)
    assert (tmp_path / "eval" / "step-000002" / "result.json").is_file()
    for name in ("video_vae.safetensors", "audio_codec.safetensors"):
        shutil.copy(Path(folder) / name, tmp_path)
    AVPipeline.from_pretrained(tmp_path)
    out = tmp_path / "out.mp4"
    command = [
        "generate",
        "a red ball",
        "--event",
        "0.4",
        "it hits",
        "--weights",
        str(tmp_path),
        "--steps",
        "1",
    ]
    assert main([*command, "-o", str(out)]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["eval", str(out), "--cache", str(tmp_path / "cache")]) == 0
    assert (tmp_path / "eval_out" / "result.json").is_file()


def test_generate_from_a_caption_file_continues_and_adds_sound(folder, tmp_path, capsys):
    from avgen.caption import Event, TimedCaption
    from avgen.clip import Clip

    caption = TimedCaption(
        duration_us=520_000, text="a ball", events=(Event.at(0.1, 0.2, "it hits", "visual"),)
    )
    caption.save(tmp_path / "c.vtt")
    first, longer, dubbed = (str(tmp_path / name) for name in ("a.mp4", "b.mp4", "c.mp4"))
    common = ["--weights", folder, "--steps", "1"]
    assert (
        main(
            [
                "generate",
                "--caption",
                str(tmp_path / "c.vtt"),
                "--duration",
                "0.52",
                *common,
                "-o",
                first,
            ]
        )
        == 0
    )
    assert Clip.open(first).caption.events[0].text == "it hits"
    assert (
        main(["generate", "more", "--prefix", first, "--duration", "1", *common, "-o", longer]) == 0
    )
    assert Clip.open(longer).duration == pytest.approx(1.0, abs=0.002)
    even = [*common, "--no-keep-given", "-o", longer]
    assert main(["generate", "more", "--prefix", first, "--duration", "1", *even]) == 0
    assert main(["generate", "other sound", "--video", first, *common, "-o", dubbed]) == 0
    assert Clip.open(dubbed).request["given"] == "video"
    assert main(["generate", "x", "--video", str(tmp_path / "none.mp4"), *common]) == 1
    assert "none.mp4" in capsys.readouterr().err
