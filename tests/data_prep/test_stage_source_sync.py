from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.stages.probe import Probe
from avgen_data_prep.stages.source_sync import SourceSync, estimate_offset
from avgen_data_prep.worlds import WORLDS
from sources import edit, flash_and_beep, measured, world_clips

from avgen.clip import Clip

SYNC = SourceSync()


def synced(source, **parameters) -> dict:
    stage = SourceSync(**parameters)
    work = Work(source.path.parent, source.path.parent / "work")
    row = source.row() | {"shot_us": [round(1e6 * time) for time in source.shots]}
    row = measured(row, work, Probe(), stage)
    pa.Table.from_pylist([{n: row[n] for n in stage.writes.names}], schema=stage.writes)
    return row


@pytest.mark.parametrize(
    ("late_ms", "changes"),
    [
        (0, {}),
        (180, {"drop": 0.2}),
        (-120, {"sample_rate": 44_100, "video_at": 0.4}),
        (75, {"jitter": 0.3, "layout": "stereo"}),
    ],
)
def test_the_offset_of_edited_worlds(tmp_path: Path, late_ms: float, changes: dict) -> None:
    clips = world_clips(range(40, 48), worlds=("bounce", "drums"), seconds=(2.0, 3.5))
    source = edit(tmp_path / "a.mkv", clips, late_ms=late_ms, **changes)
    row = synced(source)
    assert row["source_offset_ms"] == pytest.approx(late_ms, abs=10)
    assert row["source_offset_confidence"] > 0.5
    assert row["source_offset_share"] > 0.5
    assert row == synced(source)


def test_a_film_with_the_sound_of_another_is_not_believed(tmp_path: Path) -> None:
    clips = world_clips(range(40, 48), worlds=("bounce", "drums"), seconds=(2.5, 2.5))
    others = world_clips(range(60, 68), worlds=("bounce", "drums"), seconds=(2.5, 2.5))
    mixed = [
        type(a)(
            clip=a.clip.replace(waveform=b.clip.waveform, caption=None), captions=(), truth=a.truth
        )
        for a, b in zip(clips, others, strict=True)
    ]
    row = synced(edit(tmp_path / "a.mp4", mixed))
    assert row["source_offset_ms"] is None or row["source_offset_share"] < 0.5


def test_nothing_is_said_where_nothing_can_be(tmp_path: Path) -> None:
    silent = edit(tmp_path / "silent.mp4", [flash_and_beep(4.0, [1.0])], audio_codec="")
    still = edit(tmp_path / "still.mp4", [flash_and_beep(4.0, [])])
    short = edit(tmp_path / "short.mp4", [flash_and_beep(0.8, [0.4])] * 4)
    for source in (silent, still, short):
        row = synced(source)
        assert [row[name] for name in SYNC.writes.names] == [None] * 3
    few = edit(tmp_path / "few.mp4", [flash_and_beep(3.0, [0.5, 1.3, 1.7, 2.4])] * 2)
    assert synced(few)["source_offset_ms"] is None
    assert synced(few, min_windows=2)["source_offset_share"] == 1.0


def test_windows_lie_within_shots_and_are_bounded() -> None:
    windows = SYNC._windows([500_000, 1_000_000, 14_000_000, 16_000_000])
    assert windows[0][0] == 1_000_000
    assert windows[-1] == (14_000_000, 16_000_000)
    assert [end for _, end in windows[:-2]] == [start for start, _ in windows[1:-1]]
    assert all(1_200_000 <= end - start <= 6_000_000 for start, end in windows)
    film = SYNC._windows([0, 2 * 3600 * 1_000_000])
    assert len(film) == SYNC.max_windows
    assert film[-1][0] > 1.9 * 3600 * 1_000_000


@pytest.mark.parametrize("world", ["bounce", "drums"])
def test_an_offset_moves_with_the_sound(world: str) -> None:
    clip = WORLDS[world].render(7, duration=3.0).clip
    before = estimate_offset(clip)
    for samples in (1600, -2400):
        moved = estimate_offset(clip.replace(waveform=np.roll(clip.waveform, samples, axis=1)))
        assert moved[0] - before[0] == pytest.approx(samples / 16, abs=8)
    assert abs(before[0]) < 20


def test_clips_without_an_answer() -> None:
    rng = np.random.default_rng(0)
    frames = np.zeros((50, 32, 32, 3), np.uint8)
    noise = rng.normal(0, 0.1, (1, 32_000)).astype(np.float32)
    assert estimate_offset(Clip(frames=frames, waveform=noise)) is None
    assert estimate_offset(Clip(frames=frames, fps=Fraction(25))) is None
    assert estimate_offset(Clip(frames=frames[:3], waveform=noise)) is None
    assert estimate_offset(Clip(frames=frames, waveform=0 * noise)) is None


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="windows of 4 to 6 s"):
        SourceSync(seconds_min=4, seconds_max=6)
    with pytest.raises(ValueError, match="min_windows is 0 and max_windows 60"):
        SourceSync(min_windows=0)
