from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_trainer import process

from avgen.data.batch import AVBatch, PackedBatch
from avgen.data.datamodule import LatentDataModule
from avgen.data.sampler import Draw, Group, PureSampler
from avgen.data.schema import DatasetError
from avgen.data.shards import Example

FRAMES = dict.fromkeys(range(14), 9) | dict.fromkeys(range(14, 25), 5) | dict.fromkeys((25, 26), 13)


@pytest.fixture
def folder(make_dataset: Callable[..., Path], make_example: Callable[..., Example]) -> str:
    """Clips of three lengths, of one of them fewer than a batch of four."""
    return str(make_dataset([make_example(n, frames=f) for n, f in FRAMES.items()]))


def module_of(folder: str, **options) -> LatentDataModule:
    return LatentDataModule([folder], **({"batch_size": 4, "val_fraction": 0.0} | options))


def steps(module: LatentDataModule, first: int = 0, count: int | None = None) -> list:
    """Batches of the steps from ``first`` on, over the ends of epochs."""
    loader, found = module.train_dataloader(), []
    while count is None or len(found) < count:
        loader.load_state_dict({"step": first + len(found)})
        found += list(loader)
        if count is None:
            break
    return found[:count]


def content(batch: AVBatch | PackedBatch) -> list[tuple]:
    return [
        (part.step, part.ids, [c.text for c in part.captions], part.duration, part.video.tolist())
        for part in batch.parts
        if part.video is not None
    ]


def test_a_step_is_so_many_consecutive_batches(folder: str) -> None:
    packed = steps(module_of(folder, pack=3), count=5)
    alone = steps(module_of(folder), count=15)
    assert all(isinstance(batch, PackedBatch) for batch in packed)
    assert [part for batch in packed for part in content(batch)] == [
        part for batch in alone for part in content(batch)
    ]
    assert [len(batch) for batch in packed] == [
        sum(len(batch) for batch in alone[i : i + 3]) for i in range(0, 15, 3)
    ]
    assert [batch.step for batch in packed] == [0, 3, 6, 9, 12]
    shapes = [{part.duration for part in batch.parts} for batch in packed]
    assert max(len(durations) for durations in shapes) > 1  # else nothing here needs packing


def test_a_packed_step_is_a_function_of_the_seed_and_its_number() -> None:
    def sampler(seed: int = 5, **options) -> PureSampler:
        groups = [Group(range(40), 40.0), Group(range(40, 63), 23.0)]
        return PureSampler(groups, 8, seed=seed, pack=4, **options)

    forward = [sampler().batch(step) for step in range(9)]
    assert forward == [sampler().batch(step) for step in reversed(range(9))][::-1]
    assert forward != [sampler(seed=6).batch(step) for step in range(9)]
    resumed = sampler()
    resumed.load_state_dict({"step": 4})
    assert next(iter(resumed)) == forward[4]
    draws = [draw for step in forward for draw in step]
    assert len({(draw.step, draw.slot) for draw in draws}) == len(draws) == 9 * 4 * 8


@pytest.mark.parametrize(("pack", "length"), [(1, 8), (2, 4), (3, 3), (8, 1), (20, 1)])
def test_an_epoch_ends_with_the_step_that_completes_it(pack: int, length: int) -> None:
    sampler = PureSampler([Group(range(64), 1.0)], 8, pack=pack)
    assert len(list(sampler)) == len(sampler) == length
    given = PureSampler([Group(range(64), 1.0)], 8, pack=pack, steps_per_epoch=5)
    assert len(list(given)) == len(given) == 5


