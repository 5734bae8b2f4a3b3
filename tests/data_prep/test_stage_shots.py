from pathlib import Path

import numpy as np
import pytest
from avgen_data_prep.pipeline.stage import StageError
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.stages.probe import Probe
from avgen_data_prep.stages.shots import Shots
from avgen_data_prep.worlds import WorldExample
from sources import edit, flash_and_beep, measured, world_clips

from avgen.clip import Clip

CHANGES = [
    {},
    {"drop": 0.3, "video_at": 0.3},
    {"jitter": 0.4, "sound_at": 0.2},
    {"drop": 0.4, "jitter": 0.3},
    {"video_codec": "libvpx-vp9", "audio_codec": "libopus"},
    {"video_codec": "libx265", "layout": "5.1"},
]


def shots(path: Path, **parameters) -> list[int]:
    work = Work(path.parent, path.parent / "work")
    row = measured({"source": path.name}, work, Probe(), Shots(**parameters))
    return row["shot_us"]


def test_cuts_between_worlds_are_found_to_the_picture(tmp_path: Path) -> None:
    hits = found = wanted = 0
    for number, changes in enumerate(CHANGES):
        suffix = "webm" if changes.get("audio_codec") == "libopus" else "mp4"
        seeds = range(700 + 12 * number, 712 + 12 * number)
        clips = world_clips(seeds, seconds=(0.6, 1.6))
        source = edit(tmp_path / f"{number}.{suffix}", clips, seed=number, **changes)
        boundaries = shots(source.path)
        # A sound that starts a rounding error before the picture moves zero with it.
        assert boundaries[0] == pytest.approx(1e6 * source.shots[0], abs=1100)
        assert boundaries[-1] == pytest.approx(1e6 * source.shots[-1], abs=1e6 / source.fps)
        cuts = np.array(boundaries[1:-1])
        truth = 1e6 * np.array(source.shots[1:-1])
        hits += sum(np.abs(cuts - time).min() < 1100 for time in truth)
        found, wanted = found + len(cuts), wanted + len(truth)
    assert wanted == 66
    assert 2 * hits / (found + wanted) >= 0.97


def test_the_simpler_detector_and_its_threshold(tmp_path: Path) -> None:
    source = edit(tmp_path / "a.mp4", world_clips(range(3), seconds=(1.0, 1.5)))
    assert len(shots(source.path, detector="content")) == 4
    assert len(shots(source.path, detector="content", threshold=250)) == 2
    assert len(shots(source.path, min_seconds=30.0)) == 2
    with pytest.raises(ValueError, match="detector is 'magic'; use 'adaptive' or 'content'"):
        Shots(detector="magic")
    with pytest.raises(ValueError, match="at least 16 pixels"):
        Shots(size=4)


def test_flashes_and_pictures_shown_for_a_moment_are_no_cuts(tmp_path: Path) -> None:
    flashes = flash_and_beep(3.0, [0.5, 1.2, 1.9])
    assert len(shots(edit(tmp_path / "flash.mp4", [flashes]).path)) == 2
    scene, other = world_clips([5, 6], seconds=(2.0, 2.0))
    for length, expected in ((0.2, 2), (0.6, 4)):
        frames = scene.clip.frames.copy()
        count = round(25 * length)
        frames[25 : 25 + count] = other.clip.frames[:count]
        clip = scene.clip.replace(frames=frames, caption=None)
        inserted = WorldExample(clip=clip, captions=(), truth=scene.truth)
        assert len(shots(edit(tmp_path / f"{length}.mp4", [inserted]).path)) == expected


def test_one_shot_and_no_picture(tmp_path: Path) -> None:
    still = edit(tmp_path / "a.mp4", [flash_and_beep(1.0, [])], video_at=0.2)
    assert shots(still.path) == pytest.approx([200_000, 1_200_000], abs=1000)
    sound = Clip(frames=None, waveform=np.zeros((1, 24_000), np.float32), sample_rate=16_000)
    assert shots(sound.save(tmp_path / "b.m4a")) == [0, 1_500_000]


def test_damage_in_the_middle_is_the_reason_of_the_row(tmp_path: Path) -> None:
    source = edit(tmp_path / "a.mkv", [flash_and_beep(3.0, [0.5])])
    source.path.write_bytes(source.path.read_bytes()[: source.path.stat().st_size // 2])
    with pytest.raises(StageError, match="cut off|damaged") as caught:  # noqa: RUF043
        shots(source.path)
    assert str(tmp_path) not in str(caught.value)
