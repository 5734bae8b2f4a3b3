"""What noise is for a stream, and what its prediction is compared with: continuous latents, or codes.

Letters: B batch, N tokens, A numbers per token, Q codebooks, V codebook entries.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from avgen import flow
from avgen.data.batch import WHOLE, Share
from avgen.model.config import StreamConfig


class Corrupted(NamedTuple):
    """Noisy tokens, what the network should predict, and where that is scored: ``(B, N)``, of codes ``(B, N, Q)``."""

    tokens: Tensor
    target: Tensor
    scored: Tensor


def corrupt(
    stream: StreamConfig,
    clean: Tensor,
    sigma: Tensor,
    given: Tensor,
    generator: torch.Generator,
    share: Share = WHOLE,
) -> Corrupted:
    """Noise at level ``sigma`` ``(B,)``; given tokens ``(N,)`` stay clean and are not scored.

    It is drawn for the whole batch of the step, so that a clip has the same noise however the batch is shared out.
    """
    shape = (len(clean) * share.of, *clean.shape[1:])
    if stream.codebooks:
        chance = share.rows(torch.rand(shape, generator=generator))
        return _mask_codes(stream, clean, sigma, given, chance.to(sigma.device))
    noise = share.rows(torch.randn(shape, generator=generator))
    return _noise_latents(clean, sigma, given, noise.to(clean))


def clip_loss(
    stream: StreamConfig, prediction: Tensor, corrupted: Corrupted, weight: Tensor | None = None
) -> Tensor:
    """Loss of each clip ``(B,)``: mean squared velocity error, or mean cross-entropy, over what is scored.

    ``weight`` ``(B, N)`` makes some latents' tokens count more than others.
    """
    if stream.codebooks:
        flat = F.cross_entropy(
            prediction.float().flatten(0, 2), corrupted.target.flatten(), reduction="none"
        )
        loss = flat.view(corrupted.scored.shape)
    else:
        loss = (prediction.float() - corrupted.target).square().mean(-1)
    scored = corrupted.scored.to(loss) * (1.0 if weight is None else weight)
    return (loss * scored).flatten(1).sum(1) / scored.flatten(1).sum(1).clamp(min=1)


def _noise_latents(clean: Tensor, sigma: Tensor, given: Tensor, noise: Tensor) -> Corrupted:
    noisy = flow.add_noise(clean, noise, sigma[:, None, None].to(clean))
    tokens = torch.where(given[None, :, None], clean, noisy)
    return Corrupted(tokens, flow.velocity(clean, noise), (~given)[None].expand(clean.shape[:2]))


def _mask_codes(
    stream: StreamConfig, clean: Tensor, sigma: Tensor, given: Tensor, chance: Tensor
) -> Corrupted:
    """Each code is masked with probability sigma (masked generative modelling, Chang et al. 2022, arXiv 2202.04200)."""
    masked = (chance < sigma[:, None, None]) & ~given[None, :, None]
    return Corrupted(clean.masked_fill(masked, stream.codebook_size), clean, masked)


def detail_weight(clean: Tensor, share: float) -> Tensor:
    """Weights ``(B, N)`` of mean one: ``share`` of them in proportion to how far a token is from its clip's mean.

    Most of a clip may be background; what differs from it, objects and their colours, would hardly be heard otherwise.
    """
    distance = (clean - clean.mean(1, keepdim=True)).square().mean(-1)
    relative = distance / distance.mean(1, keepdim=True).clamp(min=1e-6)
    return 1 - share + share * relative
