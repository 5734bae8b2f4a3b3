"""What a text encoder is: timed captions to text tokens that carry their interval in seconds.

Letters: B captions, N text tokens of a caption (padded), D width, G segments, L tokens of a segment.
A *segment* is one text with one interval: the description of the whole clip, or one event.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

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


def segments(caption: TimedCaption) -> list[Segment]:
    """The description of the whole clip, then the events in their order."""
    first = Segment(caption.text, 0.0, caption.duration, 0)
    events = (Segment(e.text, e.start, e.end, TRACK_INDEX[e.track]) for e in caption.events)
    return [first, *events]


class TextEncoder(nn.Module, ABC):
    """Captions to text tokens. Each distinct text is encoded once per call, by itself.

    So a token depends on its own segment only, and neither on padding nor on its neighbours in the batch.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.track_embedding = nn.Embedding(NUM_TRACKS, width)
        nn.init.normal_(self.track_embedding.weight, std=0.02)

    @abstractmethod
    def encode(self, texts: list[str]) -> tuple[Float[Tensor, "g l d"], list[int]]:
        """States of each text and how many of them are real (at least one)."""

    def forward(self, captions: list[TimedCaption]) -> TextTokens:
        """Encode captions; see `TextTokens`."""
        per_caption = [segments(caption) for caption in captions]
        texts = sorted({segment.text for segs in per_caption for segment in segs})
        states, lengths = self.encode(texts)
        row = {text: i for i, text in enumerate(texts)}
        plan = [_token_plan(segs, row, lengths) for segs in per_caption]
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


def _token_plan(
    segs: list[Segment], row: dict[str, int], lengths: list[int]
) -> list[tuple[int, int, int, float, float]]:
    """For each token: row and position of its state, its track, its interval."""
    return [
        (row[seg.text], position, seg.track, seg.start, seg.end)
        for seg in segs
        for position in range(lengths[row[seg.text]])
    ]
