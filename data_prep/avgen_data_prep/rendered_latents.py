"""RenderedLatents: clips rendered and encoded while a model trains on them, none of them twice.

A batch is a pure function of (seed, step), whatever killed a run and however many processes render.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from avgen.data.batch import WHOLE, AVBatch, Share
from avgen.data.loader import Stream
from avgen.data.quantise import restored
from avgen.data.sampler import permute
from avgen.data.schema import STREAMS, CodecInfo
from avgen.data.sharing import batches_trained, check_same_data, run_state, shares
from avgen_data_prep.encode import LatentEncoder, Weights
from avgen_data_prep.worlds import HELD_OUT_SEED, WORLDS, check_worlds, clip_id
from avgen_data_prep.worlds.base import make_stage

ANY_RATE = 16_000
"""Samples per second where no codec asks for a rate."""


class Draw(NamedTuple):
    """A clip, and where in [0, 1) among its captions the one used is."""

    world: str
    seed: int
    caption: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ClipStream:
    """An endless stream of clips, any batch of it rendered and encoded when asked for.

    Attributes:
        encoder: The codecs of ``modalities``.
        parts: Part of the clips that each world has; they sum to 1.
        batch_size: Clips per process and forward pass.
        duration: Seconds of a clip.
        size: Height and width in pixels.
        fps: Frames per second.
        modalities: Streams that batches hold.
        seed: Names the stream.
    """

    encoder: LatentEncoder
    parts: dict[str, float]
    batch_size: int
    duration: float
    size: int
    fps: int
    modalities: tuple[Stream, ...]
    seed: int

    @property
    def sample_rate(self) -> int:
        """Samples per second that clips are rendered at."""
        return self.encoder.audio.sample_rate if self.encoder.audio else ANY_RATE

    def draws(self, step: int, share: Share = WHOLE) -> list[Draw]:
        """The clips of a share of the batch of a step; each seed comes once before any comes again."""
        total = self.batch_size * share.of
        rng = np.random.default_rng([self.seed, step])
        worlds = rng.choice(list(self.parts), total, p=list(self.parts.values()))
        captions = rng.random(total)
        places = (step * total + np.arange(total)) % HELD_OUT_SEED
        seeds = permute(places, HELD_OUT_SEED, self.seed)
        drawn = zip(worlds.tolist(), seeds.tolist(), captions.tolist(), strict=True)
        return [Draw(*clip) for clip in drawn][share.first :: share.of]

    def batch(self, step: int, share: Share = WHOLE) -> AVBatch:
        """Latents and captions of `draws`."""
        return self._encoded(self.draws(step, share), step, share)

    def held_out(self, count: int) -> Iterator[AVBatch]:
        """The first held-out clips of each world, with their first captions."""
        draws = [Draw(world, HELD_OUT_SEED + i) for world in self.parts for i in range(count)]
        for step, first in enumerate(range(0, len(draws), self.batch_size)):
            yield self._encoded(draws[first : first + self.batch_size], step, WHOLE)

    def _encoded(self, draws: list[Draw], step: int, share: Share) -> AVBatch:
        grid = {"duration": self.duration, "fps": self.fps, "size": self.size}
        examples = [
            WORLDS[draw.world].render(draw.seed, sample_rate=self.sample_rate, **grid)  # pyright: ignore[reportArgumentType]
            for draw in draws
        ]
        latents = self.encoder.encode([example.clip for example in examples])
        stacked = {
            name: torch.from_numpy(np.stack([arrays[name] for arrays in latents]))
            for name in self.modalities
        }
        streams: dict[str, Any] = dict.fromkeys(STREAMS) | restored(stacked)
        video, audio = self.encoder.video, self.encoder.audio
        return AVBatch(
            **streams,
            captions=[
                example.captions[int(draw.caption * len(example.captions))]
                for draw, example in zip(draws, examples, strict=True)
            ],
            ids=[clip_id(draw.world, draw.seed) for draw in draws],
            fps=float(self.fps),
            duration=float(examples[0].clip.duration),
            time_stride=video.time_stride if video else None,
            audio_rate=audio.sample_rate / audio.hop if audio else None,
            step=step,
            share=share,
        )


class Batches(Dataset[AVBatch]):
    """Batches of a process by number; a step has as many of them as there are shares."""

    def __init__(self, stream: ClipStream, parts: Sequence[Share]) -> None:
        self.stream, self.parts = stream, parts

    def __getitem__(self, number: int) -> AVBatch:
        step, turn = divmod(number, len(self.parts))
        return self.stream.batch(step, self.parts[turn])


class NumbersFrom(Sampler[int]):
    """All numbers from the one that ``first`` gives whenever an iterator is made."""

    def __init__(self, first: Callable[[], int]) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first())


class HeldOut(IterableDataset[AVBatch]):
    """The same held-out clips in every process, every time."""

    def __init__(self, stream: ClipStream, clips_per_world: int) -> None:
        self.stream, self.clips_per_world = stream, clips_per_world

    def __iter__(self) -> Iterator[AVBatch]:
        return self.stream.held_out(self.clips_per_world)


class RenderedLatents(LightningDataModule):
    """Endless batches of latents of freshly rendered clips, where `LatentDataModule` reads files.

    A resumed run goes on with the batch after the last one trained on. No clip comes twice within a
    million (62,500 steps of 16 clips).

    Args:
        worlds: Names of worlds.
        weights: How often each is drawn, in proportion; None: alike.
        codecs: Folder with the weights of both codecs; None: those shipped with avgen.
        batch_size: Clips per process and forward pass; see `LatentDataModule`.
        duration: Seconds of a clip.
        size: Height and width in pixels.
        fps: Frames per second.
        modalities: Streams that batches hold.
        seed: Names the stream.
        val_clips_per_world: Held-out clips of each world.
        num_workers: Rendering processes, each on one core; 0 renders in the training process.

    Raises:
        ValueError: Unknown worlds, or arguments that do not fit together or the codecs.
        CheckpointError: A codec is damaged.
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
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size}: give at least 1")
        self.stream = ClipStream(
            encoder=_encoder(codecs, modalities),
            parts=_parts(worlds, weights),
            batch_size=batch_size,
            duration=duration,
            size=size,
            fps=fps,
            modalities=tuple(modalities),
            seed=seed,
        )
        rate = self.stream.sample_rate
        make_stage(0, duration, fps, size, rate)
        self.stream.encoder.check(size=size, sample_rate=rate)
        self.val_clips_per_world = val_clips_per_world
        self.num_workers = num_workers

    @property
    def video_codec(self) -> CodecInfo | None:
        """Codec of the video latents."""
        return self.stream.encoder.video_info

    @property
    def audio_codec(self) -> CodecInfo | None:
        """Codec of the audio latents and codes."""
        return self.stream.encoder.audio_info

    def train_dataloader(self) -> DataLoader[AVBatch]:
        """Endless; stop by ``max_steps`` or ``max_time``.

        Raises:
            ValueError: A trainer that would replace the sampler.
        """
        return DataLoader(
            Batches(self.stream, shares(self.trainer)),
            sampler=NumbersFrom(lambda: batches_trained(self.trainer) or 0),
            batch_size=None,
            num_workers=self.num_workers,
            generator=torch.Generator(),  # else each new iterator draws from the global generator
        )

    def val_dataloader(self) -> DataLoader[AVBatch]:
        """Held-out clips, the same ones every time."""
        held_out = HeldOut(self.stream, self.val_clips_per_world)
        return DataLoader(held_out, batch_size=None, generator=torch.Generator())

    def state_dict(self) -> dict[str, Any]:
        """What the data of this run were, to compare on resume; the step is the trainer's."""
        return run_state(self.trainer, self._fingerprint())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the data are those of the checkpoint.

        Raises:
            DatasetError: They are not, so that the run could not go on exactly.
        """
        parts = "worlds, weights, codecs, seed, total batch size, accumulation, duration, size, fps or modalities"
        check_same_data(state_dict, self._fingerprint(), "the clips", parts)

    def _fingerprint(self) -> str:
        stream, parts = self.stream, shares(self.trainer)
        codecs = [codec and codec.identity for codec in (self.video_codec, self.audio_codec)]
        values = [stream.parts, codecs, stream.batch_size * parts[0].of, len(parts), stream.seed]
        values += [stream.duration, stream.size, stream.fps, list(stream.modalities)]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _encoder(codecs: str | None, modalities: Sequence[Stream]) -> LatentEncoder:
    unknown = [name for name in modalities if name not in STREAMS]
    if unknown or not modalities:
        raise ValueError(
            f"modalities {unknown or list(modalities)}: give at least one of {', '.join(STREAMS)}"
        )
    files = Weights.find(Path(codecs) if codecs else None)
    heard = set(modalities) - {"video"}
    return LatentEncoder.load(
        Weights(
            files.video_vae if "video" in modalities else None, files.audio_codec if heard else None
        )
    )


def _parts(worlds: Sequence[str], weights: Sequence[float] | None) -> dict[str, float]:
    check_worlds(worlds)
    if len(set(worlds)) < len(worlds):
        raise ValueError(f"worlds {list(worlds)}: name each once; `weights` draw one more often")
    weights = [1.0] * len(worlds) if weights is None else list(weights)
    if len(weights) != len(worlds) or min(weights) <= 0:
        raise ValueError(
            f"weights {weights}: give one positive number for each of {len(worlds)} worlds"
        )
    return {w: weight / sum(weights) for w, weight in zip(worlds, weights, strict=True)}
