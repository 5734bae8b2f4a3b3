from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avgen.caption import Event, TimedCaption
from avgen.data.schema import CodecInfo, DatasetInfo
from avgen.data.shards import Example, finish, write_shard

VIDEO_CODEC = CodecInfo(identity="v" * 64, latent_channels=2, time_stride=4, space_stride=8)
AUDIO_CODEC = CodecInfo(identity="a" * 64, latent_channels=3, sample_rate=16_000, hop=640)


def example_of(number: int, *, frames: int = 9, video: bool = True, audio: bool = True) -> Example:
    """An example whose first latent value is its number, with three paraphrases."""
    rng = np.random.default_rng(number)
    duration = frames * 40_000
    event = Event(start_us=120_000, end_us=160_000, track="sfx", text="a knock")
    captions = [
        TimedCaption(duration_us=duration, text=f"{w} {number}", events=(event,)) for w in "abc"
    ]
    latents = {}
    if video:
        latents["video"] = rng.normal(size=(2, 1 + (frames - 1) // 4, 2, 2))
        latents["video"][0, 0, 0, 0] = number
    if audio:
        latents |= {"audio": rng.normal(size=(3, frames)), "codes": rng.integers(0, 9, (2, frames))}
    return Example(
        id=f"e{number:03d}",
        captions=tuple(captions),
        duration_us=duration,
        num_frames=frames * video,
        height=16 * video,
        width=16 * video,
        fps=Fraction(25),
        num_samples=frames * 640 * audio,
        sample_rate=16_000,
        source="test",
        seed=number,
        metadata={"number": number},
        latents=latents,
    )


def write_dataset(folder: Path, examples: list[Example], *, video: CodecInfo = VIDEO_CODEC) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for start in range(0, len(examples), 10):
        shards.append(f"shard-{len(shards):05d}.tar")
        write_shard(folder, shards[-1], examples[start : start + 10])
    finish(folder, shards, DatasetInfo(video_codec=video, audio_codec=AUDIO_CODEC))
    return folder


@pytest.fixture
def make_example() -> Callable[..., Example]:
    return example_of


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    def make(examples: list[Example], name: str = "data", identity: str = "v" * 64) -> Path:
        return write_dataset(
            tmp_path / name, examples, video=replace(VIDEO_CODEC, identity=identity)
        )

    return make


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Fourteen examples of nine frames, eleven of five."""
    long = [example_of(number) for number in range(14)]
    return write_dataset(
        tmp_path / "dataset", long + [example_of(n, frames=5) for n in range(14, 25)]
    )
