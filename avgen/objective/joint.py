"""The objective of joint training: noise every generated token, predict, compare, stream by stream."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from avgen import tasks
from avgen.caption import TimedCaption
from avgen.data.batch import AVBatch, PackedBatch
from avgen.model.inputs import StreamInput, pack
from avgen.model.layout import Layout, per_token_sigma
from avgen.objective.corruption import Corrupted, clip_loss, corrupt, detail_weight
from avgen.objective.sigma import SigmaDistribution
from avgen.text.base import TextEncoder, TextFeatures, TextTokens

NUM_SIGMA_BINS = 4


@dataclass(frozen=True)
class LossRecord:
    """Losses of a batch.

    Attributes:
        total: What is minimised.
        streams: Mean loss per stream over the clips that generate any of it.
        sums: Per stream ``(NUM_SIGMA_BINS, 2)``: sum of clip losses and number of clips by noise level.
        tasks: The task of each part of the batch.
    """

    total: Tensor
    streams: Mapping[str, Tensor]
    sums: Mapping[str, Tensor]
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """B clips of one layout with one task: what the network is given and what it is held to.

    Attributes:
        layout: Where the tokens of every clip lie.
        task: The task.
        given: Per stream ``(N,)``: True where the task gives the token.
        sigma: Per stream ``(B,)``.
        corrupted: Per stream, tokens and targets.
        detail: Per stream ``(B, N)``, weights of tokens; missing where all weigh the same.
        captions: One per clip, without text or without times where those are dropped.
        text: Kept states of each caption, None where there are none or the text is dropped.
        exchange: ``(B,)`` 1 where streams read each other, else 0.
    """

    layout: Layout
    task: str
    given: Mapping[str, Tensor]
    sigma: Mapping[str, Tensor]
    corrupted: Mapping[str, Corrupted]
    detail: Mapping[str, Tensor]
    captions: list[TimedCaption]
    text: list[TextFeatures | None]
    exchange: Tensor

    def __len__(self) -> int:
        return len(self.captions)

    def input(self, stream: str) -> StreamInput:
        """The network's input."""
        level = per_token_sigma(self.sigma[stream], self.given[stream])
        return self.layout.input(stream, self.corrupted[stream].tokens, level)

    def clip_losses(self, stream: str, predicted: Tensor) -> Tensor:
        """Loss of each clip, ``(B,)``, given predictions ``(B, N, ...)``."""
        config = self.layout.config.streams[stream]
        return clip_loss(config, predicted, self.corrupted[stream], self.detail.get(stream))


@dataclass(frozen=True)
class JointObjective:
    """Flow matching on latents and masked prediction of codes, over a mixture of tasks.

    Every random choice comes from the generator that is passed in. A batch, or each part of a packed one, has one
    task; the parts draw one after the other. All is drawn for the whole batch of the step and each share of it takes
    its own, so that losses do not depend on how it is shared out.

    Attributes:
        sigma: Distribution of noise levels.
        tasks: Weight of each task; tasks that need both streams are skipped where only one is trained.
        weights: Weight of each stream's loss (1 where not named).
        detail: Share of each stream's loss that is given to tokens by how far they are from the clip's mean (0 where
            not named; latents only).
        text_dropout: Share of clips without any text, for text guidance.
        time_dropout: Share of clips whose events lose their times, for time guidance.
        exchange_dropout: Share of clips whose streams do not read each other, for cross-modal guidance.
    """

    sigma: SigmaDistribution = field(default_factory=SigmaDistribution)
    tasks: Mapping[str, float] = field(default_factory=lambda: {"t2av": 1.0})
    weights: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, float] = field(default_factory=dict)
    text_dropout: float = 0.1
    time_dropout: float = 0.1
    exchange_dropout: float = 0.1

    def __call__(
        self,
        model: Callable[..., Mapping[str, Tensor]],
        text_encoder: TextEncoder,
        layout: Layout | Sequence[Layout],
        batch: AVBatch | PackedBatch,
        generator: torch.Generator,
    ) -> LossRecord:
        """Loss of a batch whose clips all have ``layout``, or of a packed one with a layout for each part.

        The total is the mean over clips, so that of a packed batch is what its parts would have alone, each weighed by
        its number of clips.

        Raises:
            ValueError: A stream without data, or another number of layouts than of parts.
        """
        layouts = [layout] if isinstance(layout, Layout) else layout
        if len(layouts) != len(batch.parts):
            raise ValueError(
                f"{len(layouts)} layouts for a batch of {len(batch.parts)} parts; give one for each part"
            )
        parts = [
            self._part(where, clips, generator)
            for where, clips in zip(layouts, batch.parts, strict=True)
        ]
        inputs = _inputs(parts)
        exchange = torch.cat([part.exchange for part in parts]) if len(inputs) > 1 else None
        return self._record(parts, model(inputs, _text(text_encoder, parts), exchange))

    def _part(self, layout: Layout, batch: AVBatch, generator: torch.Generator) -> _Part:
        clean = {
            name: layout.tokens(name, latents)
            for name, latents in stream_latents(layout, batch).items()
        }
        task, given = self._task(layout, generator)
        size, share, device = len(batch), batch.share, next(iter(clean.values())).device
        sigma = self.sigma.draw(size * share.of, list(clean), layout.shift, generator)
        given = {stream: mask.to(device) for stream, mask in given.items()}
        sigma = {stream: share.rows(level).to(device) for stream, level in sigma.items()}
        corrupted = {
            stream: corrupt(
                layout.config.streams[stream],
                tokens,
                sigma[stream],
                given[stream],
                generator,
                share,
            )
            for stream, tokens in clean.items()
        }
        dropouts = torch.rand(3, size * share.of, generator=generator)
        drop_text, drop_time, drop_exchange = (share.rows(chances) for chances in dropouts)
        dropped = (drop_text < self.text_dropout).tolist()
        return _Part(
            layout=layout,
            task=task,
            given=given,
            sigma=sigma,
            corrupted=corrupted,
            detail={
                s: detail_weight(clean[s], share) for s, share in self.detail.items() if s in clean
            },
            captions=_reduced(batch.captions, dropped, (drop_time < self.time_dropout).tolist()),
            text=[
                None if drop else features
                for features, drop in zip(batch.text or [None] * size, dropped, strict=True)
            ],
            exchange=(drop_exchange >= self.exchange_dropout).float().to(device),
        )

    def _task(self, layout: Layout, generator: torch.Generator) -> tuple[str, dict[str, Tensor]]:
        names = list(self.tasks)
        weights = torch.tensor([float(self.tasks[name]) for name in names])
        name = names[int(torch.multinomial(weights, 1, generator=generator))]
        task = tasks.draw(name, layout.duration, 1 / layout.fps, generator)  # type: ignore[arg-type]
        given = layout.given(task)
        if all(bool(mask.all()) for mask in given.values()):
            return "t2av", layout.given(tasks.text_to_audio_video())
        return name, given

    def _record(self, parts: Sequence[_Part], predicted: Mapping[str, Tensor]) -> LossRecord:
        losses, sums, weighted = {}, {}, []
        for stream, prediction in predicted.items():
            scored = [
                (part.clip_losses(stream, piece), part.sigma[stream])
                for part, piece in _by_part(parts, stream, prediction)
                if not bool(part.given[stream].all())
            ]
            if not scored:
                continue
            per_clip, sigma = (torch.cat(pieces) for pieces in zip(*scored, strict=True))
            losses[stream] = per_clip.mean()
            sums[stream] = _by_sigma(per_clip.detach(), sigma)
            share = len(per_clip) / sum(len(part) for part in parts)
            weighted.append(self.weights.get(stream, 1.0) * share * losses[stream])
        total = torch.stack(weighted).sum()
        return LossRecord(total, losses, sums, tuple(part.task for part in parts))


