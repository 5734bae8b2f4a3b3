"""From draws to batches: examples of all folders of a run, and a loader that starts anywhere."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from avgen.caption import TimedCaption
from avgen.data.batch import AVBatch, PackedBatch, Share
from avgen.data.dataset import LatentDataset, LatentExample, Members
from avgen.data.sampler import Draw, PureSampler, mix
from avgen.data.schema import STREAMS
from avgen.data.text_features import TextFeatures

Stream = Literal["video", "audio", "codes"]
_THREADS = 16
_MOST_BATCHES = 64


class Item(NamedTuple):
    """An example, which of its captions is used, the number of its batch in the run and its place there."""

    example: LatentExample
    choice: int
    step: int
    slot: int

    @property
    def caption(self) -> TimedCaption:
        """The caption that is used."""
        return self.example["captions"][self.choice]


class BatchView(Dataset[Item]):
    """Examples of several datasets by `Draw`, and how to collate them.

    Args:
        datasets: Indices of draws run through them in order.
        modalities: Streams that batches hold.
        first_frame_only: Cut video to its first latent, captions to its moment; leave out the rest.
        caption_seed: Seed of the choice among paraphrases, which is a function of it and the draw;
            None takes the first.
        num_shares: Among how many every batch is shared out, processes and turns of a process.
    """

    def __init__(
        self,
        datasets: Sequence[LatentDataset],
        *,
        modalities: Sequence[Stream],
        first_frame_only: bool = False,
        caption_seed: int | None = None,
        num_shares: int = 1,
    ):
        self.num_shares = num_shares
        self.datasets = list(datasets)
        self.ends = np.cumsum([len(dataset) for dataset in datasets])
        self.modalities = modalities
        self.first_frame_only = first_frame_only
        self.caption_seed = caption_seed
        video, audio = datasets[0].info.video_codec, datasets[0].info.audio_codec
        self.time_stride = video.time_stride if video else None
        known = audio is not None and audio.sample_rate and audio.hop
        self.audio_rate = audio.sample_rate / audio.hop if known else None  # type: ignore[operator]

    def __getitem__(self, draw: Draw) -> Item:
        return self.item(draw, self.fetch(draw))

    def fetch(self, draw: Draw) -> Members | None:
        """Read what a draw needs; see `LatentDataset.fetch`."""
        dataset, index = self._find(draw)
        return dataset.fetch(index)

    def num_bytes(self, draw: Draw) -> int:
        """How much `fetch` reads for a draw."""
        dataset, index = self._find(draw)
        return dataset.num_bytes(index)

    def item(self, draw: Draw, members: Members | None) -> Item:
        """The item of a draw, given what `fetch` gave."""
        dataset, index = self._find(draw)
        example = dataset.example(index, members)
        choice = 0
        if self.caption_seed is not None:
            choice = mix(self.caption_seed, draw.step, draw.slot) % len(example["captions"])
        return Item(example, choice, draw.step, draw.slot)

    def _find(self, draw: Draw) -> tuple[LatentDataset, int]:
        number = int(np.searchsorted(self.ends, draw.example, side="right"))
        dataset = self.datasets[number]
        return dataset, draw.example - int(self.ends[number]) + len(dataset)

    def collate(self, items: list[Item]) -> AVBatch | PackedBatch:
        """Stack the examples of each batch; several batches make a packed one."""
        parts = [self._batch(list(part)) for _, part in groupby(items, lambda item: item.step)]
        return parts[0] if len(parts) == 1 else PackedBatch(tuple(parts))

    def _batch(self, items: list[Item]) -> AVBatch:
        examples = [item.example for item in items]
        captions = [item.caption for item in items]
        fps, duration = examples[0]["fps"], examples[0]["duration"]
        tensors = {stream: self._stack(examples, stream) for stream in STREAMS}
        if self.first_frame_only:
            duration = 1 / fps
            captions = [caption.cropped(0.0, duration) for caption in captions]
            tensors |= {"audio": None, "codes": None}
        return AVBatch(
            **tensors,
            captions=captions,
            ids=[example["id"] for example in examples],
            fps=fps,
            duration=duration,
            time_stride=self.time_stride,
            audio_rate=self.audio_rate,
            step=items[0].step,
            text=_text_of(items),
            share=Share(items[0].slot, self.num_shares),
        )

    def _stack(self, examples: list[LatentExample], stream: Stream) -> Any:
        if stream not in self.modalities or examples[0][stream] is None:
            return None
        tensors = [example[stream] for example in examples]
        if self.first_frame_only and stream == "video":
            tensors = [tensor[:, :1] for tensor in tensors]  # type: ignore[index]
        return torch.stack(tensors)  # type: ignore[arg-type]


def _text_of(items: list[Item]) -> list[TextFeatures] | None:
    features = [item.example["text"] for item in items]
    chosen = [f[item.choice] for f, item in zip(features, items, strict=True) if f is not None]
    return chosen or None


class Turns:
    """Batches of a process, numbered over the run: the shares of a step that fall to it, one after the other.

    Args:
        samplers: One for each turn; several where gradients are accumulated.
    """

    def __init__(self, samplers: Sequence[PureSampler]):
        self.samplers = samplers
        self.next = 0

    def batch(self, number: int) -> list[Draw]:
        """The examples of a batch; a pure function."""
        step, turn = divmod(number, len(self.samplers))
        return self.samplers[turn].batch(step)

    def __iter__(self) -> Iterator[list[Draw]]:
        """One epoch's number of batches, from the next on."""
        return (self.batch(number) for number in range(self.next, self.next + len(self)))

    def __len__(self) -> int:
        return len(self.samplers) * self.samplers[0].steps_per_epoch


