"""All streams of one shape of clip: their grids, and the way between latents and tokens.

Letters: B batch, C channels, T H W video latent grid, L audio steps, Q codebooks, N tokens, A numbers per token.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from avgen import clock, flow
from avgen.model.config import ModelConfig
from avgen.model.inputs import StreamInput
from avgen.model.patchify import (
    Grid,
    audio_from_tokens,
    audio_grid,
    tokens_from_audio,
    tokens_from_video,
    video_from_tokens,
    video_grid,
)
from avgen.tasks import Task


@dataclass(frozen=True)
class Layout:
    """Where the tokens of every stream of a clip lie.

    Attributes:
        config: The network's shape.
        grids: Grid per stream.
        duration: Seconds.
        fps: Frames per second.
    """

    config: ModelConfig
    grids: Mapping[str, Grid]
    duration: float
    fps: float

    @classmethod
    def of_shapes(
        cls,
        config: ModelConfig,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        fps: clock.Rate,
        time_stride: int,
        audio_rate: clock.Rate,
        duration: float,
    ) -> "Layout":
        """Layout of latent grids ``{"video": (T, H, W), "audio": (L,)}``; either may be missing."""
        grids: dict[str, Grid] = {}
        for name, shape in shapes.items():
            if config.streams[name].spatial:
                steps, height, width = shape
                patch = config.streams[name].patch
                grids[name] = video_grid(
                    (steps, height, width), patch=patch, time_stride=time_stride, fps=fps
                )
            else:
                grids[name] = audio_grid(shape[0], audio_rate)
        return cls(config, grids, duration, float(fps))

    @property
    def num_tokens(self) -> int:
        """Tokens of all streams."""
        return sum(len(grid) for grid in self.grids.values())

    @property
    def shift(self) -> float:
        """Shift of the noise schedule for clips of this layout."""
        return flow.shift_for_tokens(
            self.num_tokens, self.config.base_tokens, self.config.base_shift
        )

    def tokens(self, name: str, latents: Tensor) -> Tensor:
        """Latents ``(B, C, ...)`` or codes ``(B, Q, L)`` to tokens ``(B, N, A)``."""
        stream = self.config.streams[name]
        return (
            tokens_from_video(latents, stream.patch)
            if stream.spatial
            else tokens_from_audio(latents)
        )

    def latents(self, name: str, tokens: Tensor) -> Tensor:
        """Inverse of `tokens`."""
        stream, shape = self.config.streams[name], self.grids[name].shape
        if not stream.spatial:
            return audio_from_tokens(tokens)
        return video_from_tokens(tokens, (shape[0], shape[1], shape[2]), stream.patch)

    def given(self, task: Task) -> dict[str, Tensor]:
        """Per stream ``(N,)``: True where the task gives the token."""
        return {name: task.given_mask(name, grid.interval) for name, grid in self.grids.items()}

    def input(self, name: str, tokens: Tensor, sigma: Tensor) -> StreamInput:
        """The network's input for ``(B, N, A)`` tokens at noise levels ``(B, N)`` or ``(B, 1)``."""
        grid, batch, device = self.grids[name], tokens.shape[0], tokens.device
        interval = grid.interval.to(device).expand(batch, -1, -1)
        place = None if grid.place is None else grid.place.to(device).expand(batch, -1, -1)
        return StreamInput(tokens, sigma, interval, place)


def per_token_sigma(sigma: Tensor, given: Tensor) -> Tensor:
    """Noise level of each token: ``sigma`` ``(B,)`` where it is generated and 0 where given.

    Returns:
        ``(B, N)``, or ``(B, 1)`` where no token is given.
    """
    if not bool(given.any()):
        return sigma[:, None]
    return torch.where(given[None], torch.zeros_like(sigma)[:, None], sigma[:, None])
