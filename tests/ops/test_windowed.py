"""Windowed attention is the dense mask, at a cost that grows with the length and not with its square."""

import pytest
import torch

from avgen.ops.attention import attend
from avgen.ops.windowed import SHORTEST_CHUNK, Times, Windowed, dense_mask, windows


def times(*clips: torch.Tensor, packed: bool = False) -> Times:
    """One clip per row with padding at the end, or all clips in one row."""
    seconds = torch.nn.utils.rnn.pad_sequence(list(clips), True, torch.inf)
    lengths = torch.tensor([len(clip) for clip in clips])
    if packed:
        return Times(seconds, lengths.cumsum(0) - lengths, int(lengths.sum()))
    return Times(seconds, seconds.shape[1] * torch.arange(len(clips)), seconds.numel())


def every(step: float, duration: float, repeat: int = 1, start: float = 0.0) -> torch.Tensor:
    """Centres of tokens ``step`` seconds apart, ``repeat`` of them at each time."""
    count = round(duration / step)
    return (start + step * (torch.arange(count) + 0.5)).repeat_interleave(repeat)


def heads(rows: int, count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, count, 2, 8, generator=generator, requires_grad=True)


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    scores = torch.einsum("bmhk,bnhk->bhmn", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~keep[:, None], -torch.inf).softmax(-1)
    return torch.einsum("bhmn,bnhk->bmhk", weights, v)


def plan(queries: Times, keys: Times, seconds: float) -> Windowed:
    found = windows(queries, keys, seconds)
    assert found is not None
    return found


@pytest.mark.parametrize("backend", ["sdpa", "plain"])
@pytest.mark.parametrize("window", [0.1, 0.5, 1.3, 3.7])
@pytest.mark.parametrize(
    ("queries", "keys"),
    [
        (every(0.04, 4.0), every(0.04, 4.0)),
        (every(0.04, 4.0), every(0.16, 4.0, repeat=6)),
        (every(0.16, 4.0, repeat=6), every(0.04, 4.0)),
        (every(0.04, 4.0, start=590.0), every(0.16, 4.0, repeat=3, start=590.0)),
        (
            torch.rand(50, generator=torch.Generator().manual_seed(1)).mul(4).sort()[0],
            every(0.1, 4),
        ),
    ],
)
def test_it_equals_the_dense_mask_in_value_and_gradient(queries, keys, window, backend):
    at, of = times(queries, queries), times(keys, keys)
    q, k, v = heads(2, len(queries), 0), heads(2, len(keys), 1), heads(2, len(keys), 2)
    expected = dense(q, k, v, dense_mask(at, of, window))
    read = attend(q, k, v, plan(at, of, window), backend=backend)
    assert torch.allclose(read, expected, atol=1e-5)
    direction = torch.randn(read.shape, generator=torch.Generator().manual_seed(3))
    grads = [torch.autograd.grad(x, (q, k, v), direction) for x in (read, expected)]
    for ours, theirs in zip(*grads, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_clips_of_different_length_read_themselves_only(packed):
    ends = (5.0, 2.4, 0.4)
    clips = [(every(0.04, end), every(0.16, end, repeat=4)) for end in ends]
    at, of = (times(*side, packed=packed) for side in zip(*clips, strict=True))
    rows = 1 if packed else len(clips)
    q, k, v = (heads(rows, t.rows // rows, i) for i, t in enumerate((at, of, of)))
    read = attend(q, k, v, plan(at, of, 0.5)).flatten(0, 1)
    flat = [x.flatten(0, 1) for x in (q, k, v)]
    for i, (own_q, own_k) in enumerate(clips):
        mine = slice(int(at.start[i]), int(at.start[i]) + len(own_q))
        its = slice(int(of.start[i]), int(of.start[i]) + len(own_k))
        keep = dense_mask(times(own_q), times(own_k), 0.5)
        alone = dense(flat[0][None, mine], flat[1][None, its], flat[2][None, its], keep)
        assert torch.allclose(read[mine], alone[0], atol=1e-5)
    grads = torch.autograd.grad(read.square().sum(), (q, k, v))
    assert all(bool(grad.isfinite().all()) for grad in grads)


def test_a_window_as_long_as_the_clip_is_full_attention():
    at, of = times(every(0.04, 4.0)), times(every(0.16, 4.0, repeat=4))
    assert windows(at, of, 4.0) is None
    nearly = plan(at, of, 3.8)
    q, k, v = heads(1, 100, 0), heads(1, 100, 1), heads(1, 100, 2)
    full = attend(q, k, v, backend="sdpa")
    middle = slice(45, 55)
    assert torch.allclose(attend(q, k, v, nearly)[:, middle], full[:, middle], atol=1e-5)
    assert not torch.allclose(attend(q, k, v, nearly)[:, :2], full[:, :2], atol=1e-4)


@pytest.mark.parametrize("window", [0.2, 2.0])
def test_the_cost_grows_with_the_length_and_the_window(window):
    scores = {}
    for minutes in (1, 2, 4):
        clip = times(every(0.04, 60.0 * minutes))
        scores[minutes] = plan(clip, clip, window).keep.numel()
        ideal = clip.rows * 25 * 2 * max(window, SHORTEST_CHUNK / 2)
        assert scores[minutes] <= 2.1 * ideal
    assert scores[2] / scores[1] == pytest.approx(2, rel=0.05)
    assert scores[4] / scores[2] == pytest.approx(2, rel=0.05)


def test_a_key_on_the_edge_is_read_wherever_the_clip_lies():
    for start in (0.0, 0.33, 599.0):
        clip = times(every(0.04, 3.0, start=start))
        keep = dense_mask(clip, clip, 0.4)[0]
        assert keep.sum(1).max() == 21
        assert keep[30].sum() == 21


@pytest.mark.parametrize(
    ("queries", "keys", "told"),
    [
        (
            times(every(0.04, 4.0)),
            times(every(0.16, 4.0)),
            r"window of 0.05 s: the query at .* s has no key in it, the nearest is 0.060 s away; use",
        ),
        (times(every(0.04, 4.0)), times(torch.tensor([0.1, 0.3, 0.2])), "keys of clip 0 go back"),
        (times(torch.tensor([3.0, 0.2])), times(every(0.04, 4.0)), "from 3.000 s to 0.200 s"),
        (times(torch.ones(2), torch.ones(3)), times(torch.ones(2)), "2 clips over the keys of 1"),
    ],
)
def test_what_cannot_be_windowed_says_why(queries, keys, told):
    with pytest.raises(ValueError, match=told):
        windows(queries, keys, 0.05)
