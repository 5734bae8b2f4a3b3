"""What latents in eight bits cost when they are decoded, measured on clips of the dataset."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from avgen.clip import Clip
from avgen.data.quantise import LatentDtype, restored, stored
from avgen_data_prep.encode import LatentEncoder

MEASURED_CLIPS = 8


@torch.inference_mode()
def decode_loss(
    encoder: LatentEncoder, clips: Sequence[Clip], dtype: LatentDtype
) -> dict[str, dict[str, float]]:
    """Peak signal-to-noise ratio after decoding, with latents in float16 and in ``dtype``.

    Args:
        encoder: The codecs.
        clips: A few clips of the dataset, at the codecs' rates.
        dtype: How the dataset stores latents.

    Returns:
        Per stream ``psnr_db`` of the decoded float16 latents against the clip (peak: the full range
        of a picture or waveform), ``psnr_drop_db`` by which ``dtype`` lowers it, and the number of
        ``clips``.
    """
    errors: dict[str, list[tuple[float, float]]] = {}
    for clip, latents in zip(clips, encoder.encode(clips), strict=True):
        exact, rounded = (restored(load(save(stored(latents, d)))) for d in ("float16", dtype))
        for name, target in _targets(encoder, clip).items():
            pair = [_mean_square(encoder, name, kind[name], target) for kind in (exact, rounded)]
            errors.setdefault(name, []).append((pair[0], pair[1]))
    return {name: _told(pairs) for name, pairs in sorted(errors.items())}


def _targets(encoder: LatentEncoder, clip: Clip) -> dict[str, Tensor]:
    """What decoding should give, in [-1, 1]: ``(3, F, H, W)`` and ``(1, S)``."""
    targets: dict[str, Tensor] = {}
    if encoder.video and clip.frames is not None:
        frames = torch.from_numpy(np.ascontiguousarray(clip.frames))
        targets["video"] = frames.permute(3, 0, 1, 2).float() / 127.5 - 1
    if encoder.audio and clip.waveform is not None:
        waveform = torch.from_numpy(np.ascontiguousarray(clip.waveform, dtype=np.float32))
        targets["audio"] = waveform.mean(0, keepdim=True)
    return targets


def _mean_square(encoder: LatentEncoder, name: str, latents: Tensor, target: Tensor) -> float:
    codec = encoder.video if name == "video" else encoder.audio
    assert codec is not None
    decoded = codec.decode(latents[None])[0].clamp(-1, 1)
    if name == "audio":
        decoded = decoded.mean(0, keepdim=True)[:, : target.shape[1]]
    return float((decoded - target).double().square().mean())


def _told(pairs: list[tuple[float, float]]) -> dict[str, float]:
    exact, rounded = (
        10 * math.log10(4 / max(sum(p) / len(p), 1e-10)) for p in zip(*pairs, strict=True)
    )
    return {
        "psnr_db": round(exact, 3),
        "psnr_drop_db": round(exact - rounded, 4),
        "clips": len(pairs),
    }
