"""From draws to batches: examples of all folders of a run, and a loader that starts anywhere."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from avgen.caption import TimedCaption
from avgen.data.batch import AVBatch
from avgen.data.dataset import LatentDataset, LatentExample
from avgen.data.sampler import Draw, PureSampler, mix
from avgen.data.schema import STREAMS

Stream = Literal["video", "audio", "codes"]
Item = tuple[LatentExample, TimedCaption, int]


class BatchView(Dataset[Item]):
    """Examples of several datasets by `Draw`, and how to collate them.

    Args:
        datasets: Indices of draws run through them in order.
        modalities: Streams that batches hold.
        first_frame_only: Cut video to its first latent, captions to its moment; leave out the rest.
        caption_seed: Seed of the choice among paraphrases, which is a function of it and the draw;
            None takes the first.
    """

    def __init__(
        self,
        datasets: Sequence[LatentDataset],
        *,
        modalities: Sequence[Stream],
        first_frame_only: bool = False,
        caption_seed: int | None = None,
    ):
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
        number = int(np.searchsorted(self.ends, draw.example, side="right"))
        dataset = self.datasets[number]
        example = dataset[draw.example - int(self.ends[number]) + len(dataset)]
        choice = 0
        if self.caption_seed is not None:
            choice = mix(self.caption_seed, draw.step, draw.slot) % len(example["captions"])
        return example, example["captions"][choice], draw.step

    def collate(self, items: list[Item]) -> AVBatch:
        """Stack examples of one shape."""
        examples = [example for example, _, _ in items]
        captions = [caption for _, caption, _ in items]
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
            step=items[0][2],
        )

    def _stack(self, examples: list[LatentExample], stream: Stream) -> Any:
        if stream not in self.modalities or examples[0][stream] is None:
            return None
        tensors = [example[stream] for example in examples]
        if self.first_frame_only and stream == "video":
            tensors = [tensor[:, :1] for tensor in tensors]  # type: ignore[index]
        return torch.stack(tensors)  # type: ignore[arg-type]


class StepLoader(DataLoader[Item]):
    """A data loader that starts at a step, asked for whenever an iterator is made.

    Lightning wants a state of loaders that can resume; here that is a note only, since the step is
    the trainer's, which restores it.

    Args:
        view: Examples.
        sampler: Batches.
        first_step: Gives the step of the next batch; None where nobody knows: then the sampler's.
        num_workers: Loader processes.
    """

    def __init__(
        self,
        view: BatchView,
        sampler: PureSampler,
        first_step: Callable[[], int | None],
        num_workers: int = 0,
    ):
        super().__init__(
            view,
            batch_sampler=sampler,
            collate_fn=view.collate,
            num_workers=num_workers,
            generator=torch.Generator(),  # else each new iterator draws from the global generator
        )
        self.sampler_by_step = sampler
        self.first_step = first_step

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """One epoch's number of batches, from the first step on."""
        step = self.first_step()
        if step is not None:
            self.sampler_by_step.step = step
        return super().__iter__()

    def state_dict(self) -> dict[str, int]:
        """The step of the next batch."""
        step = self.first_step()
        return self.sampler_by_step.state_dict() if step is None else {"step": step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at the step of ``state``; a trainer's own step overrides it."""
        self.sampler_by_step.load_state_dict(state)