@pytest.mark.parametrize("pack", [2, 3, 5])
def test_every_example_once_per_round(pack: int) -> None:
    """Eight batches deal 64 examples once, whatever steps they are packed in."""
    sampler = PureSampler([Group(range(40), 40.0), Group(range(40, 64), 24.0)], 8, pack=pack)
    draws = [draw for step in range(8 * pack) for draw in sampler.batch(step)]
    assert len(draws) == 8 * pack * pack * 8
    for epoch in range(pack * pack):
        dealt = [draw.example for draw in draws if draw.step // 8 == epoch]
        assert sorted(dealt) == list(range(64))


def test_weights_set_the_shares_of_the_batches(
    make_dataset: Callable[..., Path], make_example: Callable[..., Example]
) -> None:
    large = make_dataset([make_example(n) for n in range(40)], "large")
    small = make_dataset([make_example(n, frames=5) for n in range(100, 110)], "small")
    module = LatentDataModule(
        [str(large), str(small)],
        weights=[1, 3],
        batch_size=5,
        val_fraction=0,
        steps_per_epoch=10,
        pack=4,
    )
    batches = steps(module)
    kinds = Counter(part.ids[0] >= "e100" for batch in batches for part in batch.parts)
    assert len(batches) == 10
    assert kinds == {True: 30, False: 10}


@pytest.mark.parametrize("options", [{"num_workers": 1}, {"read_ahead_bytes": 0}])
def test_resumed_inside_an_epoch_with_another_loader(folder: str, options: dict) -> None:
    whole = steps(module_of(folder, pack=2), count=9)
    resumed = steps(module_of(folder, pack=2, **options), first=3, count=6)
    assert [content(batch) for batch in resumed] == [content(batch) for batch in whole[3:]]


def test_another_number_of_ranks_goes_on_with_the_same_examples(folder: str) -> None:
    def modules(ranks: int) -> list[LatentDataModule]:
        found = [module_of(folder, batch_size=8 // ranks, pack=3) for _ in range(ranks)]
        for rank, module in enumerate(found):
            module.trainer = process(rank, ranks)
        return found

    def drawn(samplers: list[PureSampler], step: int) -> set[Draw]:
        return {(draw.step, draw.example) for s in samplers for draw in s.batch(step)}  # type: ignore[misc]

    alone = modules(1)
    for ranks in (2, 4):
        several = modules(ranks)
        samplers = [module.sampler() for module in several]
        for step in range(2, 12):
            assert drawn(samplers, step) == drawn([alone[0].sampler()], step)
            assert len({len(sampler.batch(step)) for sampler in samplers}) == 1
        assert several[0].state_dict() == alone[0].state_dict()


def test_validation_is_not_packed(folder: str) -> None:
    packed, alone = (
        [content(batch) for batch in module_of(folder, pack=k, val_fraction=0.4).val_dataloader()]
        for k in (3, 1)
    )
    assert packed == alone
    assert all(len(batch) == 1 for batch in packed)


def test_a_packed_batch_moves_as_one(folder: str) -> None:
    module = module_of(folder, pack=2, modalities=["video", "codes"])
    moved = steps(module, count=1)[0].to(torch.float64)
    assert isinstance(moved, PackedBatch)
    assert [part.video.dtype for part in moved.parts] == [torch.float64] * 2  # type: ignore[union-attr]
    assert [part.codes.dtype for part in moved.parts] == [torch.int64] * 2  # type: ignore[union-attr]


def test_images_of_clips_of_different_length_are_packed(folder: str) -> None:
    module = module_of(folder, pack=2, modalities=["video"], first_frame_only=True)
    for batch in steps(module):
        assert {part.duration for part in batch.parts} == {1 / 25}
        assert {part.streams for part in batch.parts} == {("video",)}


def test_another_pack_is_refused_on_resume(folder: str) -> None:
    state = module_of(folder, pack=2).state_dict()
    module_of(folder, pack=2).load_state_dict(state)
    for pack in (1, 3):
        with pytest.raises(DatasetError, match=r"batch size, pack, .*cannot go on exactly"):
            module_of(folder, pack=pack).load_state_dict(state)


def test_less_than_one_is_refused(folder: str) -> None:
    with pytest.raises(ValueError, match="pack 0: give 1, or more batches"):
        module_of(folder, pack=0)
    with pytest.raises(ValueError, match="pack 0: a step needs at least 1 batch"):
        PureSampler([Group(range(4), 1.0)], 2, pack=0)


def test_clips_that_lack_a_stream_are_refused_before_training(
    make_dataset: Callable[..., Path], make_example: Callable[..., Example]
) -> None:
    both = str(make_dataset([make_example(n) for n in range(6)], "both"))
    silent = str(make_dataset([make_example(n, audio=False) for n in range(6, 11)], "silent"))

    def module(pack: int, modalities: tuple[str, ...] = ("video", "audio")) -> LatentDataModule:
        return LatentDataModule(
            [both, silent],
            batch_size=2,
            pack=pack,
            val_fraction=0,
            modalities=modalities,  # type: ignore[arg-type]
        )

    with pytest.raises(DatasetError) as error:
        module(2).train_dataloader()
    for words in (
        "pack 2 needs clips that all hold the same of ['video', 'audio']",
        f"6 clips with video and audio (first in {both})",
        f"5 clips with video (first in {silent})",
        "give `modalities` that all clips hold",
    ):
        assert words in str(error.value)
    assert len(steps(module(1))) == 6
    assert all(len(batch) == 4 for batch in steps(module(2, ("video",))))


def test_a_packed_batch_holds_parts_of_the_same_streams(folder: str) -> None:
    first, second = steps(module_of(folder))[:2]
    with pytest.raises(ValueError, match=rf"'{first.ids[0]}' has video and audio and .* video;"):
        PackedBatch((first, replace(second, audio=None)))
    with pytest.raises(ValueError, match="no parts"):
        PackedBatch(())
