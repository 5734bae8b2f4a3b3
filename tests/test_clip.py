import re
from base64 import b64decode
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avgen.caption import Event, TimedCaption
from avgen.clip import Clip


def make(**changes: object) -> Clip:
    frames = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones((50, 8, 8, 3), np.uint8)
    waveform = np.linspace(-0.5, 0.5, 32_000, dtype=np.float32)[None]
    caption = TimedCaption(
        duration_us=2_000_000, text='a "ramp"', events=(Event.at(0.5, 1.0, "tick"),)
    )
    return Clip(**({"frames": frames, "waveform": waveform, "caption": caption} | changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"frames": None, "waveform": None}, "needs frames or a waveform"),
        ({"frames": np.zeros((2, 8, 8, 3), np.float32)}, "float32.*uint8"),
        ({"frames": np.zeros((2, 3, 8, 8), np.uint8)}, r"\(2, 3, 8, 8\)"),
        ({"frames": np.zeros((0, 8, 8, 3), np.uint8)}, r"\(0, 8, 8, 3\)"),
        ({"frames": [1, 2]}, "list.*numpy"),
        ({"waveform": np.zeros((1, 10))}, "float64.*float32"),
        ({"waveform": np.zeros(10, np.float32)}, r"\(10,\).*\(channels, samples\)"),
        ({"waveform": np.zeros((16_000, 1), np.float32)}, "transpose"),
        ({"waveform": np.full((1, 4), np.nan, np.float32)}, "finite"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"sample_rate": 16_000.5}, "whole number"),
        ({"fps": 0}, "positive"),
        ({"caption": "two balls"}, "TimedCaption"),
    ],
)
def test_what_is_not_a_clip_is_refused(changes: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make(**changes)


def test_duration_is_the_picture_unless_sound_outlasts_it() -> None:
    assert make().duration == 2.0
    assert make(waveform=np.zeros((1, 32_100), np.float32)).duration == 2.0
    assert make(waveform=np.zeros((1, 40_000), np.float32)).duration == 2.5
    assert make(frames=None).duration == 2.0
    assert make(waveform=None, fps=29.97).duration == pytest.approx(50 * 1001 / 30_000)
    assert make(fps=29.97).fps == Fraction(30_000, 1001)
    assert make(frames=None).num_frames == 0


def test_slice_cuts_picture_sound_and_caption_together() -> None:
    part = make().slice(0.6, 1.4)
    assert list(part.frames[:, 0, 0, 0]) == list(range(15, 35))
    np.testing.assert_array_equal(part.waveform, make().waveform[:, 9_600:22_400])
    (event,) = part.caption.events
    assert (event.start_us, event.end_us) == (0, 400_000)
    assert make().slice(1.5).num_frames == 12
    assert make(frames=None).slice(0.25, 0.5).waveform.shape == (1, 4_000)


@pytest.mark.parametrize("span", [(-0.1, 1.0), (1.0, 1.0), (0.0, 3.0), (2.5, None)])
def test_impossible_slices_are_refused(span: tuple[float, float | None]) -> None:
    with pytest.raises(ValueError, match="the duration"):
        make().slice(*span)


def test_saved_and_opened_again(tmp_path: Path) -> None:
    clip = make(request={"seed": 7})
    path = clip.save(tmp_path / "clip.mp4")
    assert path == tmp_path / "clip.mp4"
    back = Clip.open(path)
    assert (back.num_frames, back.fps, back.sample_rate) == (50, 25, 16_000)
    assert (back.caption, back.request) == (clip.caption, {"seed": 7})
    assert Clip.open(path, start=1.0, fps=10, sample_rate=8_000).waveform.shape == (1, 8_000)


def test_notebook_shows_a_player() -> None:
    shown = make()._repr_html_()
    assert shown.startswith("<video")
    assert "a &quot;ramp&quot;" in shown
    data = re.search(r"base64,([^\"]+)", shown)
    assert data is not None
    assert b64decode(data[1])[4:8] == b"ftyp"
    assert make(frames=None)._repr_html_().startswith("<audio")


def test_repr_is_short_and_clips_are_not_compared_by_content() -> None:
    assert repr(make()) == "Clip(2 s, 50 frames 8x8 at 25 fps, 1 channel(s) at 16000 Hz)"
    assert make() != make()
    assert len({make(), make()}) == 2
