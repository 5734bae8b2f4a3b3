"""Clips generated and scored during training: what is kept and logged, and that the training does not notice."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from avgen_eval.callbacks import EvaluateClips
from avgen_eval.captions import of_dataset, of_file, of_worlds
from avgen_eval.harness.manifest import ManifestError
from avgen_eval.harness.result import read_result
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger

from avgen.caption import Event, TimedCaption
from avgen.cli import main
from avgen.cli.train import quiet_known_warnings
from avgen.clip import Clip
from avgen.data.datamodule import LatentDataModule
from avgen.pipeline import AVPipeline
from avgen.training.ema import EMA
from avgen.training.joint import JointTraining

CAPTION = TimedCaption(
    duration_us=520_000, text="a ball", events=(Event.at(0.1, 0.2, "it hits", "visual"),)
)


@pytest.fixture(scope="module")
def data(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("worlds") / "data"
    command = ["prep", "worlds", str(out), "--world", "bounce", "--count", "4"]
    assert main([*command, "--weights", folder]) == 0
    return out


@pytest.fixture
def prompts(tmp_path) -> str:
    path = tmp_path / "held_out.jsonl"
    rows = [{"id": name, "caption": CAPTION.to_dict(), "seed": 7} for name in ("a", "b/c")]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


class Draws(Callback):
    """Uses the global random numbers as an augmentation would, and keeps them."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.drawn.append(float(torch.rand(())))


def train(folder: str, data: Path, *callbacks: Callback, steps: int = 3, **options) -> Trainer:
    quiet_known_warnings()
    seed_everything(0, verbose=False)
    options = {"logger": False, "max_steps": steps} | options
    trainer = Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        enable_checkpointing=False, log_every_n_steps=1, callbacks=list(callbacks), **options,
    )  # fmt: skip
    module = JointTraining(init_from=folder)
    module.network.text_encoder.eval()  # a part that stays in evaluation mode
    trainer.fit(module, LatentDataModule([str(data)], batch_size=2, val_fraction=0.0))
    return trainer


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    return dict(trainer.lightning_module.state_dict())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("averaged", [False, True])
def test_training_does_not_notice(folder, data, prompts, tmp_path, averaged):
    ema = [EMA(decay=0.5)] if averaged else []
    without, draws = train(folder, data, *ema, plain := Draws()), Draws()
    ema = [EMA(decay=0.5)] if averaged else []
    callback = EvaluateClips(
        1, suite="smoke", captions=prompts, codecs=folder, steps=1, folder=str(tmp_path / "eval")
    )
    with_it = train(folder, data, *ema, draws, callback)
    assert draws.drawn == plain.drawn
    before, after = state(without), state(with_it)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    network = with_it.lightning_module.network
    assert network.model.training
    assert not network.text_encoder.training
    kept = sorted(path.name for path in (tmp_path / "eval").iterdir())
    assert kept == ["step-000001", "step-000002", "step-000003"]


