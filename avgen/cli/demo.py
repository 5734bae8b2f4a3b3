"""``avgen demo``: four clips from timed captions, measured; a minute of fine-tuning on a folder of videos; a report."""

import argparse
import json
import resource
import shutil
import time
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from avgen.cli import main as avgen
from avgen.clip import Clip

CLIPS, VIDEOS, DATA, RUN, FIGURES = "clips", "videos", "data", "finetune", "figures"
PREFIX_SECONDS = 0.84
NUM_VIDEOS = 24
FIRST_VIDEO_SEED = 500_000


class Scene(NamedTuple):
    """One clip of the demo: a held-out caption of a world, and what of the rendered clip is given."""

    name: str
    world: str
    seed: int
    given: str | None


SCENES = (
    Scene("1-bounce", "bounce", 1_000_003, None),
    Scene("2-drums", "drums", 1_000_001, None),
    Scene("3-continued", "bounce", 1_000_007, "prefix"),
    Scene("4-sound-for-a-silent-video", "drums", 1_000_005, "video"),
)


def main(argv: list[str]) -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="avgen demo", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("demo_out"), help="folder to write (%(default)s)"
    )
    parser.add_argument("--weights", default="tiny", help="name or folder (%(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="of fine-tuning (%(default)s)")
    options = parser.parse_args(argv)
    console, start = Console(), time.perf_counter()
    shutil.rmtree(options.out, ignore_errors=True)
    console.rule("four clips from timed captions")
    generate(options.out / CLIPS, options.weights, console)
    console.rule("fine-tuning on a folder of videos")
    write_videos(options.out / VIDEOS)
    status = avgen(
        ["prep", "ingest", str(options.out / VIDEOS), str(options.out / DATA), "--pipeline", "tiny"]
    )
    status = status or finetune(options.out, options.weights, options.seconds)
    console.rule("figures")
    report = options.out / "report.html"
    status = status or measure(options.out, report)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(f"{time.perf_counter() - start:.0f} s, at most {peak:.1f} GiB of memory")
    console.print(f"report: {report.resolve()}", highlight=False, soft_wrap=True)
    return status


def generate(folder: Path, weights: str, console: Console) -> None:
    """Write a clip for each scene, with the truth of its caption beside it for the world's detector."""
    from avgen.pipeline import AVPipeline, Request

    folder.mkdir(parents=True)
    pipe = AVPipeline.from_pretrained(weights)
    for scene in SCENES:
        example = _worlds()[scene.world].render(scene.seed)
        given = given_media(example.clip, scene.given)
        request = Request.from_caption(example.captions[0], seed=scene.seed, **given)
        start = time.perf_counter()
        clip = pipe.generate([request])[0]
        seconds = time.perf_counter() - start
        path = clip.save(folder / f"{scene.name}.mp4")
        path.with_suffix(".truth.json").write_text(
            json.dumps({"world": scene.world, "truth": example.truth})
        )
        console.print(
            f"{path}: {clip.duration:.2f} s of clip in {seconds:.1f} s",
            highlight=False,
            soft_wrap=True,
        )


def given_media(clip: Clip, given: str | None) -> dict[str, Clip]:
    """What of a rendered clip is given to the pipeline."""
    if given == "prefix":
        return {"prefix": clip.slice(0.0, PREFIX_SECONDS)}
    if given == "video":
        return {"video": clip.replace(waveform=None)}
    return {}


def write_videos(folder: Path) -> None:
    """A folder as a user may have it: videos, some with a caption file beside them, and one that is broken."""
    folder.mkdir(parents=True)
    for i in range(NUM_VIDEOS):
        example = _worlds()["bounce"].render(FIRST_VIDEO_SEED + i, duration=3.0)
        path = folder / f"video-{i:02}.mp4"
        example.clip.replace(caption=None).save(path)
        if i % 2:
            example.captions[0].save(path.with_suffix(".vtt"))
    (folder / "broken.mp4").write_bytes(b"not a video")


def finetune(out: Path, weights: str, seconds: int) -> int:
    """Train the shipped weights on the ingested folder for so many seconds, with a progress bar."""
    from avgen.checkpoint import MODEL_FILE
    from avgen.ops.precision import computes_bfloat16

    minutes, rest = divmod(seconds, 60)
    export = {
        "class_path": "avgen.training.callbacks.ExportWeights",
        "init_args": {"path": str(out / RUN / MODEL_FILE)},
    }
    return avgen(
        [
            "train", "fit", "--config", "finetune",
            "--model.init_args.init_from", weights,
            "--data.init_args.folders", json.dumps([str(out / DATA)]),
            "--trainer.default_root_dir", str(out / RUN),
            "--trainer.precision", "bf16-mixed" if computes_bfloat16("cpu") else "32-true",
            "--trainer.max_time", f"00:00:{minutes:02}:{rest:02}",
            "--trainer.callbacks", json.dumps([export]),
        ]
    )  # fmt: skip


def measure(out: Path, report: Path) -> int:
    """Measure the clips against their captions, and by the detectors of the worlds."""
    return avgen(
        [
            "eval", "run", str(out / CLIPS), "--suite", "smoke,worlds",
            "--out", str(out / FIGURES), "--report", str(report),
        ]
    )  # fmt: skip


def _worlds() -> Any:
    return import_module("avgen_data_prep.worlds").WORLDS
