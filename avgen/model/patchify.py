"""Latent grids to token sequences with their times and places, and back.

Letters: B batch, C channels, T H W latent grid, L audio steps, N tokens, P patch, A numbers per token.
Tokens of a picture run over time, then rows, then columns.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from avgen import clock


@dataclass(frozen=True)
class Grid:
    """Where the tokens of one clip's stream lie.

    Attributes:
        shape: Latent grid: ``(T, H, W)`` of a picture or ``(L,)`` of a sound.
        interval: ``(N, 2)`` start and end in seconds of each token.
        place: ``(N, 2)`` row and column of each token's centre, in halves of the longer side (0 is the centre of
            the picture), or None for a sound.
    """

    shape: tuple[int, ...]
    interval: Float[Tensor, "n 2"]
    place: Float[Tensor, "n 2"] | None = None

    def __len__(self) -> int:
        """Number of tokens."""
        return self.interval.shape[0]


def video_grid(
    shape: tuple[int, int, int],
    *,
    patch: int,
    time_stride: int,
    fps: clock.Rate,
    start: float = 0.0,
) -> Grid:
    """Grid of video latents ``(T, H, W)``.

    Raises:
        ValueError: Height or width is not a multiple of the patch.
    """
    steps, height, width = shape
    if height % patch or width % patch:
        raise ValueError(
            f"latent grid {height}x{width} cannot be cut into patches of {patch}; use sizes that divide"
        )
    rows, columns = height // patch, width // patch
    interval = torch.tensor(clock.latent_intervals(steps, time_stride, fps)) + start
    unit = 2 / max(rows, columns)
    y, x = (unit * (torch.arange(n) - (n - 1) / 2) for n in (rows, columns))
    place = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).reshape(-1, 2)
    return Grid(shape, interval.repeat_interleave(rows * columns, dim=0), place.repeat(steps, 1))


def audio_grid(steps: int, rate: clock.Rate, start: float = 0.0) -> Grid:
    """Grid of ``steps`` audio latents at ``rate`` per second."""
    return Grid((steps,), torch.tensor(clock.step_intervals(steps, rate)) + start)


def tokens_from_video(latents: Float[Tensor, "b c t h w"], patch: int) -> Float[Tensor, "b n a"]:
    """Cut a picture into tokens of ``A = C * patch * patch`` numbers."""
    x = latents.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))
    return x.permute(0, 2, 3, 5, 1, 4, 6).flatten(4, 6).flatten(1, 3)


def video_from_tokens(
    tokens: Float[Tensor, "b n a"], shape: tuple[int, int, int], patch: int
) -> Float[Tensor, "b c t h w"]:
    """Inverse of `tokens_from_video`."""
    steps, height, width = shape
    x = tokens.unflatten(1, (steps, height // patch, width // patch)).unflatten(
        -1, (-1, patch, patch)
    )
    return x.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)


def tokens_from_audio(latents: Shaped[Tensor, "b c l"]) -> Shaped[Tensor, "b l c"]:
    """One token per step, of latents or codes."""
    return latents.transpose(1, 2)


def audio_from_tokens(tokens: Shaped[Tensor, "b l c"]) -> Shaped[Tensor, "b c l"]:
    """Inverse of `tokens_from_audio`."""
    return tokens.transpose(1, 2)
