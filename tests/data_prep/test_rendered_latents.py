"""Rendered while training: the same latents as from files, every clip once, resumed and shared out exactly."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from avgen_data_prep.build import build
from avgen_data_prep.encode import Weights
from avgen_data_prep.from_worlds import WorldSource
from avgen_data_prep.rendered_latents import RenderedBatches, RenderedLatents
from lightning import Trainer

from avgen.data.batch import AVBatch, Share
from avgen.data.dataset import LatentDataset
from avgen.training.joint import JointTraining


def small(**changes: object) -> RenderedLatents:
    options = {"batch_size": 4, "duration": 0.52, "size": 32, "num_workers": 0} | changes
    return RenderedLatents(["bounce", "drums"], **options)  # pyright: ignore[reportArgumentType]


def same(a: AVBatch, b: AVBatch) -> bool:
    assert a.video is not None
    assert b.video is not None
    return a.ids == b.ids and a.captions == b.captions and torch.equal(a.video, b.video)


def test_latents_are_those_that_avgen_prep_writes(tmp_path: Path) -> None:
    batch = small().rendering.training(3)
    assert batch.video is not None
    assert batch.audio is not None
    for row, name in enumerate(batch.ids):
        world, seed = name.split("-")
        source = WorldSource(
            worlds=(world,),
            count=1,
            seed_start=int(seed),
            duration=0.52,
            size=32,
            weights=Weights.find(),
        )
        build(tmp_path / name, source)
        kept = LatentDataset(tmp_path / name)
        example = kept[0]
        assert example["video"] is not None
        assert example["audio"] is not None
        torch.testing.assert_close(batch.video[row], example["video"], atol=2e-2, rtol=1e-2)
        torch.testing.assert_close(batch.audio[row], example["audio"], atol=2e-2, rtol=1e-2)
        assert batch.captions[row] in example["captions"]
        assert (batch.fps, batch.duration) == (example["fps"], pytest.approx(example["duration"]))
        assert small().video_codec == kept.info.video_codec
        assert small().audio_codec == kept.info.audio_codec


def test_no_clip_comes_twice_and_another_seed_is_another_stream() -> None:
    data = small(modalities=["audio"], batch_size=8)
    seeds = [name.split("-")[1] for step in range(6) for name in data.rendering.training(step).ids]
    assert len(set(seeds)) == len(seeds) == 48
    assert all(int(seed) < 1_000_000 for seed in seeds)
    other = small(modalities=["audio"], batch_size=8, seed=1).rendering.training(0)
    assert other.ids != data.rendering.training(0).ids


def test_batches_go_on_anywhere_and_are_shared_out_without_a_change() -> None:
    rendering = small().rendering
    whole = rendering.training(7)
    assert same(whole, next(iter(RenderedBatches(rendering, 7, [0], 1))))
    halves = [
        next(iter(RenderedBatches(small(batch_size=2).rendering, 7, [rank], 2))) for rank in (0, 1)
    ]
    assert [half.ids for half in halves] == [whole.ids[0::2], whole.ids[1::2]]
    assert halves[1].captions == whole.captions[1::2]
    assert halves[1].share == Share(1, 2)
    in_turn = RenderedBatches(small(batch_size=2).rendering, 14, [0, 1], 2)
    assert [b.ids for b in islice(in_turn, 2)] == [half.ids for half in halves]


def test_worlds_are_drawn_by_their_weights() -> None:
    data = small(weights=[3.0, 1.0], modalities=["audio"], batch_size=64)
    worlds = [name.split("-")[0] for name in data.rendering.training(0).ids]
    assert 36 <= worlds.count("bounce") <= 58


def test_modalities_that_are_not_asked_for_are_left_out() -> None:
    batch = small(modalities=["codes"]).rendering.training(0)
    assert batch.streams == ("codes",)
    assert batch.to("cpu").codes is not None


def test_validation_holds_the_same_unseen_clips() -> None:
    batches = list(small(val_clips_per_world=3).val_dataloader())
    names = [name for batch in batches for name in batch.ids]
    assert names == [f"{w}-{1_000_000 + i}" for w in ("bounce", "drums") for i in range(3)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_run_sees_the_batches_that_one_run_would_have_seen(
    tmp_path: Path, num_workers: int
) -> None:
    seen: list[list[str]] = []

    class Watched(JointTraining):
        def training_step(self, batch: AVBatch, batch_idx: int) -> torch.Tensor:  # type: ignore[override]
            seen.append(batch.ids)
            return super().training_step(batch, batch_idx)

    def run(steps: int, resume: Path | None = None) -> list[list[str]]:
        seen.clear()
        trainer = Trainer(
            accelerator="cpu",
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(
            Watched(preset_name="nano"),
            small(batch_size=2, num_workers=num_workers),
            ckpt_path=resume,
        )
        if resume is None:
            trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return list(seen)

    whole, first = run(4), run(2)
    assert first + run(4, tmp_path / "2.ckpt") == whole
    assert len(whole) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [1.0]}, "one positive number for each of 2 worlds"),
        ({"size": 30}, "no multiple of the video codec's"),
        ({"modalities": []}, "no modalities"),
        ({"codecs": "no-such-folder"}, "holds no video_vae.safetensors"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_rendered(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_unknown_worlds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'mars'.*choose from"):
        RenderedLatents(["mars"])
