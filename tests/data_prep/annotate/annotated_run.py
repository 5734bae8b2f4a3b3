"""A run folder as the pipeline leaves it: two clips of worlds, one without sound, one without picture."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from avgen_data_prep.pipeline.manifest import MANIFEST
from avgen_data_prep.pipeline.runner import PIPELINE
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.worlds import WORLDS

from avgen.caption import Event, TimedCaption
from avgen.clip import Clip

SECONDS, FPS, RATE = 2.0, 25, 48_000
DURATION_US = 2_000_000
STARTS_US = (12_400_000, 0, 3_723_960_000, 59_990_000)
IDS = ("a" * 24, "b" * 24, "c" * 24, "d" * 24)
PICTURE_ONLY, SOUND_ONLY = IDS[2], IDS[3]


def caption(text: str = "A ball falls.", *events: Event) -> TimedCaption:
    return TimedCaption(duration_us=DURATION_US, text=text, events=events)


def make_run(folder: Path, *, size: int = 64) -> Path:
    """Write clips, manifest and pipeline of a run."""
    rows = []
    for clip_id, world, seed in zip(
        IDS, ("bounce", "drums", "bounce", "drums"), range(4), strict=True
    ):
        made = WORLDS[world].render(seed, duration=SECONDS, fps=FPS, size=size, sample_rate=RATE)
        clip = replace(made.clip, caption=None)
        if clip_id == PICTURE_ONLY:
            clip = replace(clip, waveform=None)
        if clip_id == SOUND_ONLY:
            clip = replace(clip, frames=None)
        path = Work(Path(), folder).clip_file(clip_id)
        path.parent.mkdir(parents=True)
        clip.save(path)
        rows.append(_row(clip_id, clip, made.captions))
    pq.write_table(pa.Table.from_pylist(rows), folder / MANIFEST)
    (folder / PIPELINE).write_text("stages: [probe, shots, source_sync, cut, captions]\n")
    return folder


def _row(clip_id: str, clip: Clip, captions: tuple[TimedCaption, ...]) -> dict[str, Any]:
    pictures = clip.num_frames
    return {
        "id": clip_id,
        "source": f"holiday/{clip_id[0]}.mp4",
        "source_sha256": clip_id[0] * 64,
        "start_us": STARTS_US[IDS.index(clip_id)],
        "duration_us": DURATION_US,
        "num_frames": pictures,
        "height": clip.frames.shape[1] if clip.frames is not None else 0,
        "width": clip.frames.shape[2] if clip.frames is not None else 0,
        "fps_numerator": FPS,
        "fps_denominator": 1,
        "num_samples": 0 if clip.waveform is None else clip.waveform.shape[1],
        "sample_rate": RATE,
        "captions": json.dumps([c.cropped(0, SECONDS).to_dict() for c in captions]),
        "caption_source": "template",
        "caption_coverage": 0.95,
        "caption_notes": ["one weaker candidate interval is left out"],
        "caption_provenance": json.dumps({"captioner": "template"}),
    }
