"""Latents to batches for Lightning, with exact resume.

B batch, C channels, T H W video latent grid, L audio steps, Q codebooks.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningDataModule
from lightning.pytorch.loops.progress import _ProcessedTracker
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from avgen.caption import TimedCaption
from avgen.data.dataset import LatentDataset, LatentExample, Shape
from avgen.data.sampler import Draw, Group, PureSampler, batch_of, mix
from avgen.data.schema import CodecInfo, DatasetError, check_identity

Stream = Literal["video", "audio", "codes"]
_GIGABYTE = 1 << 30


@dataclass(frozen=True, kw_only=True)
class AVBatch:
    """Latents of clips of one shape and rate, with one caption each.

    Attributes:
        video: ``(B, C, T, H, W)``, or None where the clips have no picture or it is not asked for.
        audio: ``(B, C, L)`` continuous latents, or None.
        codes: ``(B, Q, L)`` codebook indices, or None.
        captions: One per clip.
        ids: One per clip.
        fps: Frames per second (not latent steps).
        duration: Seconds of each clip.
        time_stride: Frames per video latent step after the first, None without a video codec.
        audio_rate: Audio latent steps per second, None without an audio codec.
        step: Number of the batch in the run; with a seed, a source of random numbers that survives a restart.
    """

    video: Float[Tensor, "b c t h w"] | None
    audio: Float[Tensor, "b c l"] | None
    codes: Int[Tensor, "b q l"] | None
    captions: list[TimedCaption]
    ids: list[str]
    fps: float
    duration: float
    time_stride: int | None
    audio_rate: float | None
    step: int

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, *args: Any, **kwargs: Any) -> "AVBatch":
        """The batch with its latents moved as by `torch.Tensor.to`; codes stay integer."""
        moved = {
            name: None if tensor is None else tensor.to(*args, **kwargs)
            for name, tensor in (("video", self.video), ("audio", self.audio))
        }
        codes = None if self.codes is None else self.codes.to(*args, **kwargs).long()
        return replace(self, **moved, codes=codes)


class LatentDataModule(LightningDataModule):
    """Batches from one or more dataset folders; the batch of a step depends on the arguments and the step alone.

    A run resumed from a checkpoint goes on with the batch after the last one trained on, whatever killed it.

    Args:
        folders: Dataset folders.
        weights: Share of the batches from each folder; None: by number of examples.
        batch_size: Clips per step and process.
        seed: Of order and caption choice.
        val_fraction: Share of examples held out, by hash of their id.
        modalities: Streams to load.
        first_frame_only: Give the first video latent alone, with what is seen at that moment, to train on images.
        steps_per_epoch: None: as many as the examples fill.
        cache_bytes: Keep examples in memory up to this many bytes, shared out among the folders.
        num_workers: Loader processes; latents in memory are fastest with 0.
        video_identity: Refuse latents of another video codec; None accepts any, but one for all folders.
        audio_identity: Likewise for the audio codec.

    Raises:
        ValueError: Arguments that do not fit together.
    """

    def __init__(
        self,
        folders: Sequence[str],
        *,
        weights: Sequence[float] | None = None,
        batch_size: int = 16,
        seed: int = 0,
        val_fraction: float = 0.02,
        modalities: Sequence[Stream] = ("video", "audio"),
        first_frame_only: bool = False,
        steps_per_epoch: int | None = None,
        cache_bytes: int = 2 * _GIGABYTE,
        num_workers: int = 0,
        video_identity: str | None = None,
        audio_identity: str | None = None,
    ):
        super().__init__()
        if not folders:
            raise ValueError("no folders; give at least one folder written by `avgen prep`")
        if weights is not None and (len(weights) != len(folders) or min(weights) <= 0):
            raise ValueError(
                f"weights {list(weights)}: give one positive number for each of {len(folders)} folders"
            )
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction {val_fraction} must be at least 0 and below 1")
        if not modalities or (first_frame_only and "video" not in modalities):
            raise ValueError(
                f"modalities {list(modalities)}: first_frame_only needs 'video', and none is nothing"
            )
        self.folders = [str(folder) for folder in folders]
        self.weights = weights
        self.batch_size = batch_size
        self.seed = seed
        self.val_fraction = val_fraction
        self.modalities = tuple(modalities)
        self.first_frame_only = first_frame_only
        self.steps_per_epoch = steps_per_epoch
        self.cache_bytes = cache_bytes
        self.num_workers = num_workers
        self.identities = {"video": video_identity, "audio": audio_identity}
        self.datasets: list[LatentDataset] = []

    def setup(self, stage: str | None = None) -> None:
        """Open the folders; a second call does nothing.

        Raises:
            DatasetError: A folder is unusable, or the folders' codecs differ.
        """
        if self.datasets:
            return
        needed = {f"{kind}_identity": identity for kind, identity in self.identities.items()}
        share = self.cache_bytes // len(self.folders)
        datasets = [LatentDataset(f, cache_bytes=share, **needed) for f in self.folders]
        for kind in ("video", "audio"):
            if set(self.modalities) & _streams_of(kind):
                first = getattr(datasets[0].info, f"{kind}_codec")
                for other in datasets[1:]:
                    check_identity(
                        other.folder, other.info, **{kind: first.identity if first else None}
                    )
        self.datasets = datasets

    @property
    def video_codec(self) -> CodecInfo | None:
        """Codec of the video latents."""
        return self._opened()[0].info.video_codec

    @property
    def audio_codec(self) -> CodecInfo | None:
        """Codec of the audio latents and codes."""
        return self._opened()[0].info.audio_codec

    def sampler(self) -> PureSampler:
        """The training sampler of this process."""
        ranks = self.trainer.world_size if self.trainer else 1
        return PureSampler(
            self._groups(),
            self.batch_size * ranks,
            steps_per_epoch=self.steps_per_epoch,
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            num_ranks=ranks,
        )

    def train_dataloader(self) -> "StepLoader":
        """Training batches from the trainer's current step on.

        Raises:
            ValueError: No examples, or a trainer that would replace the sampler.
        """
        trainer = self.trainer
        if (
            trainer
            and trainer.world_size > 1
            and trainer._accelerator_connector.use_distributed_sampler
        ):
            raise ValueError(
                "set `use_distributed_sampler: false` in the trainer; the data module shares batches out"
            )
        return StepLoader(self, self.sampler(), self.num_workers)

    def val_dataloader(self) -> DataLoader[AVBatch] | list[Any]:
        """Every held-out example once, in order, with its first caption."""
        batches = [
            [Draw(int(index), number, slot) for slot, index in enumerate(part)]
            for number, part in enumerate(self._val_parts())
        ]
        if not batches:
            return []
        view = _View(self, pick_captions=False)
        return DataLoader(
            view, batch_sampler=batches, collate_fn=view.collate, generator=torch.Generator()
        )

    def state_dict(self) -> dict[str, Any]:
        """What the data of this run were, to compare on resume; the step itself is the trainer's."""
        return {"fingerprint": self._fingerprint(), "step": self.batches_trained()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the data are those of the checkpoint.

        Raises:
            DatasetError: They are not, so that the run could not go on exactly.
        """
        if state_dict["fingerprint"] != self._fingerprint():
            raise DatasetError(
                f"the data differ from those of the checkpoint at step {state_dict['step']} (folders, their contents, "
                "seed, batch size, split or modalities), so the run cannot go on exactly; "
                "restore them, or start a new run from the checkpoint's weights"
            )

    def batches_trained(self) -> int:
        """Training batches processed so far in the attached trainer's run."""
        if self.trainer is None:
            return 0
        total = self.trainer.fit_loop.epoch_loop.batch_progress.total
        assert isinstance(total, _ProcessedTracker)
        return total.processed

    def _opened(self) -> list[LatentDataset]:
        self.setup()
        return self.datasets

    def _fingerprint(self) -> str:
        values = (
            [dataset.info.to_dict() for dataset in self._opened()],
            list(self.weights or []),
            [self.batch_size, self.trainer.world_size if self.trainer else 1, self.seed],
            [self.val_fraction, list(self.modalities), self.first_frame_only, self.steps_per_epoch],
        )
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def _buckets(self, *, val: bool) -> Iterator[tuple[int, dict[Shape, np.ndarray]]]:
        """Per folder: indices, over all folders, of one split by shape; rows without the streams left out."""
        offset = 0
        for number, dataset in enumerate(self._opened()):
            held_out = dataset.split_hashes < self.val_fraction * 2**32
            buckets: dict[Shape, list[int]] = {}
            for index, shape in enumerate(dataset.shapes):
                if held_out[index] == val and (key := self._wanted(shape)) is not None:
                    buckets.setdefault(key, []).append(offset + index)
            yield (
                number,
                {k: np.array(v, dtype=np.int64) for k, v in sorted(buckets.items(), key=str)},
            )
            offset += len(dataset)

    def _wanted(self, shape: Shape) -> Shape | None:
        """The part of a shape that a batch shares, or None for an example with none of the streams."""
        *streams, fps = shape
        named = zip(("video", "audio", "codes"), streams, strict=True)
        kept = [s if name in self.modalities else None for name, s in named]
        if self.first_frame_only:
            kept = [kept[0] and (kept[0][0], 1, *kept[0][2:]), None, None]
        return (*kept, fps) if any(kept) else None

    def _groups(self) -> list[Group]:
        ranks = self.trainer.world_size if self.trainer else 1
        groups = []
        for number, buckets in self._buckets(val=False):
            sizes = [
                len(indices) / batch_of(len(indices), self.batch_size * ranks, ranks)
                for indices in buckets.values()
            ]
            scale = self.weights[number] / sum(sizes) if self.weights and sizes else 1.0
            groups += [
                Group(indices, size * scale)
                for indices, size in zip(buckets.values(), sizes, strict=True)
            ]
        return groups

    def _val_parts(self) -> Iterator[np.ndarray]:
        for _, buckets in self._buckets(val=True):
            for indices in buckets.values():
                yield from (
                    indices[i : i + self.batch_size]
                    for i in range(0, len(indices), self.batch_size)
                )


class StepLoader(DataLoader):
    """A data loader that starts where the trainer stands.

    Lightning asks resumable loaders for a state; here it is only a note, as the step is read from the trainer, which
    restores it.
    """

    def __init__(self, module: LatentDataModule, sampler: PureSampler, num_workers: int):
        view = _View(module, pick_captions=True)
        super().__init__(
            view,
            batch_sampler=sampler,
            collate_fn=view.collate,
            num_workers=num_workers,
            generator=torch.Generator(),  # else each new iterator draws from the global generator
        )
        self.module = module

    def __iter__(self) -> Any:
        """One epoch's number of batches, from the trainer's step on."""
        assert isinstance(self.batch_sampler, PureSampler)
        if self.module.trainer is not None:
            self.batch_sampler.step = self.module.batches_trained()
        return super().__iter__()

    def state_dict(self) -> dict[str, int]:
        """The number of batches trained on."""
        return {"step": self.module.batches_trained()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Nothing to do: see the class."""


class _View(Dataset):
    """Examples of all folders of a data module, by `Draw`."""

    def __init__(self, module: LatentDataModule, *, pick_captions: bool):
        self.datasets = module._opened()
        self.ends = np.cumsum([len(dataset) for dataset in self.datasets])
        self.modalities = module.modalities
        self.first_frame_only = module.first_frame_only
        self.seed = module.seed
        self.pick_captions = pick_captions
        video, audio = module.video_codec, module.audio_codec
        self.time_stride = video.time_stride if video else None
        self.audio_rate = (
            audio.sample_rate / audio.hop if audio and audio.hop and audio.sample_rate else None
        )

    def __getitem__(self, draw: Draw) -> tuple[LatentExample, TimedCaption, int]:
        number = int(np.searchsorted(self.ends, draw.example, side="right"))
        dataset = self.datasets[number]
        example = dataset[draw.example - int(self.ends[number]) + len(dataset)]
        captions = example["captions"]
        choice = (
            mix(self.seed, 3, draw.step, draw.slot) % len(captions) if self.pick_captions else 0
        )
        return example, captions[choice], draw.step

    def collate(self, items: list[tuple[LatentExample, TimedCaption, int]]) -> AVBatch:
        """Stack examples of one shape."""
        examples = [example for example, _, _ in items]
        captions = [caption for _, caption, _ in items]
        fps, duration = examples[0]["fps"], examples[0]["duration"]
        tensors = {name: self._stack(examples, name) for name in ("video", "audio", "codes")}
        if self.first_frame_only:
            duration = 1 / fps
            captions = [caption.cropped(0.0, duration) for caption in captions]
            tensors = {"video": tensors["video"][:, :, :1], "audio": None, "codes": None}
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

    def _stack(self, examples: list[LatentExample], name: Stream) -> Any:
        if name not in self.modalities or examples[0][name] is None:
            return None
        return torch.stack([example[name] for example in examples])  # type: ignore[misc]


def _streams_of(kind: str) -> set[str]:
    return {"video"} if kind == "video" else {"audio", "codes"}
