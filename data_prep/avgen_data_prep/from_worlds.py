"""Worlds to a dataset: render, encode, write."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from avgen.data.schema import DatasetInfo
from avgen.data.shards import Example
from avgen_data_prep.build import Job, Record, Source, fingerprint
from avgen_data_prep.encode import LatentEncoder, Weights
from avgen_data_prep.media_bytes import mp4_bytes
from avgen_data_prep.worlds import HELD_OUT_SEED, WORLDS, check_worlds, clip_id


@dataclass(frozen=True, kw_only=True)
class WorldSource(Source):
    """Clips rendered from procedural worlds.

    Attributes:
        worlds: Names in `WORLDS`; shards alternate between them.
        count: Clips of each world.
        seed_start: First seed; seeds from 1,000,000 on are held out for evaluation.
        duration: Seconds.
        size: Pixels in height and width.
        fps: Frames per second.
        sample_rate: Waveform samples per second.
        keep_media: Write MP4 members.
        weights: Codecs; None writes no latents.
        shard_size: Examples per shard.
    """

    worlds: tuple[str, ...]
    count: int
    seed_start: int = 0
    duration: float = 1.96
    size: int = 64
    fps: int = 25
    sample_rate: int = 16_000
    keep_media: bool = False
    weights: Weights | None = None
    shard_size: int = 256

    def __post_init__(self) -> None:
        check_worlds(self.worlds)
        for name in ("count", "shard_size", "size", "fps", "sample_rate", "duration"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)} must be positive")
        last = self.seed_start + self.count - 1
        if self.seed_start < HELD_OUT_SEED <= last:
            raise ValueError(
                f"seeds {self.seed_start} to {last} run into those held out for evaluation, from "
                f"{HELD_OUT_SEED} on; lower the count or the first seed"
            )
        if self.weights is None and not self.keep_media:
            raise ValueError("neither latents nor media asked for; give codec weights or --media")

    def settings(self) -> dict[str, Any]:
        """What decides the contents of an example; not the count, which may grow later."""
        values = asdict(self)
        del values["count"], values["weights"]
        return values | {"worlds": list(self.worlds), "kind": "worlds"}

    def info(self) -> DatasetInfo:
        """Codecs and settings."""
        if self.weights is None:
            return DatasetInfo(settings=self.settings())
        encoder = LatentEncoder.load(self.weights)
        encoder.check(size=self.size, sample_rate=self.sample_rate)
        return DatasetInfo(
            video_codec=encoder.video_info, audio_codec=encoder.audio_info, settings=self.settings()
        )

    def jobs(self) -> list[Job]:
        """Shards of one world each, the worlds in turn, so that a larger count only adds shards."""
        info = self.info()
        codecs = [c and c.identity for c in (info.video_codec, info.audio_codec)]
        jobs = []
        for start in range(0, self.count, self.shard_size):
            for world in self.worlds:
                first, last = start, min(start + self.shard_size, self.count)
                items = tuple((world, self.seed_start + i) for i in range(first, last))
                key = fingerprint(items, self.settings(), codecs)
                jobs.append(Job(f"shard-{len(jobs):05d}.tar", key, items))
        return jobs

    def open(self) -> Callable[[Job, list[Record]], Iterator[Example]]:
        """Load the codecs and return what renders and encodes a shard."""
        encoder = LatentEncoder.load(self.weights) if self.weights else LatentEncoder(None, None)

        def make(job: Job, records: list[Record]) -> Iterator[Example]:
            for start in range(0, len(job.items), encoder.batch_size):
                yield from self._examples(job.items[start : start + encoder.batch_size], encoder)

        return make

    def counts(self, rows: int, records: list[Record]) -> dict[str, Any]:
        """Clips of each world."""
        return {"examples": rows, "by_world": dict.fromkeys(self.worlds, self.count)}

    def _examples(self, items: tuple[Any, ...], encoder: LatentEncoder) -> Iterator[Example]:
        settings = {n: getattr(self, n) for n in ("duration", "fps", "size", "sample_rate")}
        rendered = [WORLDS[world].render(seed, **settings) for world, seed in items]
        latents = encoder.encode([example.clip for example in rendered])
        for (world, seed), example, arrays in zip(items, rendered, latents, strict=True):
            yield Example.of_clip(
                example.clip,
                id=clip_id(world, seed),
                captions=tuple(example.captions),
                source=world,
                seed=seed,
                metadata={"truth": example.truth},
                media=mp4_bytes(example.clip) if self.keep_media else None,
                latents=arrays,
            )
