"""RenderedWorlds: an endless stream of freshly rendered clips, to train codecs without files.

Every batch is a pure function of (seed, step): the order depends neither on the number of workers
nor on where a run was interrupted. A rendered clip is cut several times to pay for its rendering.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from avgen.clip import Clip
from avgen.data.sharing import batches_trained
from avgen_data_prep.worlds import HELD_OUT_SEED, WORLDS, check_worlds


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """How clips are rendered and cut.

    Attributes:
        worlds: Names in `WORLDS`; one named twice is drawn twice as often.
        size: Height and width in pixels.
        duration: Seconds rendered per clip.
        fps: Frames per second.
        sample_rate: Waveform samples per second; ``sample_rate / fps`` must be whole.
        num_frames: Frames of a cut; the whole clip if None.
        batch_size: Cuts per batch.
        cuts_per_clip: Random cuts taken of one rendered clip.
        video: Whether batches hold ``frames``.
        audio: Whether batches hold ``waveform``.
    """

    worlds: tuple[str, ...]
    size: int
    duration: float
    fps: int
    sample_rate: int
    num_frames: int | None
    batch_size: int
    cuts_per_clip: int
    video: bool
    audio: bool

    def __post_init__(self) -> None:
        check_worlds(self.worlds)
        if self.sample_rate % self.fps:
            raise ValueError(
                f"sample_rate {self.sample_rate} is not a multiple of fps {self.fps}; "
                f"choose a multiple, such as {self.sample_rate // self.fps * self.fps}"
            )


def render(settings: RenderSettings, world: str, seed: int) -> Clip:
    """One whole clip of a world."""
    example = WORLDS[world].render(
        seed,
        duration=settings.duration,
        fps=settings.fps,
        size=settings.size,
        sample_rate=settings.sample_rate,
    )
    return example.clip


def cut(clip: Clip, settings: RenderSettings, start: int, num_frames: int) -> dict[str, Tensor]:
    """Frames ``start`` to ``start + num_frames`` as tensors, and exactly their sound."""
    assert clip.frames is not None
    assert clip.waveform is not None
    tensors: dict[str, Tensor] = {}
    if settings.video:
        frames = torch.from_numpy(np.ascontiguousarray(clip.frames[start : start + num_frames]))
        tensors["frames"] = frames.permute(3, 0, 1, 2).float().div_(127.5).sub_(1)
    if settings.audio:
        hop = settings.sample_rate // settings.fps
        first, last = start * hop, (start + num_frames) * hop
        tensors["waveform"] = torch.from_numpy(clip.waveform[:, first:last].copy())
    return tensors


def render_batch(settings: RenderSettings, seed: int, step: int) -> dict[str, Tensor]:
    """Batch number ``step`` of the stream ``seed``: a pure function of its arguments.

    Returns:
        ``frames`` ``(B, 3, F, H, W)`` in [-1, 1] and ``waveform`` ``(B, 1, S)``, if asked for.
    """
    rng = np.random.default_rng([seed, step])
    cuts: list[dict[str, Tensor]] = []
    while len(cuts) < settings.batch_size:
        world = settings.worlds[rng.integers(len(settings.worlds))]
        clip = render(settings, world, int(rng.integers(HELD_OUT_SEED)))
        assert clip.frames is not None
        total = len(clip.frames)
        num_frames = settings.num_frames or total
        if num_frames > total:
            raise ValueError(
                f"num_frames {num_frames} exceeds the {total} frames of a clip of "
                f"{settings.duration} s; lower num_frames or raise duration"
            )
        for _ in range(min(settings.cuts_per_clip, settings.batch_size - len(cuts))):
            start = int(rng.integers(total - num_frames + 1))
            cuts.append(cut(clip, settings, start, num_frames))
    return {name: torch.stack([tensors[name] for tensors in cuts]) for name in cuts[0]}


class TrainingStream(IterableDataset):
    """Endless batches from number ``first_step``, shared out among workers in turn."""

    def __init__(self, settings: RenderSettings, seed: int, first_step: int = 0) -> None:
        self.settings, self.seed, self.first_step = settings, seed, first_step

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = get_worker_info()
        step = self.first_step + (worker.id if worker else 0)
        while True:
            yield render_batch(self.settings, self.seed, step)
            step += worker.num_workers if worker else 1


class HeldOutClips(IterableDataset):
    """Whole clips with held-out seeds, one batch of one world after another."""

    def __init__(self, settings: RenderSettings, clips_per_world: int) -> None:
        self.settings, self.clips_per_world = settings, clips_per_world

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for world in dict.fromkeys(self.settings.worlds):
            for first in range(0, self.clips_per_world, self.settings.batch_size):
                last = min(first + self.settings.batch_size, self.clips_per_world)
                clips = [
                    render(self.settings, world, HELD_OUT_SEED + i) for i in range(first, last)
                ]
                whole = [
                    cut(clip, self.settings, 0, len(clip.frames))
                    for clip in clips
                    if clip.frames is not None
                ]
                yield {name: torch.stack([item[name] for item in whole]) for name in whole[0]}


class RenderedWorlds(LightningDataModule):
    """Endless rendered training batches, and held-out clips for validation.

    A batch is a dict with ``frames`` ``(B, 3, F, H, W)`` float32 in [-1, 1] and ``waveform``
    ``(B, 1, S)`` float32. A resumed run goes on with the batch after the last one trained on.

    Args:
        worlds: Names of worlds; one named twice is drawn twice as often.
        size: Height and width in pixels.
        duration: Seconds rendered per clip.
        fps: Frames per second.
        sample_rate: Waveform samples per second.
        num_frames: Frames of a training cut; the whole clip if None.
        batch_size: Cuts per batch.
        cuts_per_clip: Random cuts taken of one rendered clip.
        video: Whether batches hold ``frames``.
        audio: Whether batches hold ``waveform``.
        seed: Names the stream.
        val_clips_per_world: Held-out clips per world.
        num_workers: Rendering processes; 0 renders in the training process.
    """

    def __init__(
        self,
        worlds: Sequence[str] = ("bounce", "drums", "talker", "engine"),
        *,
        size: int = 64,
        duration: float = 1.96,
        fps: int = 25,
        sample_rate: int = 16_000,
        num_frames: int | None = 17,
        batch_size: int = 8,
        cuts_per_clip: int = 2,
        video: bool = True,
        audio: bool = True,
        seed: int = 0,
        val_clips_per_world: int = 16,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.settings = RenderSettings(
            worlds=tuple(worlds),
            size=size,
            duration=duration,
            fps=fps,
            sample_rate=sample_rate,
            num_frames=num_frames,
            batch_size=batch_size,
            cuts_per_clip=cuts_per_clip,
            video=video,
            audio=audio,
        )
        self.seed = seed
        self.val_clips_per_world = val_clips_per_world
        self.num_workers = num_workers

    def train_dataloader(self) -> DataLoader:
        """Endless; stop by ``max_steps`` or ``max_time``."""
        first_step = batches_trained(self.trainer) or 0
        stream = TrainingStream(self.settings, self.seed, first_step)
        return DataLoader(stream, batch_size=None, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader:
        """Whole held-out clips, the same ones every time."""
        return DataLoader(
            HeldOutClips(self.settings, self.val_clips_per_world), batch_size=None, num_workers=0
        )
