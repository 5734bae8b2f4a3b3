"""The objective of joint training: noise every generated token, predict, compare, stream by stream."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from avgen import tasks
from avgen.caption import TimedCaption
from avgen.data.datamodule import AVBatch
from avgen.model.layout import Layout, per_token_sigma
from avgen.objective.corruption import Corrupted, clip_loss, corrupt, detail_weight
from avgen.objective.sigma import SigmaDistribution
from avgen.text.base import TextEncoder

NUM_SIGMA_BINS = 4


@dataclass(frozen=True)
class LossRecord:
    """Losses of a batch.

    Attributes:
        total: What is minimised.
        streams: Mean loss per stream over generated tokens.
        sums: Per stream ``(NUM_SIGMA_BINS, 2)``: sum of clip losses and number of clips by noise level.
        task: The task of the batch.
    """

    total: Tensor
    streams: Mapping[str, Tensor]
    sums: Mapping[str, Tensor]
    task: str


@dataclass(frozen=True)
class JointObjective:
    """Flow matching on latents and masked prediction of codes, over a mixture of tasks.

    Every random choice comes from the generator that is passed in. A batch has one task.

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
        model: nn.Module,
        text_encoder: TextEncoder,
        layout: Layout,
        batch: AVBatch,
        generator: torch.Generator,
    ) -> LossRecord:
        """Loss of a batch whose clips all have ``layout``."""
        clean = {
            name: layout.tokens(name, latents)
            for name, latents in stream_latents(layout, batch).items()
        }
        name, given = self._task(layout, generator)
        size, device = len(batch), next(iter(clean.values())).device
        sigma = self.sigma.draw(size, list(clean), layout.shift, generator)
        given = {stream: mask.to(device) for stream, mask in given.items()}
        sigma = {stream: level.to(device) for stream, level in sigma.items()}
        corrupted = {
            stream: corrupt(
                layout.config.streams[stream], tokens, sigma[stream], given[stream], generator
            )
            for stream, tokens in clean.items()
        }
        drop_text, drop_time, drop_exchange = torch.rand(3, size, generator=generator)
        text = text_encoder(_without_text(batch.captions, drop_text < self.text_dropout))
        text = text.untimed(layout.duration, (drop_time < self.time_dropout).to(device))
        exchange = (
            (drop_exchange >= self.exchange_dropout).float().to(device) if len(clean) > 1 else None
        )
        inputs = {
            stream: layout.input(stream, c.tokens, per_token_sigma(sigma[stream], given[stream]))
            for stream, c in corrupted.items()
        }
        predicted = model(inputs, text, exchange)
        detail = {
            s: detail_weight(clean[s], share) for s, share in self.detail.items() if s in clean
        }
        return self._record(layout, predicted, corrupted, detail, given, sigma, name)

    def _task(self, layout: Layout, generator: torch.Generator) -> tuple[str, dict[str, Tensor]]:
        names = list(self.tasks)
        weights = torch.tensor([float(self.tasks[name]) for name in names])
        name = names[int(torch.multinomial(weights, 1, generator=generator))]
        task = tasks.draw(name, layout.duration, 1 / layout.fps, generator)  # type: ignore[arg-type]
        given = layout.given(task)
        if all(bool(mask.all()) for mask in given.values()):
            return "t2av", layout.given(tasks.text_to_audio_video())
        return name, given

    def _record(
        self,
        layout: Layout,
        predicted: Mapping[str, Tensor],
        corrupted: Mapping[str, Corrupted],
        detail: Mapping[str, Tensor],
        given: Mapping[str, Tensor],
        sigma: Mapping[str, Tensor],
        task: str,
    ) -> LossRecord:
        losses, sums = {}, {}
        for stream, prediction in predicted.items():
            if bool(given[stream].all()):
                continue
            config = layout.config.streams[stream]
            per_clip = clip_loss(config, prediction, corrupted[stream], detail.get(stream))
            losses[stream] = per_clip.mean()
            sums[stream] = _by_sigma(per_clip.detach(), sigma[stream])
        total = torch.stack(
            [self.weights.get(stream, 1.0) * loss for stream, loss in losses.items()]
        ).sum()
        return LossRecord(total, losses, sums, task)


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


def _without_text(captions: list[TimedCaption], drop: Tensor) -> list[TimedCaption]:
    return [
        c.replace(text="", events=()) if d else c
        for c, d in zip(captions, drop.tolist(), strict=True)
    ]


def _by_sigma(losses: Tensor, sigma: Tensor) -> Tensor:
    index = (sigma * NUM_SIGMA_BINS).long().clamp(max=NUM_SIGMA_BINS - 1)
    sums = torch.zeros(NUM_SIGMA_BINS, 2, device=losses.device)
    return sums.index_add(0, index, torch.stack((losses, torch.ones_like(losses)), dim=1))
