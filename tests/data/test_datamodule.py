import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import resume_run
import torch
from fake_trainer import process
from lightning.pytorch.utilities import move_data_to_device

from avgen.data.datamodule import AVBatch, LatentDataModule
from avgen.data.schema import DatasetError
from avgen.data.shards import Example


def batches(module: LatentDataModule) -> list[AVBatch]:
    return list(module.train_dataloader())  # type: ignore[arg-type]


def test_batches_have_one_shape_and_its_rates(dataset: Path) -> None:
    module = LatentDataModule([str(dataset)], batch_size=4, modalities=["video", "audio", "codes"])
    for batch in batches(module):
        assert batch.video is not None
        assert batch.audio is not None
        assert batch.codes is not None
        frames = batch.audio.shape[2]
        assert batch.video.shape == (len(batch), 2, 1 + (frames - 1) // 4, 2, 2)
        assert (batch.video.dtype, batch.codes.dtype) == (torch.float32, torch.int64)
        assert (batch.fps, batch.time_stride, batch.audio_rate) == (25.0, 4, 25.0)
        assert batch.duration == pytest.approx(frames / 25)
        numbers = batch.video[:, 0, 0, 0, 0].tolist()
        assert [f"e{int(number):03d}" for number in numbers] == batch.ids
        texts = [int(caption.text.split()[1]) for caption in batch.captions]
        assert texts == numbers


def test_same_arguments_same_batches(dataset: Path) -> None:
    first, second = (
        [
            (b.ids, [c.text for c in b.captions])
            for b in batches(LatentDataModule([str(dataset)], batch_size=4))
        ]
        for _ in range(2)
    )
    assert first == second
    other = batches(LatentDataModule([str(dataset)], batch_size=4, seed=1))
    assert first != [(b.ids, [c.text for c in b.captions]) for b in other]


def test_loading_leaves_the_global_generator_alone(dataset: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    module = LatentDataModule([str(dataset)], batch_size=4, val_fraction=0.5)
    batches(module)
    list(module.val_dataloader())
    assert torch.equal(torch.rand(4), expected)


def test_paraphrases_are_all_used_and_change_between_epochs(dataset: Path) -> None:
    module = LatentDataModule([str(dataset)], batch_size=4, val_fraction=0)
    sampler = module.sampler()
    seen: dict[str, set[str]] = {}
    loader = module.train_dataloader()
    for epoch in range(12):
        loader.load_state_dict({"step": epoch * len(sampler)})
        for batch in loader:
            for name, caption in zip(batch.ids, batch.captions, strict=True):
                seen.setdefault(name, set()).add(caption.text[0])
    assert all(letters == set("abc") for letters in seen.values())


def test_split_is_disjoint_complete_and_stays_when_data_is_added(
    make_dataset: Callable[..., Path], make_example: Callable[..., Example]
) -> None:
    def split(count: int) -> tuple[set[str], set[str]]:
        folder = make_dataset([make_example(n) for n in range(count)], f"data{count}")
        module = LatentDataModule([str(folder)], batch_size=4, val_fraction=0.3)
        held_out = {name for batch in module.val_dataloader() for name in batch.ids}
        loader = module.train_dataloader()
        trained = set()
        for epoch in range(4):
            loader.load_state_dict({"step": epoch * len(loader)})
            trained |= {name for batch in loader for name in batch.ids}
        return held_out, trained

    small, large = split(20), split(40)
    for held_out, trained in (small, large):
        assert not held_out & trained
        assert 0 < len(held_out) < len(trained)
    assert len(large[0] | large[1]) == 40
    assert small[0] <= large[0]


def test_mixture_weights(
    make_dataset: Callable[..., Path], make_example: Callable[..., Example]
) -> None:
    large = make_dataset([make_example(n) for n in range(40)], "large")
    small = make_dataset([make_example(n) for n in range(100, 110)], "small")
    module = LatentDataModule(
        [str(large), str(small)], weights=[1, 3], batch_size=5, val_fraction=0, steps_per_epoch=40
    )
    from_small = sum(batch.ids[0] >= "e100" for batch in batches(module))
    assert from_small == 30


def test_folders_of_other_codecs_are_refused(
    make_dataset: Callable[..., Path], make_example: Callable[..., Example]
) -> None:
    first = make_dataset([make_example(0)], "first")
    second = make_dataset([make_example(1)], "second", identity="w" * 64)
    with pytest.raises(DatasetError, match="stale"):
        LatentDataModule([str(first), str(second)]).setup()
    LatentDataModule([str(first), str(second)], modalities=["audio"]).setup()
    with pytest.raises(DatasetError, match="stale"):
        LatentDataModule([str(first)], video_identity="w" * 64).setup()


def test_images_are_first_latents_with_captions_of_their_moment(dataset: Path) -> None:
    module = LatentDataModule(
        [str(dataset)], batch_size=4, modalities=["video"], first_frame_only=True, val_fraction=0
    )
    found = batches(module)
    assert sum(len(batch) for batch in found) >= 24
    for batch in found:
        assert batch.video is not None
        assert batch.video.shape[2] == 1
        assert batch.audio is None
        assert batch.codes is None
        assert all(caption.duration_us == 40_000 for caption in batch.captions)
        assert all(not caption.events for caption in batch.captions)


def test_a_stream_not_asked_for_does_not_split_batches(
    make_dataset: Callable[..., Path], make_example: Callable[..., Example]
) -> None:
    examples = [make_example(n, audio=n % 2 == 0) for n in range(8)]
    folder = str(make_dataset(examples))
    video = LatentDataModule([folder], batch_size=8, modalities=["video"], val_fraction=0)
    assert [len(batch) for batch in batches(video)] == [8]
    audio = LatentDataModule([folder], batch_size=8, modalities=["audio"], val_fraction=0)
    assert [len(batch) for batch in batches(audio)] == [4]


def test_batch_moves_with_lightning(dataset: Path) -> None:
    batch = batches(LatentDataModule([str(dataset)], batch_size=4, modalities=["codes"]))[0]
    moved = move_data_to_device(batch, torch.device("cpu"))
    assert moved.codes.equal(batch.codes)
    assert batch.to(torch.bfloat16).codes.dtype == torch.int64  # type: ignore[union-attr]


def test_changed_data_are_refused_on_resume(
    make_dataset: Callable[..., Path], make_example: Callable[..., Example]
) -> None:
    folder = make_dataset([make_example(n) for n in range(8)])
    state = LatentDataModule([str(folder)], batch_size=4).state_dict()
    LatentDataModule([str(folder)], batch_size=4).load_state_dict(state)
    with pytest.raises(DatasetError, match="cannot go on exactly"):
        LatentDataModule([str(folder)], batch_size=2).load_state_dict(state)
    make_dataset([make_example(n) for n in range(1, 9)])
    with pytest.raises(DatasetError, match="cannot go on exactly"):
        LatentDataModule([str(folder)], batch_size=4).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folders": []}, "no folders"),
        ({"folders": ["a"], "weights": [1.0, 2.0]}, "one positive number"),
        ({"folders": ["a"], "val_fraction": 1.0}, "below 1"),
        ({"folders": ["a"], "modalities": ["audio"], "first_frame_only": True}, "needs 'video'"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentDataModule(**arguments)


def test_another_number_of_ranks_goes_on_with_the_same_examples(
    make_dataset: Callable[..., Path], make_example: Callable[..., Example]
) -> None:
    """Buckets of 14, 5 and 3 clips, of which the last two do not fill a batch of 8 over all ranks."""
    lengths = {**dict.fromkeys(range(14), 9), **dict.fromkeys(range(14, 19), 5)}
    lengths |= dict.fromkeys(range(19, 22), 13)
    folder = str(make_dataset([make_example(n, frames=f) for n, f in lengths.items()]))

    def steps(ranks: int, first: int) -> tuple[dict, list[set[int]]]:
        modules = []
        for rank in range(ranks):
            module = LatentDataModule([folder], batch_size=8 // ranks, val_fraction=0)
            module.trainer = process(rank, ranks)
            modules.append(module)
        samplers = [module.sampler() for module in modules]
        found = [
            {draw.example for sampler in samplers for draw in sampler.batch(step)}
            for step in range(first, 20)
        ]
        return modules[0].state_dict(), found

    state, alone = steps(1, 0)
    for ranks in (2, 4, 8):
        other_state, others = steps(ranks, 7)
        assert others == alone[7:]
        assert other_state["fingerprint"] == state["fingerprint"]


def test_sigkill_and_resume_see_the_batches_of_one_run(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed inside an epoch, right after one, and in a later one; losses agree to the last bit.

    The killed runs have other numbers of loader processes than the whole one.
    """

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for the preloaded module
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["resume_run"])

    def run(work: Path, kill_at: int, num_workers: int = 0) -> int | None:
        work.mkdir(exist_ok=True)
        process = context.Process(
            target=resume_run.run, args=(dataset, work, kill_at, 17, num_workers)
        )
        process.start()
        process.join()
        return process.exitcode

    assert run(tmp_path / "whole", -1) == 0
    for kill_at, num_workers in ((3, 0), (6, 2), (13, 1)):
        assert run(tmp_path / "killed", kill_at, num_workers) == -9
    assert run(tmp_path / "killed", -1) == 0
    whole = (tmp_path / "whole" / "log.txt").read_text().splitlines()
    killed = (tmp_path / "killed" / "log.txt").read_text().splitlines()
    assert len(whole) == 17
    assert len(killed) == 17 + 3
    assert list(dict.fromkeys(killed)) == whole
