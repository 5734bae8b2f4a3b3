"""Layers of causal video networks, factorised into space and time, with explicit state.

Shapes: B batch, T time steps, H W grid, C channels. Features are channels-last,
``(B, T, H, W, C)``: the layout in which 2-D convolutions over space *and* over time, norms and
patches need no copy. No layer looks ahead in time and no norm mixes time steps, so a prefix of a
clip has the features of the clip.
"""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor, cat, nn
from torch.nn import functional as F


class Tape:
    """What each causal layer remembers between chunks, read and written in the order of the layers.

    Args:
        history: The tensors `written` by the previous chunk, or None for the first chunk.
    """

    def __init__(self, history: Sequence[Tensor] | None) -> None:
        self._history: Iterator[Tensor] | None = None if history is None else iter(history)
        self.written: list[Tensor] = []

    def extend(
        self, x: Float[Tensor, "b t h w c"], length: int
    ) -> Float[Tensor, "b t_and_length h w c"]:
        """Prepend ``length`` steps of the past, zeros before a clip; remember the new ones."""
        if self._history is None:
            extended = F.pad(x, (0, 0, 0, 0, 0, 0, length, 0))
        else:
            extended = cat((next(self._history).to(x.dtype), x), dim=1)
        self.written.append(extended[:, -length:])
        return extended


class SpaceConv(nn.Conv2d):
    """Convolution over height and width of every time step on its own."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)

    def forward(self, input: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t h w d"]:  # noqa: A002
        """Convolve; zero padding at the borders of the picture."""
        images = input.flatten(0, 1).permute(0, 3, 1, 2)
        return super().forward(images).permute(0, 2, 3, 1).unflatten(0, input.shape[:2])


class CausalTimeConv(nn.Conv2d):
    """Convolution over the present and past time steps of every position on its own."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3) -> None:
        super().__init__(in_channels, out_channels, (kernel, 1))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input: Float[Tensor, "b t h w c"],  # noqa: A002
        tape: Tape,
    ) -> Float[Tensor, "b t h w d"]:
        """Convolve; before the clip there are zeros, between chunks what the tape holds."""
        height, width = input.shape[2:4]
        window = tape.extend(input, self.kernel_size[0] - 1)
        rows = window.flatten(2, 3).permute(0, 3, 1, 2)
        return super().forward(rows).permute(0, 2, 3, 1).unflatten(2, (height, width))


class CausalBlock(nn.Module):
    """Residual block: norm over channels, convolution in space, SiLU, convolution in time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.space = SpaceConv(channels, channels)
        self.time = CausalTimeConv(channels, channels)
        nn.init.normal_(self.time.weight, std=0.1 / (3 * channels) ** 0.5)

    def forward(self, x: Float[Tensor, "b t h w c"], tape: Tape) -> Float[Tensor, "b t h w c"]:
        """Add what the block has found."""
        return x + self.time(F.silu(self.space(self.norm(x))), tape)


class CausalStage(nn.Module):
    """Blocks of one resolution in sequence."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CausalBlock(channels) for _ in range(depth))

    def forward(self, x: Float[Tensor, "b t h w c"], tape: Tape) -> Float[Tensor, "b t h w c"]:
        """Run every block."""
        for block in self.blocks:
            x = block(x, tape)
        return x


def fold_space(x: Float[Tensor, "b t h w c"], size: int) -> Float[Tensor, "b t hh ww cc"]:
    """Move ``size x size`` patches into channels."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h // size, size, w // size, size, c)
    return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h // size, w // size, size * size * c)


def unfold_space(x: Float[Tensor, "b t hh ww cc"], size: int) -> Float[Tensor, "b t h w c"]:
    """Inverse of `fold_space`."""
    b, t, h, w, _ = x.shape
    x = x.reshape(b, t, h, w, size, size, -1)
    return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h * size, w * size, -1)


def pixels_to_patches(
    frames: Float[Tensor, "b p f h w"], time: int, size: int
) -> Float[Tensor, "b t hh ww c"]:
    """Cut frames into patches of ``time`` frames and ``size x size`` pixels."""
    b, p, f, h, w = frames.shape
    x = frames.reshape(b, p, f // time, time, h // size, size, w // size, size)
    return x.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(b, f // time, h // size, w // size, -1)


def patches_to_pixels(
    x: Float[Tensor, "b t hh ww c"], time: int, size: int
) -> Float[Tensor, "b p f h w"]:
    """Inverse of `pixels_to_patches`."""
    b, t, h, w, _ = x.shape
    x = x.reshape(b, t, h, w, time, size, size, -1)
    return x.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(b, -1, t * time, h * size, w * size)


def per_channel(values: Float[Tensor, " c"]) -> Float[Tensor, "1 c 1 1 1"]:
    """One value per channel, shaped for ``(B, C, T, H, W)``."""
    return values.view(1, -1, 1, 1, 1)


def check_frames(frames: Tensor, time_stride: int, space_stride: int, *, first: bool) -> None:
    """Refuse frames that a causal codec cannot encode.

    Args:
        frames: Should be ``(B, 3, F, H, W)``.
        time_stride: Frames per latent step.
        space_stride: Pixels per latent cell.
        first: Whether the frames start a stream, with one frame that is coded alone.

    Raises:
        ValueError: The shape, the number of frames or their size does not fit.
    """
    if frames.ndim != 5 or frames.shape[1] != 3:
        raise ValueError(f"frames {tuple(frames.shape)} are not of shape (B, 3, F, H, W)")
    count, height, width = frames.shape[2:]
    lead = int(first)
    if count < 1 or (count - lead) % time_stride:
        wanted = f"1 + k * {time_stride}" if first else f"k * {time_stride}"
        below = max(lead + (count - lead) // time_stride * time_stride, lead or time_stride)
        raise ValueError(f"{count} frames are not {wanted}; use {below} or {below + time_stride}")
    if height % space_stride or width % space_stride or not height or not width:
        raise ValueError(
            f"frames of {height}x{width} pixels are not multiples of {space_stride}; "
            "crop or resize them"
        )
