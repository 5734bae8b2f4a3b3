"""How fast examples are read, against how fast a training step uses them up.

``python -m avgen_data_prep.reader_speed`` measures both on this machine, one after the other, with
latents of the shapes that the recipes train on and without keeping any in memory.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from avgen.caption import Event, TimedCaption
from avgen.data.batch import AVBatch
from avgen.data.datamodule import LatentDataModule
from avgen.data.quantise import LATENT_DTYPES, LatentDtype
from avgen.data.schema import CodecInfo, DatasetInfo
from avgen.data.shards import Example, finish, write_shard
from avgen.training.joint import JointTraining

_VIDEO = CodecInfo(identity="v" * 64, latent_channels=16, time_stride=4, space_stride=8)
_AUDIO = CodecInfo(identity="a" * 64, latent_channels=32, sample_rate=16_000, hop=640)
_FRAMES = 49
_SHARD = 256


def examples(count: int) -> Iterator[Example]:
    """Random latents of clips of 1.96 s at 64 x 64 pixels, with two captions of eight events."""
    duration = _FRAMES * 40_000
    for number in range(count):
        rng = np.random.default_rng(number)
        starts = sorted(int(s) for s in rng.integers(0, duration - 100_000, 8))
        events = tuple(
            Event(
                start_us=s, end_us=s + 100_000, track="sfx", text=f"a wooden knock on a door, {s}"
            )
            for s in starts
        )
        text = "A hand knocks on a wooden door in a quiet hallway, and nobody answers."
        captions = (TimedCaption(duration_us=duration, text=text, events=events),) * 2
        yield Example(
            id=f"clip-{number:06d}",
            captions=captions,
            duration_us=duration,
            num_frames=_FRAMES,
            height=64,
            width=64,
            fps=Fraction(25),
            num_samples=_FRAMES * 640,
            sample_rate=16_000,
            source="random",
            latents={
                "video": rng.normal(size=(16, 13, 8, 8)),
                "audio": rng.normal(size=(32, _FRAMES)),
                "codes": rng.integers(0, 512, (8, _FRAMES)),
            },
        )


def write_examples(folder: Path, count: int, dtype: LatentDtype) -> None:
    """A dataset of `examples`."""
    source, shards = examples(count), []
    for start in range(0, count, _SHARD):
        shards.append(f"shard-{len(shards):05d}.tar")
        part = (next(source) for _ in range(min(_SHARD, count - start)))
        write_shard(folder, shards[-1], part, latent_dtype=dtype)
    info = DatasetInfo(video_codec=_VIDEO, audio_codec=_AUDIO, latent_dtype=dtype)
    finish(folder, shards, info)


def reading_rate(module: LatentDataModule, seconds: float) -> tuple[float, AVBatch]:
    """Examples per second out of the training loader, epoch after epoch, and one of its batches."""
    loader = module.train_dataloader()
    batch = next(iter(loader))  # opens the files and starts the threads
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for batch in loader:
            done += len(batch)
    return done / (time.perf_counter() - start), batch


def training_rate(batch: AVBatch, steps: int, *, bf16: bool) -> float:
    """Examples per second of the ``tiny`` network's step: losses, gradients, optimiser."""
    training = JointTraining(preset_name="tiny", video_channels=16, audio_channels=32)
    optimizer = torch.optim.AdamW(training.parameters(), lr=1e-4)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = training.objective(
                training.network.model,
                training.network.text_encoder,
                training.layout(batch),
                batch,
                torch.Generator().manual_seed(0),
            ).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * len(batch) / (time.perf_counter() - start)


def main(argv: list[str]) -> int:
    """Measure and print; the exit status is 1 where reading is under 20 times as fast."""
    parser = argparse.ArgumentParser(prog="avgen_data_prep.reader_speed", description=__doc__)
    parser.add_argument("--count", type=int, default=1024, help="examples (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of reading (%(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="of training (%(default)s)")
    parser.add_argument("--bf16", action="store_true", help="slow where the processor lacks it")
    parser.add_argument("--latent-dtype", choices=LATENT_DTYPES, default="float16")
    options = parser.parse_args(argv)
    with TemporaryDirectory(prefix="avgen-") as name:
        write_examples(Path(name), options.count, options.latent_dtype)
        module = LatentDataModule(
            [name], batch_size=options.batch_size, val_fraction=0, cache_bytes=0
        )
        reading, batch = reading_rate(module, options.seconds)
    training = training_rate(batch, options.steps, bf16=options.bf16)
    sys.stdout.write(
        f"threads of torch     {torch.get_num_threads()}\n"
        f"latents              {options.latent_dtype}\n"
        f"reading              {reading:.0f} examples/s\n"
        f"training, tiny, {'bf16' if options.bf16 else 'fp32'} {training:.1f} examples/s\n"
        f"reading / training   {reading / training:.0f}\n"
    )
    return 0 if reading >= 20 * training else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
