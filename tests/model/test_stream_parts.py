"""A stream cut into the slices that processes hold."""

from dataclasses import fields

import pytest
import torch

from avgen.model.inputs import StreamInput
from avgen.ops.context_parallel import ContextParallel, check_size


def stream(lengths: tuple[int, ...] | None, rows: int, count: int, shared: bool) -> StreamInput:
    generator = torch.Generator().manual_seed(count)
    return StreamInput(
        torch.randn(rows, count, 3, generator=generator),
        torch.rand(rows, 1 if shared else count, generator=generator),
        torch.rand(rows, count, 2, generator=generator),
        torch.rand(rows, count, 2, generator=generator),
        lengths,
    )


def spans(size: int, count: int) -> list[tuple[int, int]]:
    group: torch.distributed.ProcessGroup = None  # type: ignore[assignment]
    return [ContextParallel(group, rank, size).span(count) for rank in range(size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 6, 11])
def test_shares_follow_each_other_and_differ_by_one_at_most(size: int, count: int):
    cut = spans(size, count)
    assert [a for a, _ in cut] == [0, *(b for _, b in cut[:-1])]
    assert cut[-1][1] == count
    sizes = {b - a for a, b in cut}
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= -(-count // size)


@pytest.mark.parametrize(
    ("lengths", "rows"), [(None, 2), ((11, 4), 2), ((2, 6, 3), 1)], ids=["full", "padded", "packed"]
)
@pytest.mark.parametrize("shared", [True, False])
def test_parts_put_together_are_the_whole(lengths, rows: int, shared: bool):
    whole = stream(lengths, rows, 11, shared)
    parts = [whole.part(*span) for span in spans(3, 11)]
    assert all(part.packed == whole.packed for part in parts)
    for field in fields(StreamInput):
        pieces = [getattr(part, field.name) for part in parts]
        if field.name == "lengths":
            together = None if lengths is None else tuple(map(sum, zip(*pieces, strict=True)))
            assert together == lengths
        elif field.name == "sigma" and shared:
            assert all(torch.equal(piece, whole.sigma) for piece in pieces)
        else:
            assert torch.equal(torch.cat(pieces, dim=1), getattr(whole, field.name))


@pytest.mark.parametrize(("size", "world"), [(0, 4), (-1, 4), (3, 4), (2, 1)])
def test_a_size_that_does_not_divide_is_refused(size: int, world: int):
    with pytest.raises(ValueError, match=f"context_parallel {size} does not divide the {world} "):
        check_size(size, world)
