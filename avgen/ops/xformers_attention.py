"""The only file that imports xformers."""

import functools
from typing import Any

import torch
from torch import Tensor

from avgen.ops.attention import Packed, WholeMask


@functools.cache
def unavailable_because() -> str | None:
    """Why xformers cannot serve attention on this machine, or None where it can."""
    try:
        from xformers.ops import fmha
    except Exception as error:
        return f"import failed ({type(error).__name__}: {error})"
    if not torch.cuda.is_available():
        return "no CUDA device"
    operators = (fmha.cutlass.FwOp, fmha.flash.FwOp)
    if not any(operator.is_available() for operator in operators):
        return "none of its CUDA operators is available"
    return None


@functools.lru_cache(maxsize=64)
def _block_diagonal(
    query_lengths: tuple[int, ...], key_lengths: tuple[int, ...], device: torch.device
) -> Any:
    from xformers.ops.fmha.attn_bias import BlockDiagonalMask

    return BlockDiagonalMask.from_seqlens(list(query_lengths), list(key_lengths), device=device)


def xformers_attention(query: Tensor, key: Tensor, value: Tensor, mask: WholeMask = None) -> Tensor:
    """`attend` by ``memory_efficient_attention``; packed sequences become a ``BlockDiagonalMask``.

    A padded batch is packed on the way in, so padded keys are never computed.
    """
    from xformers.ops import memory_efficient_attention

    if mask is None:
        return memory_efficient_attention(query, key, value)
    if isinstance(mask, Packed):
        bias = _block_diagonal(mask.query_lengths, mask.key_lengths, query.device)
        return memory_efficient_attention(query, key, value, attn_bias=bias)
    batch, num_queries = query.shape[:2]
    lengths = tuple(mask.sum(1).tolist())
    bias = _block_diagonal((num_queries,) * batch, lengths, query.device)
    packed = memory_efficient_attention(
        query.flatten(0, 1)[None], key[mask][None], value[mask][None], attn_bias=bias
    )
    return packed.view(query.shape)
