"""Attention within a window of seconds: a query reads the keys whose centre lies at most so far from its own.

Queries are cut into chunks of time, and each chunk reads the slice of keys that its windows cover, with the exact
window as a mask inside. All chunks are one batch, so the cost grows with the length of a clip and not with its square.
Letters: B rows, M queries, N keys, H heads, K head width, G clips, C chunks, q queries and n keys of a chunk.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

SLACK = 1e-3
"""Seconds by which a window reaches further, so that rounded times do not decide about a key on its edge."""
SHORTEST_CHUNK = 1.0
"""Seconds; shorter chunks would be matrices too small to be fast."""


class Times(NamedTuple):
    """When the tokens of each clip are, in their order.

    Attributes:
        seconds: ``(G, N)`` centres; infinite after the last token of a clip.
        start: ``(G,)`` where each clip starts among the tokens of all rows.
        rows: Tokens of all rows, padding included.
    """

    seconds: Float[Tensor, "g n"]
    start: Int[Tensor, "g"]
    rows: int


@dataclass(frozen=True)
class Windowed:
    """Which keys each query reads; tokens are counted through all rows.

    Attributes:
        queries: ``(C, q)`` tokens of each chunk.
        keys: ``(C, n)`` tokens that it reads.
        keep: ``(C, q, n)`` True inside the window.
        place: ``(B * M,)`` where the chunks hold each query.
    """

    queries: Int[Tensor, "c q"]
    keys: Int[Tensor, "c n"]
    keep: Bool[Tensor, "c q n"]
    place: Int[Tensor, "_"]


def windowed_attention(
    query: Float[Tensor, "b m h k"],
    key: Float[Tensor, "b n h k"],
    value: Float[Tensor, "b n h k"],
    windows: Windowed,
    inside: Callable[..., Tensor] = F.scaled_dot_product_attention,
) -> Float[Tensor, "b m h k"]:
    """Scaled dot product attention of each query over the keys of its window.

    ``inside`` attends in the chunks, as `torch.nn.functional.scaled_dot_product_attention` does with ``attn_mask``.
    Queries that are padding return what some real query reads: finite, and to be ignored.
    """
    q, k, v = (
        _gather(x, tokens).transpose(1, 2)
        for x, tokens in ((query, windows.queries), (key, windows.keys), (value, windows.keys))
    )
    read = inside(q, k, v, attn_mask=windows.keep[:, None])
    return _gather(read.transpose(1, 2), windows.place).view(query.shape)


def _gather(x: Tensor, tokens: Tensor) -> Tensor:
    """Tokens of ``x`` ``(B, N, ...)`` counted through all rows; the gradient of indexing is slower on a CPU."""
    return x.flatten(0, 1).index_select(0, tokens.flatten()).unflatten(0, tokens.shape)


def dense_mask(queries: Times, keys: Times, seconds: float) -> Bool[Tensor, "g m n"]:
    """Per clip the whole mask of its window: the plain twin of `windows`, quadratic in the length of a clip."""
    away = (queries.seconds[:, :, None] - keys.seconds[:, None]).abs()
    return away <= seconds + SLACK


def windows(queries: Times, keys: Times, seconds: float) -> Windowed | None:
    """What `windowed_attention` reads, or None where the window covers every clip whole.

    Args:
        queries: Times of the queries.
        keys: Times of the keys of the same clips, in the same order.
        seconds: How far from its own centre a query reads, to either side.

    Raises:
        ValueError: Other clips in the keys, tokens that are not in the order of their times, or a query without any
            key in its window.
    """
    _check(queries, keys)
    if _farthest(queries, keys) <= seconds + SLACK:
        return None
    edges = _edges(queries, max(2 * seconds, SHORTEST_CHUNK))
    reach = seconds + SLACK
    q_low, q_high = (torch.searchsorted(queries.seconds, e) for e in _sides(edges))
    q_high[:, -1] = _counts(queries)
    low, high = _sides(edges)
    k_low = torch.searchsorted(keys.seconds, low - reach)
    k_high = torch.searchsorted(keys.seconds, high + reach, right=True)
    clip, chunk = (q_high > q_low).nonzero(as_tuple=True)
    q, q_real = _spans(q_low[clip, chunk], q_high[clip, chunk])
    k, k_real = _spans(k_low[clip, chunk], k_high[clip, chunk])
    away = queries.seconds[clip[:, None], q][:, :, None] - keys.seconds[clip[:, None], k][:, None]
    near = (away.abs() <= reach) & k_real[:, None]
    lonely = q_real & ~near.any(-1)
    if bool(lonely.any()):
        raise ValueError(_lonely(queries, keys, seconds))
    tokens = queries.start[clip, None] + q
    place = torch.zeros(queries.rows, dtype=torch.long, device=q.device)
    place[tokens[q_real]] = torch.arange(q.numel(), device=q.device)[q_real.flatten()]
    # A row of the mask without any key would make its gradients NaN, even where nobody reads the result.
    keep = near | ~q_real[..., None]
    return Windowed(tokens, keys.start[clip, None] + k, keep, place)


def _edges(queries: Times, length: float) -> Float[Tensor, "g e"]:
    """Where the chunks of each clip begin and end."""
    first, last = _ends(queries)
    count = math.floor(float((last - first).max()) / length) + 1
    return first[:, None] + length * torch.arange(count + 1, device=first.device)


def _sides(edges: Tensor) -> tuple[Tensor, Tensor]:
    return edges[:, :-1].contiguous(), edges[:, 1:].contiguous()


def _spans(low: Int[Tensor, "c"], high: Int[Tensor, "c"]) -> tuple[Tensor, Tensor]:
    """Indices from ``low`` to before ``high``, ``(C, longest)``, and which of them are no padding."""
    longest = max(1, int((high - low).max()))
    index = low[:, None] + torch.arange(longest, device=low.device)
    real = index < high[:, None]
    return index.minimum(high[:, None] - 1).clamp(min=0), real


def _counts(times: Times) -> Int[Tensor, "g"]:
    return times.seconds.isfinite().sum(1)


def _ends(times: Times) -> tuple[Tensor, Tensor]:
    """Time of the first and of the last token of each clip."""
    return times.seconds[:, 0], times.seconds.masked_fill(times.seconds.isinf(), -torch.inf).amax(1)


def _farthest(queries: Times, keys: Times) -> float:
    (q_first, q_last), (k_first, k_last) = _ends(queries), _ends(keys)
    return float(torch.maximum(q_last - k_first, k_last - q_first).max())


def _check(queries: Times, keys: Times) -> None:
    if len(queries.seconds) != len(keys.seconds):
        raise ValueError(
            f"windowed attention of {len(queries.seconds)} clips over the keys of {len(keys.seconds)}; "
            "give the same clips in the same order"
        )
    for what, times in (("queries", queries), ("keys", keys)):
        back = times.seconds[:, 1:] < times.seconds[:, :-1]
        if bool(back.any()):
            clip, token = back.nonzero()[0].tolist()
            raise ValueError(
                f"the {what} of clip {clip} go back from {times.seconds[clip, token]:.3f} s to "
                f"{times.seconds[clip, token + 1]:.3f} s; windowed attention needs tokens in the order of their times"
            )


def _lonely(queries: Times, keys: Times, seconds: float) -> str:
    after = torch.searchsorted(keys.seconds, queries.seconds).minimum(_counts(keys)[:, None] - 1)
    around = (after, (after - 1).clamp(min=0))
    gaps = [(keys.seconds.gather(1, at) - queries.seconds).abs() for at in around]
    nearest = torch.minimum(*gaps).masked_fill(queries.seconds.isinf(), 0.0).flatten()
    worst = int(nearest.argmax())
    return (
        f"window of {seconds:g} s: the query at {float(queries.seconds.flatten()[worst]):.3f} s has no key in it, the "
        f"nearest is {float(nearest[worst]):.3f} s away; use a window of at least that"
    )
