from dataclasses import replace

import pytest
import torch

from avgen.model.inputs import StreamInput, pack, pad


def rows(count: int, tokens: int, seed: int, *, shared: bool = False) -> StreamInput:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.rand(count, 1 if shared else tokens, generator=generator)
    return StreamInput(
        torch.randn(count, tokens, 4, generator=generator),
        levels,
        torch.rand(count, tokens, 2, generator=generator),
        torch.rand(count, tokens, 2, generator=generator),
    )


def one(stream: StreamInput, row: int) -> StreamInput:
    assert stream.place is not None
    at = slice(row, row + 1)
    return StreamInput(stream.tokens[at], stream.sigma[at], stream.interval[at], stream.place[at])


@pytest.mark.parametrize("join", [pack, pad])
def test_several_rows_are_joined_as_each_of_them(join):
    inputs = [rows(2, 5, 0), rows(1, 3, 1, shared=True), rows(3, 4, 2, shared=True)]
    together = join(inputs)
    apart = join([one(x, i) for x in inputs for i in range(len(x.tokens))])
    assert together.lengths == apart.lengths == (5, 5, 3, 4, 4, 4)
    for name in ("tokens", "sigma", "interval", "place"):
        assert torch.equal(getattr(together, name), getattr(apart, name))


def test_a_packed_row_holds_every_clip_in_order():
    first, second = rows(2, 5, 0), rows(1, 3, 1, shared=True)
    packed = pack([first, second])
    assert packed.packed
    assert torch.equal(packed.tokens[0, 5:10], first.tokens[1])
    assert torch.equal(packed.sigma[0, 10:], second.sigma[0].expand(3))
    flat = pack([replace(first, place=None), replace(second, place=None)])
    assert flat.place is None
    assert torch.equal(flat.interval, packed.interval)


@pytest.mark.parametrize("join", [pack, pad])
def test_what_is_padded_or_packed_is_not_joined_again(join):
    for done in (pack([rows(2, 5, 0)]), pad([rows(1, 5, 0), rows(1, 3, 1)])):
        with pytest.raises(ValueError, match=r"got an input of lengths \[5, .*once"):
            join([done])
