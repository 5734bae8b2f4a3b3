"""What a text encoder is: timed captions to text tokens that carry their interval in seconds.

Letters: B captions, N text tokens of a caption (padded), D width, E width of an encoder's states, G segments,
L tokens of a segment.
A *segment* is one text with one interval: the description of the whole clip, or one event.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from avgen.caption import TimedCaption, Track

TRACK_INDEX = {track: 1 + i for i, track in enumerate(get_args(Track))}
NUM_TRACKS = 1 + len(TRACK_INDEX)


@dataclass(frozen=True)
class TextTokens:
    """Encoded text.

    Attributes:
        states: ``(B, N, D)``.
        interval: ``(B, N, 2)`` start and end in seconds of what each token talks about.
        mask: ``(B, N)`` True for real tokens, False for padding; every caption has at least one real token.
    """

    states: Float[Tensor, "b n d"]
    interval: Float[Tensor, "b n 2"]
    mask: Bool[Tensor, "b n"]

    def untimed(self, duration: float, rows: Bool[Tensor, "b"] | None = None) -> "TextTokens":
        """The same text with every interval stretched to the whole clip (in the chosen rows)."""
        whole = torch.tensor([0.0, duration], device=self.interval.device).expand_as(self.interval)
        if rows is not None:
            whole = torch.where(rows[:, None, None], whole, self.interval)
        return replace(self, interval=whole)


class Segment(NamedTuple):
    """One text with its interval in seconds and its track index (0: the whole clip)."""

    text: str
    start: float
    end: float
    track: int


def segments(caption: TimedCaption, written_times: bool = False) -> list[Segment]:
    """The description of the whole clip, then the events in their order.

    With ``written_times`` the text of an event also says in seconds when it starts and ends.
    """
    first = Segment(caption.text, 0.0, caption.duration, 0)
    events = (
        Segment(
            f"{e.text} from {e.start:.2f} to {e.end:.2f}" if written_times else e.text,
            e.start,
            e.end,
            TRACK_INDEX[e.track],
        )
        for e in caption.events
    )
    return [first, *events]


@dataclass(frozen=True)
class TextFeatures:
    """States of a frozen encoder for one caption, without padding: what a dataset keeps.

    Attributes:
        states: ``(N, E)``, segment after segment in the order of `segments`.
        lengths: Tokens of each segment; they add up to N.

    Raises:
        ValueError: The lengths do not add up to the number of states.
    """

    states: Float[Tensor, "n e"]
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if sum(self.lengths) != len(self.states):
            raise ValueError(
                f"lengths {list(self.lengths)} add up to {sum(self.lengths)}, but there are "
                f"{len(self.states)} states; give one length per segment"
            )

    def to(self, *args: Any, **kwargs: Any) -> "TextFeatures":
        """The same with the states moved as by `torch.Tensor.to`."""
        return replace(self, states=self.states.to(*args, **kwargs))


class TextEncoder(nn.Module, ABC):
    """Captions to text tokens. Each distinct text is encoded once per call, by itself.

    So a token depends on its own segment only, and neither on padding nor on its neighbours in the batch.
    """

    written_times = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.track_embedding = nn.Embedding(NUM_TRACKS, width)
        nn.init.normal_(self.track_embedding.weight, std=0.02)

    @property
    def identity(self) -> str | None:
        """SHA-256 of what `encode` depends on where that is frozen, so that its states may be kept; else None."""
        return None

    @abstractmethod
    def encode(self, texts: list[str]) -> tuple[Float[Tensor, "g l e"], list[int]]:
        """States of each text and how many of them are real (at least one)."""

    def project(self, states: Float[Tensor, "g l e"]) -> Float[Tensor, "g l d"]:
        """States of `encode` to the width of a token, by what is trained after it."""
        return states

    def forward(
        self,
        captions: Sequence[TimedCaption],
        features: Sequence[TextFeatures | None] | None = None,
    ) -> TextTokens:
        """Encode captions; see `TextTokens`.

        Args:
            captions: What is encoded.
            features: What `encode` gave for each caption, or None where it is still to be asked.

        Raises:
            ValueError: Features that are not those of their caption.
        """
        per_caption = [segments(caption, self.written_times) for caption in captions]
        states, lengths, rows = self._encoded(per_caption, features or [None] * len(captions))
        states = self.project(states)
        plan = [_token_plan(segs, of, lengths) for segs, of in zip(per_caption, rows, strict=True)]
        longest = max(len(tokens) for tokens in plan)
        source = torch.zeros(len(plan), longest, 3, dtype=torch.long)
        interval = torch.zeros(len(plan), longest, 2)
        mask = torch.zeros(len(plan), longest, dtype=torch.bool)
        for i, tokens in enumerate(plan):
            source[i, : len(tokens)] = torch.tensor([token[:3] for token in tokens])
            interval[i, : len(tokens)] = torch.tensor([token[3:] for token in tokens])
            mask[i, : len(tokens)] = True
        source, interval, mask = (x.to(states.device) for x in (source, interval, mask))
        gathered = states[source[..., 0], source[..., 1]] + self.track_embedding(source[..., 2]).to(
            states.dtype
        )
        return TextTokens(gathered * mask[..., None], interval, mask)

    def _encoded(
        self, per_caption: Sequence[list[Segment]], features: Sequence[TextFeatures | None]
    ) -> tuple[Tensor, list[int], list[Sequence[int]]]:
        """States ``(G, L, E)``, their real lengths, and the row of each caption's segments."""
        pairs = list(zip(per_caption, features, strict=True))
        texts = sorted({seg.text for segs, kept in pairs if kept is None for seg in segs})
        states, lengths = self.encode(texts) if texts else (None, [])
        row = {text: i for i, text in enumerate(texts)}
        pieces = [] if states is None else [states[i, :n] for i, n in enumerate(lengths)]
        rows: list[Sequence[int]] = []
        for segs, kept in pairs:
            if kept is None:
                rows.append([row[seg.text] for seg in segs])
                continue
            if len(kept.lengths) != len(segs):
                raise ValueError(
                    f"text features of {len(kept.lengths)} segments for a caption of {len(segs)} "
                    f"({segs[0].text[:40]!r}...); write the features of this caption again"
                )
            rows.append(range(len(pieces), len(pieces) + len(segs)))
            pieces += kept.states.split(kept.lengths)
        if states is None or len(pieces) > len(texts):
            states = pad_sequence(pieces, batch_first=True)
        return states, [len(piece) for piece in pieces], rows


def _token_plan(
    segs: list[Segment], rows: Sequence[int], lengths: list[int]
) -> list[tuple[int, int, int, float, float]]:
    """For each token: row and position of its state, its track, its interval."""
    return [
        (row, position, seg.track, seg.start, seg.end)
        for row, seg in zip(rows, segs, strict=True)
        for position in range(lengths[row])
    ]