class StepLoader(DataLoader[Item]):
    """A data loader that starts at a batch, asked for whenever an iterator is made.

    A batch is a step, unless gradients are accumulated. Lightning wants a state of loaders that can
    resume; here that is a note only, since the count is the trainer's, which restores it.

    Args:
        view: Examples.
        samplers: Draws of each step, by turn; see `Turns`.
        first_step: Gives the number of the next batch; None where nobody knows: then the loader's.
        num_workers: Loader processes.
        read_ahead_bytes: Without loader processes, threads read the examples of the steps to come,
            up to this many bytes that are not used yet; 0 reads when asked.
    """

    def __init__(
        self,
        view: BatchView,
        samplers: Sequence[PureSampler],
        first_step: Callable[[], int | None],
        num_workers: int = 0,
        read_ahead_bytes: int = 0,
    ):
        turns = Turns(samplers)
        super().__init__(
            view,
            batch_sampler=turns,  # type: ignore[arg-type]
            collate_fn=view.collate,
            num_workers=num_workers,
            generator=torch.Generator(),  # else each new iterator draws from the global generator
        )
        self.view = view
        self.turns = turns
        self.first_step = first_step
        self.read_ahead_bytes = read_ahead_bytes

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """One epoch's number of batches, from the first on."""
        step = self.first_step()
        if step is not None:
            self.turns.next = step
        if self.num_workers == 0 and self.read_ahead_bytes > 0:
            return read_ahead(self.view, iter(self.turns), self.read_ahead_bytes)
        return super().__iter__()

    def state_dict(self) -> dict[str, int]:
        """The number of the next batch."""
        step = self.first_step()
        return {"step": self.turns.next if step is None else step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at the batch of ``state``; a trainer's own count overrides it."""
        self.turns.next = state["step"]


def read_ahead(
    view: BatchView, batches: Iterator[list[Draw]], limit: int
) -> Iterator[AVBatch | PackedBatch]:
    """Batches in order, read by threads before they are due.

    Threads only read; examples are made and kept in the thread of the caller.

    Args:
        view: Examples.
        batches: Draws of each step.
        limit: Bytes read or being read that are not used yet; one batch is always read.
    """
    waiting: deque[tuple[list[Draw], list[Future[Members | None]], int]] = deque()
    used = 0
    draws = next(batches, None)
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="avgen-read")
    try:
        while draws or waiting:
            while draws and len(waiting) < _MOST_BATCHES:
                size = sum(view.num_bytes(draw) for draw in draws)
                if waiting and used + size > limit:
                    break
                waiting.append((draws, [pool.submit(view.fetch, draw) for draw in draws], size))
                used += size
                draws = next(batches, None)
            due, reads, size = waiting.popleft()
            items = [view.item(d, read.result()) for d, read in zip(due, reads, strict=True)]
            used -= size
            yield view.collate(items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
