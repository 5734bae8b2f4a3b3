from pathlib import Path

import numpy as np
import pytest
from avgen_data_prep.stages.clip_sync import ClipSync
from sources import flash_and_beep
from stage_clips import RATE, measured, silent, sounding, world

from avgen.clip import Clip


def late(clip: Clip, seconds: float) -> Clip:
    """The clip with its sound moved; what moves out is cut off."""
    assert clip.waveform is not None
    steps = round(seconds * clip.sample_rate)
    padded = np.pad(clip.waveform, ((0, 0), (max(0, steps), max(0, -steps))))
    return clip.replace(waveform=padded[:, max(0, -steps) :][:, : clip.waveform.shape[1]])


@pytest.mark.parametrize("offset_ms", [120, -80])
@pytest.mark.parametrize(("name", "size"), [("bounce", 96), ("drums", 128)])
def test_offsets_of_worlds(name: str, size: int, offset_ms: int, tmp_path: Path) -> None:
    clips = [world(name, seed, duration=3, size=size) for seed in range(3)]
    found = [
        measured(ClipSync(), late(clip, offset_ms / 1000), tmp_path / str(i))
        for i, clip in enumerate(clips)
    ]
    sure = [row["offset_ms"] for row in found if row["offset_confidence"] >= 0.45]
    assert len(sure) >= 2
    assert np.median(sure) == pytest.approx(offset_ms, abs=15)


def test_flashes_and_beeps(tmp_path: Path) -> None:
    clip = flash_and_beep(3.0, [0.4, 1.0, 2.2]).clip
    row = measured(ClipSync(), late(clip, 0.1), tmp_path)
    assert row["offset_ms"] == pytest.approx(100, abs=21)
    assert row["offset_confidence"] > 0.7


def test_nothing_is_said_where_nothing_can_be(tmp_path: Path) -> None:
    frames = np.zeros((20, 32, 32, 3), np.uint8)
    wave = np.zeros((1, RATE), np.float32)
    clips = [
        silent(frames),
        sounding(wave),
        silent(frames).replace(waveform=wave, sample_rate=RATE),
    ]
    for number, clip in enumerate(clips):
        assert measured(ClipSync(), clip, tmp_path / str(number)) == {}


def test_sound_of_another_clip_is_less_sure(tmp_path: Path) -> None:
    own, other = (world("bounce", seed, duration=3) for seed in (3, 4))
    mixed = own.replace(waveform=other.waveform)
    right, wrong = (
        measured(ClipSync(), clip, tmp_path / str(i)) for i, clip in enumerate((own, mixed))
    )
    assert wrong.get("offset_confidence", 0) < right["offset_confidence"]
