"""Attention behind one function, with a table of backends.

Letters: B batch, M queries, N keys, H heads, K head width (the letters of xformers).

Sequences of different length are given either padded (``B`` rows and a mask of the valid keys) or packed
(one row that holds all sequences one after the other, and their lengths). Packed, no padding is computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from avgen.ops.windowed import Windowed, windowed_attention

Backend = Literal["auto", "sdpa", "plain", "xformers"]
PLAIN_UP_TO = 1024
Queries = Float[Tensor, "b m h k"]
Keys = Float[Tensor, "b n h k"]


@dataclass(frozen=True)
class Packed:
    """Lengths of the sequences packed into one row: queries attend to the keys of their own sequence only."""

    query_lengths: tuple[int, ...]
    key_lengths: tuple[int, ...]


WholeMask = Bool[Tensor, "_ _"] | Packed | None
Mask = WholeMask | Windowed


def sdpa_attention(query: Queries, key: Keys, value: Keys, mask: WholeMask = None) -> Queries:
    """The reference: PyTorch's scaled dot product attention, one call per packed sequence."""
    if isinstance(mask, Packed):
        pieces = zip(
            query.split(mask.query_lengths, dim=1),
            key.split(mask.key_lengths, dim=1),
            value.split(mask.key_lengths, dim=1),
            strict=True,
        )
        return torch.cat([sdpa_attention(q, k, v) for q, k, v in pieces], dim=1)
    keep = None if mask is None else mask[:, None, None, :]
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keep).transpose(1, 2)


def plain_attention(query: Queries, key: Keys, value: Keys, mask: WholeMask = None) -> Queries:
    """Attention as two matrix products: on a CPU in bfloat16 its backward is two to four times faster than SDPA's.

    In float32 it is slower, most of all forward. It keeps the ``(B, H, M, N)`` weights, so it is for short sequences.
    """
    if isinstance(mask, Packed):
        return sdpa_attention(query, key, value, mask)
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    return _products(q, k, v, None if mask is None else mask[:, None, None, :]).transpose(1, 2)


def _products(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> Tensor:
    """SDPA of ``(B, H, M, K)`` as two matrix products."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1) @ value


def _xformers(query: Queries, key: Keys, value: Keys, mask: WholeMask = None) -> Queries:
    from avgen.ops.xformers_attention import xformers_attention

    return xformers_attention(query, key, value, mask)


BACKENDS: dict[str, Callable[[Queries, Keys, Keys, WholeMask], Queries]] = {
    "sdpa": sdpa_attention,
    "plain": plain_attention,
    "xformers": _xformers,
}


def resolve_backend(backend: Backend, device: torch.device | str) -> tuple[str, str]:
    """The backend that ``attend`` will use on a device, and why.

    Raises:
        ValueError: An unknown backend, or xformers asked for where it has no operator.
    """
    on_cuda = torch.device(device).type == "cuda"
    if backend in ("sdpa", "plain"):
        return backend, "asked for"
    if backend not in ("auto", "xformers"):
        raise ValueError(
            f"attention backend {backend!r} is unknown; use one of auto, {', '.join(BACKENDS)}"
        )
    if on_cuda:
        from avgen.ops.xformers_attention import unavailable_because

        reason = unavailable_because()
        if reason is None:
            return "xformers", "CUDA device, xformers operators load"
        if backend == "xformers":
            raise ValueError(
                f"attention backend 'xformers' cannot be used: {reason}; use backend='sdpa'"
            )
        return "sdpa", f"xformers is not usable: {reason}"
    if backend == "xformers":
        raise ValueError(
            "attention backend 'xformers' has no operator for the CPU; use backend='auto' or 'sdpa', or a CUDA device"
        )
    return "sdpa", "CPU device: xformers has no CPU operator"


def attend(
    query: Queries, key: Keys, value: Keys, mask: Mask = None, *, backend: Backend = "auto"
) -> Queries:
    """Scaled dot product attention.

    Args:
        query: ``(B, M, H, K)``.
        key: ``(B, N, H, K)``.
        value: ``(B, N, H, K)``.
        mask: None (all keys), ``(B, N)`` True where a key is valid, `Packed` lengths (then B is 1), or `Windowed`.
        backend: ``auto`` takes xformers on CUDA and the SDPA reference elsewhere, except for short sequences in
            bfloat16 on the CPU, where the plain products are faster. Windows are read by SDPA or, likewise, by the
            plain products.

    Returns:
        ``(B, M, H, K)``.
    """
    if isinstance(mask, Windowed):
        plain = backend == "plain" or (backend == "auto" and _plain_is_faster(query, mask.keys))
        inside = _products if plain else F.scaled_dot_product_attention
        return windowed_attention(query, key, value, mask, inside)
    name = resolve_backend(backend, query.device)[0] if backend == "auto" else backend
    if backend == "auto" and _plain_is_faster(query, key):
        name = "plain"
    return BACKENDS[name](query, key, value, mask)


def _plain_is_faster(query: Tensor, keys: Tensor) -> bool:
    short = keys.shape[1] <= PLAIN_UP_TO
    return short and query.dtype == torch.bfloat16 and query.device.type == "cpu"
