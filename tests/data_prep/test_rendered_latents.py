"""Rendered while training: the same latents as from files, every clip once, resumed and shared out exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from avgen_data_prep import rendered_latents
from avgen_data_prep.build import build
from avgen_data_prep.encode import Weights
from avgen_data_prep.from_worlds import WorldSource
from avgen_data_prep.rendered_latents import RenderedLatents
from fake_trainer import process
from lightning import Trainer

from avgen.data.batch import AVBatch, Share
from avgen.data.dataset import LatentDataset
from avgen.data.schema import DatasetError
from avgen.data.sharing import shares
from avgen.training.joint import JointTraining


def small(worlds: tuple[str, ...] = ("bounce", "drums"), **changes: object) -> RenderedLatents:
    options = {"batch_size": 4, "duration": 0.52, "size": 32, "num_workers": 0} | changes
    return RenderedLatents(worlds, **options)  # pyright: ignore[reportArgumentType]


def seen(batch: AVBatch) -> tuple[object, ...]:
    assert batch.audio is not None
    return batch.step, batch.ids, batch.captions, batch.audio.tolist()


def test_latents_are_those_that_avgen_prep_writes(tmp_path: Path) -> None:
    data = small(modalities=["video", "audio", "codes"])
    batch = data.stream.batch(3)
    for row, draw in enumerate(data.stream.draws(3)):
        source = WorldSource(
            worlds=(draw.world,),
            count=1,
            seed_start=draw.seed,
            duration=0.52,
            size=32,
            weights=Weights.find(),
        )
        build(tmp_path / batch.ids[row], source)
        kept = LatentDataset(tmp_path / batch.ids[row])
        example = kept[0]
        assert (example["id"], example["fps"]) == (batch.ids[row], batch.fps)
        assert batch.duration == pytest.approx(example["duration"])
        assert batch.captions[row] in example["captions"]
        for name in ("video", "audio", "codes"):
            ours, theirs = getattr(batch, name), example[name]
            assert ours is not None
            assert theirs is not None
            # Convolutions over batches of another size round otherwise.
            torch.testing.assert_close(ours[row], theirs, atol=2e-2, rtol=1e-2)
        assert (data.video_codec, data.audio_codec) == (
            kept.info.video_codec,
            kept.info.audio_codec,
        )


def test_every_seed_comes_once_before_any_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered_latents, "HELD_OUT_SEED", 48)
    stream = small(batch_size=8).stream
    seeds = [draw.seed for step in range(12) for draw in stream.draws(step)]
    assert sorted(seeds[:48]) == list(range(48)) != seeds[:48]
    assert seeds[48:] == seeds[:48]
    assert [draw.seed for draw in small(batch_size=8, seed=1).stream.draws(0)] != seeds[:8]


def test_worlds_and_captions_are_drawn_by_their_weights() -> None:
    draws = small(weights=[3.0, 1.0], batch_size=512).stream.draws(0)
    assert 350 < sum(draw.world == "bounce" for draw in draws) < 418
    assert 0.45 < sum(draw.caption for draw in draws) / 512 < 0.55


@pytest.mark.parametrize(("ranks", "turns", "context"), [(4, 1, 1), (1, 4, 1), (4, 2, 2)])
def test_processes_and_turns_make_up_one_batch(ranks: int, turns: int, context: int) -> None:
    parts = [shares(process(rank, ranks, turns, context)) for rank in range(ranks)]
    whole = small(batch_size=8).stream.draws(5)
    stream = small(batch_size=2).stream
    rows = {share: stream.draws(5, share) for part in parts for share in part}
    assert len(rows) == 4
    assert [rows[Share(row % 4, 4)][row // 4] for row in range(8)] == whole
    for rank in range(0, ranks, context):
        assert all(parts[rank + other] == parts[rank] for other in range(context))


def test_batches_of_a_process_are_its_turns_step_by_step() -> None:
    data = small(batch_size=2, modalities=["audio"])
    data.trainer = process(1, 2, turns=2)
    batches = data.train_dataloader().dataset
    for number, (step, place) in enumerate([(0, 1), (0, 3), (1, 1), (1, 3)]):
        batch = batches[number]
        assert (batch.step, batch.share) == (step, Share(place, 4))
        assert batch.ids == data.stream.batch(step, Share(place, 4)).ids


def test_a_codec_that_is_not_needed_is_not_loaded() -> None:
    data = small(modalities=["codes"])
    batch = data.stream.batch(0)
    assert data.video_codec is None
    assert batch.streams == ("codes",)
    data = small(modalities=["video"])
    assert data.audio_codec is None
    assert data.stream.batch(0).streams == ("video",)


def test_validation_holds_the_same_unseen_clips() -> None:
    data = small(val_clips_per_world=3, modalities=["audio"])
    names = [name for batch in data.val_dataloader() for name in batch.ids]
    assert names == [f"{w}-{1_000_000 + i}" for w in ("bounce", "drums") for i in range(3)]
    assert names == [name for batch in data.val_dataloader() for name in batch.ids]


class Watched(JointTraining):
    """Notes what it is trained on; stops with an exception in the step ``fails_at``."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__(preset_name="nano", streams=["audio"])
        self.fails_at = fails_at
        self.seen: list[tuple[object, ...]] = []

    def training_step(self, batch: AVBatch, batch_idx: int) -> torch.Tensor:  # type: ignore[override]
        if batch.step == self.fails_at:
            raise KeyboardInterrupt
        self.seen.append(seen(batch))
        return super().training_step(batch, batch_idx)


