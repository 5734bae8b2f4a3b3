import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from avgen_eval.cli import main
from avgen_eval.harness.decode import Decoded
from avgen_eval.harness.longform import SecondBySecond
from avgen_eval.harness.result import Result, read_result
from eval_media import FPS, RATE, fading

from avgen.clip import Clip

SIZE = 32


def scenes(seconds: float, change: float) -> Clip:
    """One noisy still and one tone until ``change``, then others."""
    rng = np.random.default_rng(1)
    stills = rng.integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
    frames = stills[(np.arange(round(seconds * FPS)) >= change * FPS).astype(int)]
    clock = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * np.where(clock < change, 300, 3000) * clock)
    return Clip(frames=frames, waveform=0.3 * tone[None].astype(np.float32), sample_rate=RATE)


def evaluate(folder: Path, out: Path, suite: str = "long") -> Result:
    options = ["--suite", suite, "--cache", str(out / "cache"), "--out", str(out)]
    assert main(["run", str(folder), *options]) == 0
    return read_result(out)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("long")
    (folder / "clips").mkdir()
    fading().save(folder / "clips" / "fading.mp4")
    return evaluate(folder / "clips", folder / "out")


def test_slopes_are_those_that_were_put_in(result: Result) -> None:
    value = {name: figure.value for name, figure in result.figures.items()}
    assert value["longform.brightness_slope"] == pytest.approx(-8 / 255, rel=0.05)
    assert value["longform.brightness_slope_abs"] == pytest.approx(8 / 255, rel=0.05)
    assert value["longform.loudness_slope"] == pytest.approx(-1, abs=0.25)
    assert value["longform.offset_slope"] == pytest.approx(10, rel=0.2)
    assert value["longform.brightness_last_to_first"] == pytest.approx(
        (200 - 8 * 11) / (200 - 8 * 1), rel=0.1
    )
    assert value["longform.saturation_slope"] == pytest.approx(0, abs=1e-3)
    assert result.figures["longform.loudness_slope"].unit == "LU/s"


def test_curves_are_kept_with_the_records(result: Result) -> None:
    (record,) = result.records
    assert set(record.curves) == {
        f"longform.{name}"
        for name in (
            "offset",
            "motion",
            "loudness",
            "brightness",
            "contrast",
            "saturation",
            "sharpness",
        )
    }
    times, values = zip(*record.curves["longform.brightness"], strict=True)
    assert times == tuple(np.arange(12) + 0.5)
    assert values == pytest.approx((200 - 8 * np.array(times)) / 255, abs=0.03)
    times, offsets = np.array(record.curves["longform.offset"]).T
    # A light that is seen from one frame on happened up to a frame before it; single windows may be off.
    assert len(times) > 8
    assert np.median(offsets - 10 * times) == pytest.approx(0, abs=30)


def test_similarity_falls_where_the_scene_changes(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    scenes(12, 6).save(tmp_path / "clips" / "a.mp4")
    value = {
        name: figure.value
        for name, figure in evaluate(tmp_path / "clips", tmp_path / "out").figures.items()
    }
    for stream in ("picture", "sound"):
        near, far = (value[f"longform.{stream}_similarity_{d}s"] for d in (2, 10))
        assert near is not None
        assert far is not None
        # Of 10 pairs two seconds apart, two lie across the change; of two pairs ten seconds apart, both.
        assert far < 0.6
        assert near == pytest.approx((8 + 2 * far) / 10, abs=0.03)
        assert value[f"longform.{stream}_similarity_20s"] is None


def test_short_clips_have_no_course(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    fading(7.0).save(tmp_path / "clips" / "a.mp4")
    result = evaluate(tmp_path / "clips", tmp_path / "out", "extend")
    (record,) = result.records
    assert record.skipped["longform"] == "needs a clip of 8 s or more"
    assert record.curves == {}
    figure = result.figures["longform.brightness_slope"]
    assert (figure.status, figure.value) == ("skipped", None)
    assert figure.reason == "needs a clip of 8 s or more"
    assert result.figures["sync.f1_60ms"].status == "ok"


@pytest.mark.parametrize("missing", ["frames", "waveform"])
def test_one_stream_is_enough(missing: str) -> None:
    extract = SecondBySecond().run(Decoded(clip=fading(8).replace(**{missing: None})))
    names = {"picture", "brightness", "contrast", "saturation", "sharpness"}
    assert set(extract.arrays) == ({"sound", "loudness"} if missing == "frames" else names)
    assert all(len(array) == 8 for array in extract.arrays.values())


def test_silence_has_no_loudness_and_no_spectrum() -> None:
    clip = Clip(frames=None, waveform=np.zeros((1, 9 * RATE), np.float32), sample_rate=RATE)
    extract = SecondBySecond().run(Decoded(clip=clip))
    assert np.isnan(extract.arrays["loudness"]).all()
    assert not extract.arrays["sound"].any()


def test_memory_does_not_grow_with_the_clip() -> None:
    def extra(seconds: int) -> int:
        frames = np.zeros((seconds * FPS, 128, 128, 3), np.uint8)
        clip = Clip(frames=frames, waveform=np.zeros((1, seconds * RATE), np.float32))
        tracemalloc.start()
        SecondBySecond().run(Decoded(clip=clip))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    extra(8)  # tables that are made once
    short, long = extra(8), extra(64)
    assert long < short + 200_000  # the pictures of the longer one take 69 MB more