def stream_latents(layout: Layout, batch: AVBatch) -> dict[str, Tensor]:
    """What each stream of the layout trains on: codes where the stream has codebooks, latents elsewhere."""
    found = {"video": batch.video, "audio": batch.audio}
    for name in layout.grids:
        if layout.config.streams[name].codebooks:
            found[name] = None if batch.codes is None else batch.codes.long()
    missing = [name for name in layout.grids if found.get(name) is None]
    if missing:
        raise ValueError(
            f"the batch has no data for stream {missing[0]!r}; add it to the data's `modalities`"
        )
    return {
        name: latents
        for name, latents in found.items()
        if name in layout.grids and latents is not None
    }


def _inputs(parts: Sequence[_Part]) -> dict[str, StreamInput]:
    """Inputs of one part as they are; those of several packed into one row, clip by clip."""
    if len(parts) == 1:
        return {stream: parts[0].input(stream) for stream in parts[0].corrupted}
    return {stream: pack([part.input(stream) for part in parts]) for stream in parts[0].corrupted}


def _by_part(
    parts: Sequence[_Part], stream: str, predicted: Tensor
) -> Iterator[tuple[_Part, Tensor]]:
    """Each part with its predictions ``(B, N, ...)``: clips follow each other alike in rows and in one packed row."""
    counts = [len(part) * len(part.layout.grids[stream]) for part in parts]
    for part, piece in zip(parts, predicted.flatten(0, 1).split(counts), strict=True):
        yield part, piece.unflatten(0, (len(part), -1))


def _text(encoder: TextEncoder, parts: Sequence[_Part]) -> TextTokens:
    """All captions, encoded at once."""
    captions = [caption for part in parts for caption in part.captions]
    return encoder(captions, [features for part in parts for features in part.text])


def _reduced(
    captions: list[TimedCaption], textless: list[bool], untimed: list[bool]
) -> list[TimedCaption]:
    """The captions, some of them without text, some without the times of their events."""
    emptied = [
        c.replace(text="", events=()) if drop else c
        for c, drop in zip(captions, textless, strict=True)
    ]
    return [c.untimed() if drop else c for c, drop in zip(emptied, untimed, strict=True)]


def _by_sigma(losses: Tensor, sigma: Tensor) -> Tensor:
    index = (sigma * NUM_SIGMA_BINS).long().clamp(max=NUM_SIGMA_BINS - 1)
    sums = torch.zeros(NUM_SIGMA_BINS, 2, device=losses.device)
    return sums.index_add(0, index, torch.stack((losses, torch.ones_like(losses)), dim=1))
