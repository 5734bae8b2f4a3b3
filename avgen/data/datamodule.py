"""Latents to batches for Lightning, with exact resume."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from avgen.data.batch import AVBatch
from avgen.data.dataset import LatentDataset, Shape
from avgen.data.exclusion import Exclusion, read_exclusion
from avgen.data.loader import BatchView, Item, StepLoader, Stream
from avgen.data.sampler import Draw, Group, PureSampler, mix
from avgen.data.schema import STREAMS, CodecInfo, DatasetError, TextInfo, check_identity
from avgen.data.sharing import batches_trained, check_same_data, run_state, shares

__all__ = ["AVBatch", "LatentDataModule"]
_CAPTIONS = 3
_GIGABYTE = 1 << 30


class LatentDataModule(LightningDataModule):
    """Batches from dataset folders; that of a step depends on the arguments and the step alone.

    A run resumed from a checkpoint goes on with the batch after the last one trained on, whatever
    killed it, with any number of loader processes, and with another number of ranks if the batch
    of all ranks together stays.

    Args:
        folders: Dataset folders: paths, or URLs that fsspec has a driver for (``s3://...``).
        weights: Share of the batches from each folder; None: by number of examples.
        batch_size: Clips of one shape per process and forward pass. With the processes, and with
            ``accumulate_grad_batches`` of the trainer, they make up one batch of a step, the same that a
            single process would train on at once.
        pack: Batches per step. Above 1, a step trains on so many batches, each of clips of its own
            shape, as one `avgen.data.batch.PackedBatch`: up to ``pack * batch_size`` clips without
            padding. All clips must then hold the same of the ``modalities``.
        seed: Of order and caption choice.
        val_fraction: Share of examples held out, by hash of their id.
        modalities: Streams to load.
        first_frame_only: Give the first video latent alone, with what is seen at that moment, to
            train on images.
        steps_per_epoch: None: as many as the examples fill.
        cache_bytes: Keep examples in memory up to this many bytes, shared out among the folders.
        num_workers: Loader processes; 0, with threads that read ahead, is fastest for latents.
        read_ahead_bytes: Without loader processes, read the examples of steps to come up to this
            many bytes ahead; 0 reads when asked.
        exclude: File of hashes never to train on, see `avgen.data.exclusion`.
        text_features: Load the encoder states of captions too.
        video_identity: Refuse latents of another video codec; None accepts any, but one for all
            folders.
        audio_identity: Likewise for the audio codec.
        text_identity: Likewise for the encoder of the text features.

    Raises:
        ValueError: Arguments that do not fit together.
    """

    def __init__(
        self,
        folders: Sequence[str],
        *,
        weights: Sequence[float] | None = None,
        batch_size: int = 16,
        pack: int = 1,
        seed: int = 0,
        val_fraction: float = 0.02,
        modalities: Sequence[Stream] = ("video", "audio"),
        first_frame_only: bool = False,
        steps_per_epoch: int | None = None,
        cache_bytes: int = 2 * _GIGABYTE,
        num_workers: int = 0,
        read_ahead_bytes: int = 64 << 20,
        exclude: str | None = None,
        text_features: bool = False,
        video_identity: str | None = None,
        audio_identity: str | None = None,
        text_identity: str | None = None,
    ):
        super().__init__()
        if not folders:
            raise ValueError("no folders; give at least one folder written by `avgen prep`")
        if weights is not None and (len(weights) != len(folders) or min(weights) <= 0):
            raise ValueError(
                f"weights {list(weights)}: give one positive number for each of "
                f"{len(folders)} folders"
            )
        if pack < 1:
            raise ValueError(f"pack {pack}: give 1, or more batches to train on in one step")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction {val_fraction} must be at least 0 and below 1")
        if not modalities or (first_frame_only and "video" not in modalities):
            raise ValueError(
                f"modalities {list(modalities)}: give at least one; first_frame_only needs 'video'"
            )
        if text_features and first_frame_only:
            raise ValueError(
                "text_features hold the states of whole captions, but first_frame_only cuts "
                "captions to their first moment; give one of the two"
            )
        self.folders = [str(folder) for folder in folders]
        self.weights = weights
        self.batch_size = batch_size
        self.pack = pack
        self.seed = seed
        self.val_fraction = val_fraction
        self.modalities = tuple(modalities)
        self.first_frame_only = first_frame_only
        self.steps_per_epoch = steps_per_epoch
        self.cache_bytes = cache_bytes
        self.num_workers = num_workers
        self.read_ahead_bytes = read_ahead_bytes
        self.exclude = exclude
        self.text_features = text_features
        self.identities = {"video": video_identity, "audio": audio_identity, "text": text_identity}
        self.datasets: list[LatentDataset] = []
        self.exclusion: Exclusion | None = None

    def setup(self, stage: str | None = None) -> None:
        """Open the folders; a second call does nothing.

        Raises:
            DatasetError: A folder or the exclusion list is unusable, or the folders' codecs differ.
        """
        if self.datasets:
            return
        needed = {f"{kind}_identity": identity for kind, identity in self.identities.items()}
        share = self.cache_bytes // len(self.folders)
        self.exclusion = read_exclusion(self.exclude) if self.exclude is not None else None
        datasets = [
            LatentDataset(f, cache_bytes=share, text_features=self.text_features, **needed)
            for f in self.folders
        ]
        for kind in ("video", "audio", "text"):
            if self._loads(kind):
                first = _made_by(datasets[0], kind)
                for other in datasets[1:]:
                    check_identity(
                        other.folder, other.info, **{kind: first.identity if first else None}
                    )
        self.datasets = datasets
        self._tell_excluded()

    @property
    def video_codec(self) -> CodecInfo | None:
        """Codec of the video latents."""
        return self._opened()[0].info.video_codec

    @property
    def audio_codec(self) -> CodecInfo | None:
        """Codec of the audio latents and codes."""
        return self._opened()[0].info.audio_codec

    @property
    def text_encoder(self) -> TextInfo | None:
        """Encoder of the text features; None where they are not loaded."""
        return self._opened()[0].info.text_encoder if self.text_features else None

    def sampler(self, turn: int = 0) -> PureSampler:
        """The training sampler of this process, for each forward pass of a step in turn.

        Raises:
            DatasetError: Clips to be packed that hold different streams.
            ValueError: No examples.
        """
        if self.pack > 1:
            self._check_same_streams()
        share = shares(self.trainer)[turn]
        return PureSampler(
            self._groups(share.of),
            self.batch_size * share.of,
            steps_per_epoch=self.steps_per_epoch,
            seed=self.seed,
            rank=share.first,
            num_ranks=share.of,
            pack=self.pack,
        )

    def train_dataloader(self) -> StepLoader:
        """Training batches from the trainer's current step on.

        Raises:
            ValueError: No examples, or a trainer that would replace the sampler.
        """
        samplers = [self.sampler(turn) for turn in range(len(shares(self.trainer)))]
        view = self._view(caption_seed=mix(self.seed, _CAPTIONS), num_shares=samplers[0].num_ranks)
        return StepLoader(
            view, samplers, self.batches_trained, self.num_workers, self.read_ahead_bytes
        )

    def val_dataloader(self) -> DataLoader[Item] | list[Any]:
        """Every held-out example once, in order, with its first caption."""
        batches = [
            [Draw(int(index), number, slot) for slot, index in enumerate(part)]
            for number, part in enumerate(self._val_parts())
        ]
        if not batches:
            return []
        view = self._view(caption_seed=None)
        generator = torch.Generator()  # else each new iterator draws from the global generator
        return DataLoader(view, batch_sampler=batches, collate_fn=view.collate, generator=generator)

    def state_dict(self) -> dict[str, Any]:
        """What the data of this run were, to compare on resume; the step is the trainer's."""
        return run_state(self.trainer, self._fingerprint())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the data are those of the checkpoint.

        Raises:
            DatasetError: They are not, so that the run could not go on exactly.
        """
        parts = (
            "folders, their contents, exclusion list, seed, total batch size, pack, accumulation, "
        )
        parts += "split or modalities"
        check_same_data(state_dict, self._fingerprint(), "the data", parts)

    def batches_trained(self) -> int | None:
        """Training batches processed so far in the trainer's run; None without a trainer."""
        return batches_trained(self.trainer)

    def _opened(self) -> list[LatentDataset]:
        self.setup()
        return self.datasets

    def _loads(self, kind: str) -> bool:
        if kind == "text":
            return self.text_features
        return bool(set(self.modalities) & _streams_of(kind))

    def _kept(self, dataset: LatentDataset) -> np.ndarray:
        """Rows that the exclusion list leaves, ``(N,)`` bool."""
        if self.exclusion is None:
            return np.ones(len(dataset), dtype=bool)
        return ~self.exclusion.excluded(dataset.manifest)

    def _tell_excluded(self) -> None:
        if self.exclusion is None:
            return
        for dataset in self.datasets:
            out = len(dataset) - int(self._kept(dataset).sum())
            rank_zero_info(
                f"{dataset.folder}: {out} of {len(dataset)} examples left out by {self.exclude}"
            )
            if unchecked := self.exclusion.unchecked(dataset.manifest):
                rank_zero_warn(
                    f"{dataset.folder}: {unchecked} of {len(dataset)} examples carry no hash of "
                    f"their source, so the source hashes of {self.exclude} cannot match them; "
                    "prepare the dataset again from its sources, or list the ids of clips"
                )

    def _view(self, caption_seed: int | None, num_shares: int = 1) -> BatchView:
        return BatchView(
            self._opened(),
            modalities=self.modalities,
            first_frame_only=self.first_frame_only,
            caption_seed=caption_seed,
            num_shares=num_shares,
        )

    def _fingerprint(self) -> str:
        turns, num_shares = len(shares(self.trainer)), shares(self.trainer)[0].of
        values = (
            [dataset.info.to_dict() for dataset in self._opened()],
            list(self.weights or []),
            [self.batch_size * num_shares, self.seed],
            [self.val_fraction, list(self.modalities), self.first_frame_only, self.steps_per_epoch],
            *([self.exclusion.fingerprint] if self.exclusion else []),
            *([{"pack": self.pack}] if self.pack > 1 else []),
            *([{"turns": turns}] if turns > 1 else []),
        )
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def _buckets(self, *, val: bool) -> Iterator[tuple[int, dict[Shape, np.ndarray]]]:
        """Per folder, the indices (over all folders) of one split, by what batches share."""
        offset = 0
        for number, dataset in enumerate(self._opened()):
            of_row, shapes = dataset.shapes()
            wanted = [self._wanted(shape) for shape in shapes]
            buckets = sorted({key for key in wanted if key is not None}, key=str)
            places = {key: place for place, key in enumerate(buckets)}
            table = np.array([-1 if k is None else places[k] for k in wanted], dtype=np.int32)
            held_out = dataset.split_hashes < self.val_fraction * 2**32
            place = np.where((held_out == val) & self._kept(dataset), table[of_row], -1)
            found = {key: offset + np.flatnonzero(place == i) for key, i in places.items()}
            yield number, {key: indices for key, indices in found.items() if len(indices)}
            offset += len(dataset)

    def _wanted(self, shape: Shape) -> Shape | None:
        """The part of a shape that a batch shares; None for an example without the streams."""
        *streams, fps = shape
        named = zip(STREAMS, streams, strict=True)
        kept = [s if name in self.modalities else None for name, s in named]
        if self.first_frame_only:
            kept = [kept[0] and (kept[0][0], 1, *kept[0][2:]), None, None]
        return (*kept, fps) if any(kept) else None

    def _groups(self, ranks: int) -> list[Group]:
        groups = []
        for number, buckets in self._buckets(val=False):
            lengths = [len(indices) for indices in buckets.values()]
            sizes = [length / min(length, self.batch_size * ranks) for length in lengths]
            scale = self.weights[number] / sum(sizes) if self.weights and sizes else 1.0
            groups += [
                Group(indices, size * scale)
                for indices, size in zip(buckets.values(), sizes, strict=True)
            ]
        return groups

    def _check_same_streams(self) -> None:
        seen: dict[tuple[str, ...], tuple[str, int]] = {}
        for number, buckets in self._buckets(val=False):
            for (*shapes, _), indices in buckets.items():
                held = tuple(n for n, shape in zip(STREAMS, shapes, strict=True) if shape)
                folder, count = seen.get(held, (self.folders[number], 0))
                seen[held] = folder, count + len(indices)
        if len(seen) > 1:
            found = "; ".join(
                f"{count} clips with {' and '.join(held)} (first in {folder})"
                for held, (folder, count) in seen.items()
            )
            raise DatasetError(
                f"pack {self.pack} needs clips that all hold the same of {list(self.modalities)}, "
                f"but there are {found}; give `modalities` that all clips hold, leave out the "
                "clips that lack one, or set pack to 1"
            )

    def _val_parts(self) -> Iterator[np.ndarray]:
        for _, buckets in self._buckets(val=True):
            for indices in buckets.values():
                yield from (
                    indices[i : i + self.batch_size]
                    for i in range(0, len(indices), self.batch_size)
                )


def _made_by(dataset: LatentDataset, kind: str) -> CodecInfo | TextInfo | None:
    return getattr(dataset.info, "text_encoder" if kind == "text" else f"{kind}_codec")


def _streams_of(kind: str) -> set[str]:
    return {"video"} if kind == "video" else {"audio", "codes"}
