"""RenderedLatents: clips rendered and encoded while a model trains on them, none of them twice.

A batch is a pure function of (seed, number), whatever killed a run and however many processes render.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from avgen.data.batch import WHOLE, AVBatch, Share
from avgen.data.loader import Stream, ranks
from avgen.data.sampler import permute
from avgen.data.schema import STREAMS, CodecInfo
from avgen_data_prep.encode import LatentEncoder, Weights
from avgen_data_prep.rendering import HELD_OUT_SEED
from avgen_data_prep.worlds import WORLDS
from avgen_data_prep.worlds.base import WorldExample


@dataclass(frozen=True)
class Rendering:
    """Renders and encodes any batch of a stream of clips.

    Attributes:
        encoder: The codecs.
        shares: How often each world is drawn; the shares sum to 1.
        batch_size: Clips of a batch.
        duration: Seconds of a clip.
        size: Height and width in pixels.
        fps: Frames per second.
        modalities: Streams that batches hold.
        seed: Names the stream.
    """

    encoder: LatentEncoder
    shares: dict[str, float]
    batch_size: int
    duration: float
    size: int
    fps: int
    modalities: tuple[Stream, ...]
    seed: int

    def training(self, step: int, share: Share = WHOLE) -> AVBatch:
        """A share of the batch of a step.

        Clips have seeds below 1,000,000, each of them once before any comes again.
        """
        rng = np.random.default_rng([self.seed, step])
        total = self.batch_size * share.of
        worlds = rng.choice(list(self.shares), total, p=list(self.shares.values()))
        places = (step * total + np.arange(total)) % HELD_OUT_SEED
        seeds = permute(places, HELD_OUT_SEED, self.seed)
        captions = rng.random(total)
        mine = range(share.first, total, share.of)
        examples = [self._render(str(worlds[i]), int(seeds[i])) for i in mine]
        choices = [int(captions[i] * len(e.captions)) for i, e in zip(mine, examples, strict=True)]
        return self._batch(examples, choices, step, share)

    def held_out(self, count: int) -> Iterator[AVBatch]:
        """The first held-out clips of each world with their first captions."""
        clips = [(world, HELD_OUT_SEED + i) for world in self.shares for i in range(count)]
        for step, first in enumerate(range(0, len(clips), self.batch_size)):
            examples = [self._render(*clip) for clip in clips[first : first + self.batch_size]]
            yield self._batch(examples, [0] * len(examples), step, WHOLE)

    def _render(self, world: str, seed: int) -> WorldExample:
        rate = self.encoder.audio.sample_rate if self.encoder.audio else 16_000
        return WORLDS[world].render(
            seed, duration=self.duration, fps=self.fps, size=self.size, sample_rate=rate
        )

    def _batch(
        self, examples: list[WorldExample], choices: list[int], step: int, share: Share
    ) -> AVBatch:
        latents = self.encoder.encode([example.clip for example in examples])
        streams: dict[str, Any] = {
            name: _stack([arrays[name] for arrays in latents])
            for name in STREAMS
            if name in self.modalities
        }
        video, audio = self.encoder.video, self.encoder.audio
        return AVBatch(
            **dict.fromkeys(STREAMS) | streams,
            captions=[e.captions[i] for e, i in zip(examples, choices, strict=True)],
            ids=[f"{e.truth['world']}-{e.truth['seed']:07d}" for e in examples],
            fps=float(self.fps),
            duration=float(examples[0].clip.duration),
            time_stride=video.time_stride if video else None,
            audio_rate=audio.sample_rate / audio.hop if audio else None,
            step=step,
            share=share,
        )


class RenderedBatches(IterableDataset[AVBatch]):
    """Endless batches of one process of a run, shared out among its workers in turn.

    Args:
        rendering: What makes them.
        first: Number of the first batch of this process.
        turns: The places in the batch of a step that fall to this process, one after the other.
        of: Number of all such places.
    """

    def __init__(self, rendering: Rendering, first: int, turns: Sequence[int], of: int) -> None:
        self.rendering, self.first, self.turns, self.of = rendering, first, turns, of

    def __iter__(self) -> Iterator[AVBatch]:
        worker = get_worker_info()
        number = self.first + (worker.id if worker else 0)
        while True:
            step, turn = divmod(number, len(self.turns))
            yield self.rendering.training(step, Share(self.turns[turn], self.of))
            number += worker.num_workers if worker else 1


class HeldOutBatches(IterableDataset[AVBatch]):
    """The same held-out clips every time."""

    def __init__(self, rendering: Rendering, clips_per_world: int) -> None:
        self.rendering, self.clips_per_world = rendering, clips_per_world

    def __iter__(self) -> Iterator[AVBatch]:
        return self.rendering.held_out(self.clips_per_world)


class RenderedLatents(LightningDataModule):
    """Endless batches of latents of freshly rendered clips, where `LatentDataModule` reads files.

    A resumed run goes on with the batch after the last one trained on. No clip comes twice within a
    million (62,500 steps of 16 clips).

    Args:
        worlds: Names of worlds.
        weights: How often each is drawn, in proportion; None: alike.
        codecs: Folder with the weights of both codecs; None: those shipped with avgen.
        batch_size: Clips per process and forward pass.
        duration: Seconds of a clip.
        size: Height and width in pixels.
        fps: Frames per second.
        modalities: Streams that batches hold.
        seed: Names the stream.
        val_clips_per_world: Held-out clips of each world.
        num_workers: Rendering processes, each on one core; 0 renders in the training process.

    Raises:
        ValueError: Unknown worlds, weights that do not fit, or a size that the codecs cannot take.
        CheckpointError: A codec is missing or damaged.
    """

    def __init__(
        self,
        worlds: Sequence[str] = ("bounce", "drums", "talker", "engine"),
        *,
        weights: Sequence[float] | None = None,
        codecs: str | None = None,
        batch_size: int = 16,
        duration: float = 1.96,
        size: int = 64,
        fps: int = 25,
        modalities: Sequence[Stream] = ("video", "audio"),
        seed: int = 0,
        val_clips_per_world: int = 16,
        num_workers: int = 1,
    ) -> None:
        super().__init__()
        encoder = LatentEncoder.load(Weights.find(Path(codecs) if codecs else None))
        assert encoder.audio is not None
        encoder.check(size=size, sample_rate=encoder.audio.sample_rate)
        if not modalities:
            raise ValueError("no modalities; give at least one of video, audio, codes")
        self.rendering = Rendering(
            encoder=encoder,
            shares=_shares(worlds, weights),
            batch_size=batch_size,
            duration=duration,
            size=size,
            fps=fps,
            modalities=tuple(modalities),
            seed=seed,
        )
        self.val_clips_per_world = val_clips_per_world
        self.num_workers = num_workers

    @property
    def video_codec(self) -> CodecInfo | None:
        """Codec of the video latents."""
        return self.rendering.encoder.video_info

    @property
    def audio_codec(self) -> CodecInfo | None:
        """Codec of the audio latents and codes."""
        return self.rendering.encoder.audio_info

    def train_dataloader(self) -> DataLoader[AVBatch]:
        """Endless; stop by ``max_steps`` or ``max_time``."""
        first, processes, rank, turns = 0, 1, 0, 1
        if self.trainer:
            processes, rank = ranks(self.trainer)
            first = self.trainer.fit_loop.total_batch_idx + 1
            turns = self.trainer.accumulate_grad_batches
        places = [turn * processes + rank for turn in range(turns)]
        batches = RenderedBatches(self.rendering, first, places, processes * turns)
        return DataLoader(batches, batch_size=None, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[AVBatch]:
        """Held-out clips, the same ones every time."""
        batches = HeldOutBatches(self.rendering, self.val_clips_per_world)
        return DataLoader(batches, batch_size=None)


def _stack(arrays: list[np.ndarray]) -> Tensor:
    stacked = torch.from_numpy(np.stack(arrays))
    return stacked.float() if stacked.is_floating_point() else stacked


def _shares(worlds: Sequence[str], weights: Sequence[float] | None) -> dict[str, float]:
    unknown = [name for name in worlds if name not in WORLDS]
    if unknown or not worlds or len(set(worlds)) < len(worlds):
        raise ValueError(
            f"worlds {unknown or list(worlds)}: choose from {sorted(WORLDS)}, each once"
        )
    weights = [1.0] * len(worlds) if weights is None else list(weights)
    if len(weights) != len(worlds) or min(weights) <= 0:
        raise ValueError(
            f"weights {weights}: give one positive number for each of {len(worlds)} worlds"
        )
    return {w: weight / sum(weights) for w, weight in zip(worlds, weights, strict=True)}
