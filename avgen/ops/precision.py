"""Whether half precision pays on a device."""

import torch


def computes_bfloat16(device: torch.device | str) -> bool:
    """Whether a device multiplies matrices in bfloat16; other processors emulate it, many times slower."""
    kind = torch.device(device).type
    if kind == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return kind == "cuda"
