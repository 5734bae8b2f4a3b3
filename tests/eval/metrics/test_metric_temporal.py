import numpy as np
import pytest
from avgen_eval.metrics.temporal import (
    TemporalMetric,
    black_share,
    duplicate_share,
    find_cuts,
    freeze_share,
    luminance_flicker,
    mean_speed,
    saturation,
    sharpness,
    still_runs,
    temporal_flickering,
)
from eval_media import bouncing, flashes
from scipy.ndimage import gaussian_filter, shift

from avgen.measure.flow import measure_flow, optical_flow, reduce_frames, steady_flow
from avgen.measure.motion import measure_motion

FPS = 25


def scene(seed: int, frames: int = 20, size: int = 64, speed: float = 0.0) -> np.ndarray:
    """A smooth coloured texture that moves to the right by ``speed`` pixels per frame."""
    texture = gaussian_filter(np.random.default_rng(seed).normal(0, 1, (size, size, 3)), (4, 4, 0))
    texture = 128 + 45 * texture / texture.std()
    moved = [shift(texture, (0, speed * i, 0), order=1, mode="grid-wrap") for i in range(frames)]
    return np.stack(moved).clip(0, 255).astype(np.uint8)


def brighter(frames: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return (frames.astype(int) + levels[:, None, None, None]).clip(0, 255).astype(np.uint8)


def cuts_of(frames: np.ndarray) -> list[int]:
    return find_cuts(reduce_frames(frames), FPS)


def flicker_of(frames: np.ndarray) -> float | None:
    grey = reduce_frames(frames)
    return luminance_flicker(grey, steady_flow(grey))


def test_freezes_are_shares_of_frames() -> None:
    moving = scene(0, 20, speed=1)
    held = np.concatenate([moving[:10], moving[10:11].repeat(8, axis=0), moving[11:]])
    runs = still_runs(reduce_frames(held))
    assert runs == [1] * 10 + [8] + [1] * 9
    assert freeze_share(runs, FPS) == 8 / 27
    assert freeze_share(runs, 8 / 0.25 + 1) == 0
    assert duplicate_share(runs) == 7 / 26
    assert freeze_share(still_runs(reduce_frames(moving)), FPS) == 0


def test_half_the_frame_rate_is_duplicates_and_no_freeze() -> None:
    runs = still_runs(reduce_frames(scene(0, 20, speed=1).repeat(2, axis=0)))
    assert duplicate_share(runs) == 20 / 39
    assert freeze_share(runs, FPS) == 0
    assert freeze_share([2, 1], 4) == 2 / 3
    assert freeze_share([1, 1, 1], 2) == 0


def test_slow_fade_is_not_a_freeze() -> None:
    fade = brighter(scene(0), np.arange(20) // 2)
    runs = still_runs(reduce_frames(fade))
    assert max(runs) <= 4
    assert freeze_share(runs, FPS) == 0


def test_faint_noise_does_not_hide_a_freeze() -> None:
    frames = scene(0, 10, size=256)
    rng = np.random.default_rng(0)
    noisy = frames.clip(0, 254) + rng.integers(0, 2, frames.shape, dtype=np.uint8)
    assert still_runs(reduce_frames(noisy)) == [10]


def test_black_frames() -> None:
    frames = scene(0, 8)
    frames[2:4] = 20
    frames[3, 5, 5] = 255
    assert black_share(reduce_frames(frames)) == 1 / 8


def test_vbench_formula() -> None:
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    frames[1] = 51
    assert temporal_flickering(frames) == pytest.approx(0.8)
    frames[2, :, :2] = 51
    difference = np.abs(np.diff(frames.astype(float), axis=0)).mean()
    assert temporal_flickering(frames) == pytest.approx((255 - difference) / 255)
    assert temporal_flickering(frames[:1]) is None


@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_alternating_brightness_is_flicker(speed: float) -> None:
    frames = brighter(scene(1, speed=speed), 12 * (np.arange(20) % 2))
    assert flicker_of(frames) == pytest.approx(12, rel=0.1)


def test_fades_motion_and_lights_are_not_flicker() -> None:
    assert flicker_of(scene(1, speed=1.5)) == pytest.approx(0, abs=0.1)
    assert flicker_of(brighter(scene(1), 3 * np.arange(20))) == pytest.approx(0, abs=0.1)
    assert flicker_of(brighter(scene(1), 60 * (np.arange(20) > 9))) == pytest.approx(0, abs=0.1)
    assert flicker_of(bouncing([0.3, 0.75, 1.4])) == pytest.approx(0, abs=0.1)
    assert flicker_of(scene(1, 2)) is None


@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_cuts_are_found_at_their_frame(speed: float) -> None:
    parts = [scene(seed, 12, speed=speed) for seed in range(4)]
    assert cuts_of(np.concatenate(parts)) == [12, 24, 36]
    assert cuts_of(np.concatenate([parts[0][:1], parts[1][:1]])) == [1]


def test_what_is_no_cut() -> None:
    frames = scene(0, 20)
    assert cuts_of(scene(0, 20, speed=4)) == []
    assert cuts_of(brighter(frames, 50 * (np.arange(20) > 9))) == []
    assert cuts_of(brighter(frames, 5 * np.arange(20))) == []
    flash = frames.copy()
    flash[10] = 255
    assert cuts_of(flash) == []
    glitch = frames.copy()
    glitch[10] = scene(1, 1)[0]
    assert cuts_of(glitch) == []
    assert cuts_of(flashes([6, 20, 37])) == []
    assert cuts_of(bouncing([0.3, 0.75, 1.4])) == []
    assert cuts_of(frames[:1]) == []


def test_a_sudden_pan_is_no_cut() -> None:
    pan = np.concatenate([scene(0, 12), scene(0, 12, speed=6)])
    assert cuts_of(pan) == []


def test_speed_is_in_heights_per_second() -> None:
    flow = steady_flow(reduce_frames(scene(2, speed=1)))
    assert mean_speed(flow, FPS) == pytest.approx(FPS / 64, rel=0.1)
    frames = bouncing([0.3, 0.75, 1.4])
    expected = measure_motion(frames, FPS).speed.values.mean()
    assert mean_speed(steady_flow(reduce_frames(frames)), FPS) == pytest.approx(
        float(expected), rel=1e-5
    )
    assert mean_speed(flow[:0], FPS) is None


def test_brightness_does_not_move() -> None:
    grey = reduce_frames(brighter(scene(1), 3 * np.arange(20)))
    plain = mean_speed(optical_flow(grey), FPS)
    assert plain is not None
    assert plain > 0.1
    assert mean_speed(steady_flow(grey), FPS) == pytest.approx(0, abs=0.01)


def test_flow_that_is_at_hand_gives_the_same_values() -> None:
    frames = bouncing([0.3, 0.75, 1.4])
    metric = TemporalMetric()
    assert metric.measure(frames, FPS, measure_flow(frames)) == metric.measure(frames, FPS)


def test_sharpness_of_a_point_and_of_blur() -> None:
    frames = np.zeros((1, 12, 12, 3), np.uint8)
    frames[0, 5, 5] = 100
    laplacian = np.array([-400, *[100] * 4, *[0] * 95])
    assert sharpness(frames) == pytest.approx(laplacian.var(), rel=1e-5)
    picture = bouncing([0.3, 0.75, 1.4])[:3]
    blurred = gaussian_filter(picture, (0, 1, 1, 0))
    sharp, soft = sharpness(picture), sharpness(blurred)
    assert sharp is not None
    assert soft is not None
    assert soft < 0.2 * sharp
    assert sharpness(frames[:, :2]) is None


def test_saturation() -> None:
    colours = [[0, 0, 0], [9, 9, 9], [200, 100, 150], [0, 30, 0]]
    frames = np.array(colours, np.uint8).reshape(2, 1, 2, 3)
    assert saturation(frames) == pytest.approx((0 + 0 + 0.5 + 1) / 4)


def test_metric_flags_a_still_picture() -> None:
    metric = TemporalMetric()
    still, moving = scene(0, 10), scene(0, 10, speed=1)
    assert metric.measure(still, FPS)["static"] == 1
    assert metric.measure(moving, FPS)["static"] == 0
    metric.update(still, FPS)
    metric.update(moving, FPS)
    values = metric.compute()
    assert values["static"] == 0.5
    assert values["freeze_share"] == 0.5
    assert values["cuts"] == 0


def test_a_single_frame_has_no_motion() -> None:
    values = TemporalMetric().measure(scene(0, 1), FPS)
    nothing = {name for name, value in values.items() if value is None}
    assert nothing == {
        *("freeze_share", "duplicate_share", "temporal_flickering"),
        *("luminance_flicker", "cuts", "motion", "static"),
    }
    assert values["black_share"] == 0


def test_wrong_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="must be \\(F, H, W, 3\\) uint8"):
        TemporalMetric().update(np.zeros((2, 8, 8, 3), np.float32), FPS)
    with pytest.raises(ValueError, match="empty"):
        TemporalMetric().update(np.zeros((0, 8, 8, 3), np.uint8), FPS)
    with pytest.raises(ValueError, match="rate"):
        TemporalMetric().update(scene(0, 3), 0)
