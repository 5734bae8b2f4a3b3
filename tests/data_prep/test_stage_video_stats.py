from pathlib import Path

import numpy as np
import pytest
from avgen_data_prep.stages import overlaid_text
from avgen_data_prep.stages.pictures import grey, shrunk, spread
from avgen_data_prep.stages.video_stats import (
    VideoStats,
    black_share,
    cut_inside,
    flow_length,
    frozen,
    longest_run,
    motion,
    sharpness,
)
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, shift
from stage_clips import measured, silent, sounding, world

WORLDS = ("bounce", "drums", "talker", "engine")


def texture(frames: int, step: float, *, side: int = 64, seed: int = 0) -> np.ndarray:
    """A blurred pattern that moves to the right by ``step`` pixels a frame, ``(F, H, W)``."""
    wide = gaussian_filter(np.random.default_rng(seed).normal(size=(side, 3 * side)), 3)
    wide = 128 + 100 * wide / np.abs(wide).max()
    moved = [shift(wide, (0, step * i), order=3)[:, side : 2 * side] for i in range(frames)]
    return np.stack(moved).clip(0, 255).astype(np.uint8)


def written(frame: np.ndarray, text: str, at: tuple[int, int], size: int = 20) -> np.ndarray:
    """A subtitle on a frame."""
    picture = Image.fromarray(frame)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(picture).text(at, text, font=font, fill="white", stroke_width=1, stroke_fill=0)
    return np.array(picture)


def test_motion_is_the_mean_change_in_shares_of_full_scale() -> None:
    levels = np.zeros((5, 8, 8), np.uint8)
    levels[1::2] = 51
    assert motion(levels) == pytest.approx(0.2)
    assert motion(levels[:1]) == 0


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0])
def test_flow_has_the_length_of_the_movement(step: float) -> None:
    assert flow_length(texture(5, step)) == pytest.approx(step, rel=0.25)
    assert flow_length(texture(5, 0)) == 0


def test_black_frames_are_counted() -> None:
    levels = np.full((4, 10, 10), 120, np.uint8)
    levels[0], levels[1] = 20, 20
    levels[1, :2, :2] = 255  # 4% of the pixels
    assert black_share(levels) == 0.25


def test_a_small_moving_thing_is_not_frozen() -> None:
    levels = np.full((6, 64, 64), 90, np.uint8)
    levels[3:] += 1  # what coding does to a still picture
    assert frozen(levels).tolist() == [True] * 5
    levels[4, 10:14, 10:14] = 200
    assert frozen(levels).tolist() == [True, True, True, False, False]
    assert longest_run(frozen(levels)) == 3
    assert longest_run(np.zeros(3, bool)) == 0


def test_sharpness_falls_with_blur_and_not_with_size() -> None:
    frame = (200 * (texture(1, 0)[0] > 128)).astype(np.uint8)
    frames = np.repeat(frame[None, ..., None], 3, axis=-1)
    blurred = gaussian_filter(frames.astype(float), (0, 2, 2, 0)).astype(np.uint8)
    large = frames.repeat(16, axis=1).repeat(16, axis=2)
    half = frames.repeat(4, axis=1).repeat(4, axis=2)
    assert sharpness(blurred) < 0.1 * sharpness(frames)
    assert sharpness(large) == pytest.approx(sharpness(half), rel=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_a_missed_cut_stands_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (str(name) for name in rng.choice(WORLDS, 2, replace=False))
    before, after = world(first, seed).frames, world(second, seed + 9).frames
    assert before is not None
    assert after is not None
    at = int(rng.integers(8, 40))
    cut = np.concatenate([before[:at], after[at:]])
    assert max(cut_inside(shrunk(frames, 32, 32)) for frames in (before, after)) < 0.45
    assert cut_inside(shrunk(cut, 32, 32)) > 0.6


def test_a_flash_and_a_pan_are_no_cuts() -> None:
    frames = np.repeat(texture(20, 2, side=32)[..., None], 3, axis=-1)
    assert cut_inside(frames) < 0.1
    frames[8:10] = 250
    assert cut_inside(frames) < 0.2
    assert cut_inside(frames[:2]) == 0


@pytest.mark.parametrize("name", WORLDS)
def test_text_covers_its_share(name: str) -> None:
    frames = world(name, 3, duration=0.5).frames
    assert frames is not None
    frames = shrunk(frames, 270, 480)
    titled = np.stack([written(frame, "Nothing was said at all", (120, 225)) for frame in frames])
    font = ImageFont.load_default(20)
    left, top, right, bottom = font.getbbox("Nothing was said at all")
    share = (right - left) * (bottom - top) / (270 * 480)
    assert overlaid_text.text_area(frames, 25, 1) == 0
    assert overlaid_text.text_area(titled, 25, 1) == pytest.approx(share, rel=0.35)


def test_what_moves_or_is_too_short_is_not_overlaid_text() -> None:
    blank = np.full((270, 480, 3), 70, np.uint8)
    still = np.stack([written(blank, "A moving line of text", (100, 100))] * 6)
    rolling = np.stack([written(blank, "A moving line", (100, 40 + 30 * i)) for i in range(6)])
    short = np.stack([written(blank, "No", (100, 100))] * 6)
    noise = np.random.default_rng(0).integers(0, 255, (6, 270, 480, 3)).astype(np.uint8)
    assert overlaid_text.text_area(still, 25, 1) > 0.01
    for frames in (rolling, short, noise):
        assert overlaid_text.text_area(frames, 25, 1) == 0


def test_boxes_lie_on_the_text() -> None:
    frame = written(np.full((270, 480, 3), 70, np.uint8), "Where it stands", (60, 150))
    ((top, left, bottom, right),) = overlaid_text.text_boxes(grey(frame[None])[0])
    assert 145 < top < bottom < 180
    assert 55 < left < right < 230


def test_all_columns_of_a_clip(tmp_path: Path) -> None:
    frames = np.full((30, 72, 96, 3), 128, np.uint8)
    frames[10:] = np.repeat(texture(20, 0.5, side=96)[:, :72, :, None], 3, axis=-1)
    found = measured(VideoStats(), silent(frames), tmp_path)
    assert set(found) == set(VideoStats.writes.names)
    assert found["luma_mean"] == pytest.approx(0.5, abs=0.03)
    assert (found["black_share"], found["text_area"]) == (0, 0)
    assert found["freeze_share"] == pytest.approx(9 / 29, abs=0.04)
    assert found["freeze_us"] == pytest.approx(400_000, abs=40_000)
    assert found["motion_flow"] == pytest.approx(0.5 * 19 / 29 * 25 / 72, rel=0.35)
    assert found == measured(VideoStats(), silent(frames), tmp_path)


def test_strange_clips_have_values_or_null(tmp_path: Path) -> None:
    black = measured(VideoStats(), silent(np.zeros((1, 16, 16, 3), np.uint8)), tmp_path / "one")
    assert (black["black_share"], black["motion"], black["freeze_us"]) == (1, 0, 0)
    assert measured(VideoStats(), sounding(np.zeros(4800)), tmp_path / "sound") == {}


def test_frames_are_spread_and_parameters_checked() -> None:
    assert spread(3, 5) == [0, 1, 2]
    assert spread(100, 4) == [12, 37, 62, 87]
    with pytest.raises(ValueError, match="size is 8 and looks 6; give at least 16 pixels"):
        VideoStats(size=8)
