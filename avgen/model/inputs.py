"""What the network is given: streams of tokens, padded or packed.

Letters: B rows, N tokens of a row, A numbers per token, Q codebooks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from avgen.ops.attention import Mask, Packed
from avgen.ops.windowed import Times, windows
from avgen.text.base import TextTokens

_Row = tuple[Tensor, Tensor, Tensor, Tensor | None]


@dataclass(frozen=True)
class StreamInput:
    """Tokens of one stream.

    Attributes:
        tokens: ``(B, N, A)`` latents, or ``(B, N, Q)`` integer codes (``codebook_size`` stands for a masked one).
        sigma: ``(B, N)`` noise level of each token, 0 where it is given; ``(B, 1)`` if all of a row share it.
        interval: ``(B, N, 2)`` seconds.
        place: ``(B, N, 2)`` or None; see `avgen.model.patchify.Grid`.
        lengths: Real tokens of each clip, or None when every row is full. With one row and several lengths the
            clips are packed one after the other; otherwise row i has ``lengths[i]`` tokens and then padding.
    """

    tokens: Tensor
    sigma: Tensor
    interval: Float[Tensor, "b n 2"]
    place: Float[Tensor, "b n 2"] | None = None
    lengths: tuple[int, ...] | None = None

    @property
    def packed(self) -> bool:
        """Whether several clips share one row."""
        return self.lengths is not None and len(self.lengths) != self.tokens.shape[0]

    @property
    def centre(self) -> Float[Tensor, "b n"]:
        """Centre of each token in seconds."""
        return self.interval.mean(-1)

    def part(self, start: int, stop: int) -> "StreamInput":
        """Tokens ``start`` to ``stop`` of every row."""
        lengths = self.lengths
        if lengths is not None:
            begins = [e - n for e, n in zip(accumulate(lengths), lengths, strict=True)]
            lengths = tuple(
                max(0, min(stop, begin + count) - max(start, begin))
                for begin, count in zip(
                    begins if self.packed else [0] * len(lengths), lengths, strict=True
                )
            )
        return replace(
            self,
            tokens=self.tokens[:, start:stop],
            sigma=self.sigma if self.sigma.shape[1] == 1 else self.sigma[:, start:stop],
            interval=self.interval[:, start:stop],
            place=None if self.place is None else self.place[:, start:stop],
            lengths=lengths,
        )


@dataclass(frozen=True)
class Keys:
    """Lengths and padding of a sequence that is attended to."""

    lengths: tuple[int, ...] | None
    mask: Tensor | None
    packed: bool

    @classmethod
    def of_stream(cls, stream: StreamInput) -> "Keys":
        """Keys of a stream."""
        if stream.lengths is None or stream.packed:
            return cls(stream.lengths, None, stream.packed)
        limit = torch.tensor(stream.lengths, device=stream.tokens.device)
        count = stream.tokens.shape[1]
        mask = torch.arange(count, device=limit.device)[None] < limit[:, None]
        return cls(stream.lengths, None if min(stream.lengths) == count else mask, False)


def attention_mask(queries: Keys, keys: Keys) -> Mask:
    """What `avgen.ops.attention.attend` needs so that each clip reads only its own keys."""
    if not queries.packed:
        return keys.mask
    if not (queries.lengths and keys.lengths) or len(queries.lengths) != len(keys.lengths):
        raise ValueError(
            f"packed queries hold {len(queries.lengths or ())} clips but the keys hold {len(keys.lengths or ())}; "
            "pack every stream and the text of the same clips in the same order"
        )
    return Packed(queries.lengths, keys.lengths)


def window_mask(queries: StreamInput, keys: StreamInput, seconds: float) -> Mask:
    """What `avgen.ops.attention.attend` needs so that each token reads only keys within ``seconds`` of its centre.

    Raises:
        ValueError: See `avgen.ops.windowed.windows`.
    """
    found = windows(_times(queries), _times(keys), seconds)
    return attention_mask(Keys.of_stream(queries), Keys.of_stream(keys)) if found is None else found


def _times(stream: StreamInput) -> Times:
    """Times of the tokens of each clip."""
    rows, count = stream.tokens.shape[:2]
    centre, device = stream.centre.float(), stream.tokens.device
    if stream.packed:
        assert stream.lengths is not None
        clips = pad_sequence(list(centre[0].split(stream.lengths)), True, torch.inf)
        lengths = torch.tensor(stream.lengths, device=device)
        return Times(clips, lengths.cumsum(0) - lengths, count)
    mask = Keys.of_stream(stream).mask
    if mask is not None:
        centre = centre.masked_fill(~mask, torch.inf)
    return Times(centre, count * torch.arange(rows, device=device), rows * count)


def pad(streams: Sequence[StreamInput]) -> StreamInput:
    """Batch clips of different length with padding at the end, one row per clip.

    Raises:
        ValueError: An input is padded or packed already.
    """
    rows = [row for stream in streams for row in _rows(stream)]
    return _joined(rows, lambda parts: pad_sequence(parts, batch_first=True))


def pack(streams: Sequence[StreamInput]) -> StreamInput:
    """Put clips of different length one after the other into one row, without padding.

    Raises:
        ValueError: An input is padded or packed already.
    """
    rows = [row for stream in streams for row in _rows(stream)]
    return _joined(rows, lambda parts: torch.cat(parts)[None])


def pack_text(text: TextTokens) -> tuple[TextTokens, Keys]:
    """Text of several captions in one row without padding, and the lengths."""
    lengths = tuple(text.mask.sum(1).tolist())
    states, interval = text.states[text.mask][None], text.interval[text.mask][None]
    mask = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
    return TextTokens(states, interval, mask), Keys(lengths, None, True)


def _rows(stream: StreamInput) -> list[_Row]:
    """Each clip of an input: its tokens, noise levels, intervals and places."""
    if stream.lengths is not None:
        raise ValueError(
            f"expected clips without padding, got an input of lengths {list(stream.lengths)}; "
            "pad or pack each clip once"
        )
    sigma = stream.sigma.expand(stream.tokens.shape[:2])
    places = [None] * len(sigma) if stream.place is None else stream.place
    return list(zip(stream.tokens, sigma, stream.interval, places, strict=True))


def _joined(rows: Sequence[_Row], join: Callable[[list[Tensor]], Tensor]) -> StreamInput:
    tokens, sigma, interval, places = zip(*rows, strict=True)
    return StreamInput(
        join(list(tokens)),
        join(list(sigma)),
        join(list(interval)),
        None if places[0] is None else join(list(places)),
        tuple(len(row) for row in tokens),
    )