def run(
    data: RenderedLatents,
    *,
    fails_at: int | None = None,
    save: Path | None = None,
    resume: Path | None = None,
    **options: Any,
) -> list[tuple[object, ...]]:
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        **options,
    )
    module = Watched(fails_at)
    try:
        trainer.fit(module, data, ckpt_path=resume)
    except (KeyboardInterrupt, SystemExit):
        assert fails_at is not None
    if save is not None:
        trainer.save_checkpoint(save)
    return module.seen


LIGHTNING = (
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:.*(does not have many workers|You have overridden|not be as efficient)",
    "ignore:.*(Detected KeyboardInterrupt|logging interval)",
)


@pytest.mark.filterwarnings(*LIGHTNING)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_run_sees_what_one_run_would_have_seen(tmp_path: Path, num_workers: int) -> None:
    options: dict[str, Any] = {
        "batch_size": 2,
        "modalities": ["audio"],
        "num_workers": num_workers,
    }
    whole = run(small(**options), max_steps=4)
    assert [step for step, *_ in whole] == [0, 1, 2, 3]
    first = run(small(**options), max_steps=4, fails_at=2, save=tmp_path / "broken.ckpt")
    assert first == whole[:2]
    assert run(small(**options), max_steps=4, resume=tmp_path / "broken.ckpt") == whole[2:]


@pytest.mark.filterwarnings(*LIGHTNING)
def test_another_epoch_has_other_clips_and_another_run_is_refused(tmp_path: Path) -> None:
    data = small(batch_size=2, modalities=["audio"])
    epochs = run(data, max_steps=4, limit_train_batches=2, save=tmp_path / "end.ckpt")
    assert epochs == run(small(batch_size=2, modalities=["audio"]), max_steps=4)
    with pytest.raises(DatasetError, match="clips differ from those of the checkpoint at step 4"):
        run(
            small(batch_size=2, modalities=["audio"], seed=1),
            max_steps=6,
            resume=tmp_path / "end.ckpt",
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [1.0]}, "one positive number for each of 2 worlds"),
        ({"worlds": ("bounce", "mars")}, r"worlds \['mars'\]: choose from bounce, drums"),
        ({"worlds": ("drums", "drums")}, "name each once; `weights` draw one more often"),
        ({"size": 36}, "no multiple of the video codec's"),
        ({"size": 8}, "size 8 is below 16"),
        ({"duration": 0.3}, "duration 0.3 s"),
        ({"batch_size": 0}, "batch_size 0: give at least 1"),
        ({"modalities": []}, "give at least one of video, audio, codes"),
        ({"modalities": ["smell"]}, r"modalities \['smell'\]"),
        ({"codecs": "no-such-folder"}, "no-such-folder: holds no video_vae.safetensors"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_rendered(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)