@pytest.mark.filterwarnings("ignore")
def test_results_are_kept_and_every_figure_is_logged(folder, data, tmp_path):
    callback = EvaluateClips(2, codecs=folder, worlds=("bounce",), count=2, steps=1, guidance=3.0)
    logger = CSVLogger(tmp_path / "logs")
    run = train(folder, data, callback, default_root_dir=str(tmp_path), logger=logger)
    result = read_result(tmp_path / "eval" / "worlds" / "step-000002")
    logged = {k: v for k, v in run.callback_metrics.items() if k.startswith("eval/worlds/")}
    expected = {
        f"eval/worlds/{k}": f.value for k, f in result.figures.items() if f.value is not None
    }
    assert logged.pop("eval/worlds/failed") == 0
    assert {name: float(value) for name, value in logged.items()} == pytest.approx(expected)
    assert "eval/worlds/world.objects_visible" in expected
    rows = (tmp_path / "logs").rglob("metrics.csv")
    head, *lines = next(rows).read_text().splitlines()
    assert "eval/worlds/world.objects_visible" in head
    assert (
        sum(line.split(",")[head.split(",").index("eval/worlds/failed")] != "" for line in lines)
        == 1
    )
    clip = Clip.open(result.items()["bounce-1000001"].video)
    assert clip.request["seed"] == 1_000_001
    assert main(["eval", "report", str(result.path), "--html", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text().count("<video") == 2


@pytest.mark.filterwarnings("ignore")
def test_the_averaged_weights_are_used(folder, data, prompts, tmp_path, monkeypatch):
    used = []
    original = AVPipeline.generate

    def look(self, *args, **kwargs):
        used.append(self.network)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(AVPipeline, "generate", look)
    ema = EMA(decay=0.5)
    options = {"suite": "smoke", "captions": prompts, "codecs": folder, "steps": 1}
    train(folder, data, ema, EvaluateClips(2, folder=str(tmp_path / "eval"), **options))
    assert used == [ema.averaged().network]


@pytest.mark.filterwarnings("ignore")
def test_a_clip_that_fails_is_a_finding(folder, data, prompts, tmp_path, monkeypatch):
    original = AVPipeline.generate

    def fail(self, requests, **kwargs):
        if any(request.seed == 8 for request in requests):
            raise RuntimeError("out of memory")
        return original(self, requests, **kwargs)

    monkeypatch.setattr(AVPipeline, "generate", fail)
    path = Path(prompts)
    path.write_text(path.read_text().replace('"seed": 7}', '"seed": 8}', 1))
    options = {"suite": "smoke", "captions": prompts, "codecs": folder, "steps": 1}
    run = train(folder, data, EvaluateClips(3, folder=str(tmp_path / "eval"), **options))
    assert run.global_step == 3
    failed, made = read_result(tmp_path / "eval" / "step-000003").records
    assert failed.failed == "could not be made: RuntimeError: out of memory"
    assert failed.file == ""
    assert not made.failed
    assert run.callback_metrics["eval/smoke/failed"] == 0.5


@pytest.mark.filterwarnings("ignore")
def test_an_evaluation_that_fails_does_not_end_the_training(folder, data, prompts, tmp_path):
    blocked = tmp_path / "eval"
    blocked.write_text("a file where the folder should be")
    options = {"suite": "smoke", "captions": prompts, "codecs": folder, "steps": 1}
    with pytest.warns(UserWarning, match="EvaluateClips failed at step 3") as warned:
        run = train(folder, data, EvaluateClips(3, folder=str(blocked), **options))
    assert run.global_step == 3
    told = [str(w.message) for w in warned if "EvaluateClips failed at step 3" in str(w.message)]
    assert len(told) == 1


@pytest.mark.filterwarnings("ignore")
def test_epochs(folder, data, prompts, tmp_path):
    callback = EvaluateClips(
        every_n_epochs=2, suite="smoke", captions=prompts, codecs=folder, steps=1, folder=str(tmp_path / "eval")
    )  # fmt: skip
    train(folder, data, callback, max_epochs=2, steps=-1)
    assert [path.name for path in (tmp_path / "eval").iterdir()] == ["step-000004"]


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_work_is_refused_at_the_start(folder, data, prompts, tmp_path):
    with pytest.raises(ValueError, match="every_n_steps 0, every_n_epochs 0"):
        EvaluateClips()
    with pytest.raises(ValueError, match="suite 'none' does not exist"):
        EvaluateClips(1, suite="none")
    for options, told in (
        ({"captions": str(tmp_path / "none.jsonl"), "codecs": folder}, "cannot be read"),
        ({"captions": prompts, "codecs": "tiny"}, "codec of 'tiny' is .*, but the training reads"),
        ({"worlds": ("atlantis",), "codecs": folder}, "world 'atlantis' does not exist"),
    ):
        with pytest.raises(ValueError, match=told):
            train(folder, data, EvaluateClips(1, **options))


def test_captions_of_worlds_datasets_and_files(data, prompts, tmp_path):
    world = of_worlds(("bounce", "drums"), 2)
    assert [w.id for w in world] == [
        "bounce-1000000",
        "bounce-1000001",
        "drums-1000000",
        "drums-1000001",
    ]
    assert world[0].truth is not None
    assert world[0].request().seed == 1_000_000
    stored = of_dataset(data, 3)
    assert len(stored) == 3
    assert {w.truth.world for w in stored if w.truth} == {"bounce"}
    assert stored[0].caption.events
    assert (stored[0].height, stored[0].fps) == (64, Fraction(25))
    assert [w.id for w in of_dataset(data, 2)] == [w.id for w in stored[:2]]
    assert len(of_dataset(data, 99)) == 4
    first, second = of_file(Path(prompts), height=32)
    assert (first.caption, first.seed, second.id) == (CAPTION, 7, "b/c")
    assert (first.height, first.width) == (32, 64)
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "x", "video": "x.mp4"}\n')
    with pytest.raises(ManifestError, match="'x' has neither `caption` nor `caption_file`"):
        of_file(bad)
