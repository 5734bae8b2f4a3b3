"""Residual vector quantiser with codebooks learned by exponential moving averages.

Shapes: B batch, D dimension, L steps, N vectors, Q codebooks, K entries of a codebook.
Method: residual quantisation of SoundStream (Zeghidour et al., 2021, arXiv:2107.03312), moving-average
codebooks of VQ-VAE (van den Oord et al., 2017), restart of unused entries from the batch.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Quantised:
    """What training needs of a quantised batch.

    Attributes:
        latents: (B, D, L), with the gradient of the input passed straight through.
        codes: (B, Q, L).
        commitment: Mean squared distance of the residuals to their entries.
    """

    latents: Tensor
    codes: Tensor
    commitment: Tensor


class ResidualQuantiser(nn.Module):
    """Q codebooks, each quantising what the ones before left over.

    Args:
        dimension: Channels D of the vectors.
        num_codebooks: Codebooks Q.
        codebook_size: Entries K of each.
        decay: Of the moving averages of counts and sums.
        restart_below: Entries whose average count per batch falls below this are replaced.
    """

    codebooks: Tensor
    counts: Tensor
    sums: Tensor
    ready: Tensor

    def __init__(
        self,
        dimension: int,
        num_codebooks: int = 8,
        codebook_size: int = 512,
        *,
        decay: float = 0.97,
        restart_below: float = 0.05,
    ) -> None:
        super().__init__()
        shape = (num_codebooks, codebook_size, dimension)
        self.decay, self.restart_below = decay, restart_below
        self.register_buffer("codebooks", torch.zeros(shape))
        self.register_buffer("counts", torch.zeros(shape[:2]))
        self.register_buffer("sums", torch.zeros(shape))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    def encode(self, latents: Float[Tensor, "b d l"]) -> Int[Tensor, "b q l"]:
        """Indices of the nearest entries, codebook by codebook."""
        residual = latents.transpose(1, 2)
        codes = []
        for codebook in self.codebooks:
            codes.append(nearest(residual, codebook))
            residual = residual - F.embedding(codes[-1], codebook)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b d l"]:
        """Sum of the entries; the first codebooks of a prefix ``q <= Q`` give a coarser signal."""
        total = F.embedding(codes[:, 0], self.codebooks[0])
        for index in range(1, codes.shape[1]):
            total = total + F.embedding(codes[:, index], self.codebooks[index])
        return total.transpose(1, 2)

    def learn(
        self,
        latents: Float[Tensor, "b d l"],
        generator: torch.Generator,
        num_codebooks: int | None = None,
    ) -> Quantised:
        """Quantise a training batch, then move the codebooks towards it.

        Args:
            latents: Output of the encoder.
            generator: Chooses the vectors that replace unused entries.
            num_codebooks: Use only the first so many (quantiser dropout).
        """
        if not self.ready:
            self.initialise(latents.detach().transpose(1, 2).flatten(0, 1), generator)
        residual = latents.transpose(1, 2)
        total = torch.zeros_like(residual)
        codes, distances = [], []
        for index in range(num_codebooks or len(self.codebooks)):
            code = nearest(residual, self.codebooks[index])
            entry = F.embedding(code, self.codebooks[index])
            distances.append(F.mse_loss(residual, entry))
            if self.training:
                self._move(index, residual.detach().flatten(0, 1), code.flatten(), generator)
            residual = residual - entry
            total = total + entry
            codes.append(code)
        passed = latents + (total.transpose(1, 2) - latents).detach()
        return Quantised(passed, torch.stack(codes, dim=1), torch.stack(distances).mean())

    @torch.no_grad()
    def initialise(
        self, vectors: Float[Tensor, "n d"], generator: torch.Generator, iterations: int = 10
    ) -> None:
        """Fit all codebooks to the vectors by k-means, one after the other on the residuals."""
        residual = vectors
        for index in range(len(self.codebooks)):
            centres, counts = kmeans(residual, self.codebooks.shape[1], generator, iterations)
            self.codebooks[index] = centres
            self.counts[index] = counts.clamp(min=1)
            self.sums[index] = centres * self.counts[index][:, None]
            residual = residual - F.embedding(nearest(residual, centres), centres)
        self.ready.fill_(True)

    @torch.no_grad()
    def _move(self, index: int, vectors: Tensor, code: Tensor, generator: torch.Generator) -> None:
        size = self.codebooks.shape[1]
        batch_counts = torch.bincount(code, minlength=size).to(vectors.dtype)
        batch_sums = torch.zeros_like(self.sums[index]).index_add_(0, code, vectors)
        self.counts[index].lerp_(batch_counts, 1 - self.decay)
        self.sums[index].lerp_(batch_sums, 1 - self.decay)
        unused = self.counts[index] < self.restart_below
        fresh = _choose(vectors, size, generator)[unused]
        self.sums[index][unused] = fresh
        self.counts[index][unused] = 1.0
        self.codebooks[index] = self.sums[index] / self.counts[index][:, None]


def nearest(vectors: Float[Tensor, "*n d"], codebook: Float[Tensor, "k d"]) -> Int[Tensor, "*n"]:
    """Index of the entry with the smallest Euclidean distance."""
    flat = vectors.reshape(-1, vectors.shape[-1])
    score = torch.addmm(codebook.square().sum(1), flat, codebook.t(), alpha=-2.0)
    return score.argmin(dim=1).view(vectors.shape[:-1])


def kmeans(
    vectors: Float[Tensor, "n d"], num_centres: int, generator: torch.Generator, iterations: int
) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k"]]:
    """Centres and how many vectors each holds; a centre that loses all stays where it was."""
    centres = _choose(vectors, num_centres, generator)
    counts = torch.zeros(num_centres)
    for _ in range(iterations):
        code = nearest(vectors, centres)
        counts = torch.bincount(code, minlength=num_centres).to(vectors.dtype)
        sums = torch.zeros_like(centres).index_add_(0, code, vectors)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
    return centres, counts


def _choose(vectors: Tensor, number: int, generator: torch.Generator) -> Tensor:
    if len(vectors) >= number:
        order = torch.randperm(len(vectors), generator=generator)[:number]
    else:
        order = torch.randint(len(vectors), (number,), generator=generator)
    return vectors[order.to(vectors.device)]
