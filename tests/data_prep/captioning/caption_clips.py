"""A clip whose every event is known: two knocks, each with a flash, over silence."""

from fractions import Fraction
from typing import Any

import numpy as np
from avgen_data_prep.captioning.captioner import CaptionRequest
from avgen_data_prep.captioning.intervals import Marks, propose

from avgen.clip import Clip

KNOCKS_US = (520_000, 1_280_000)
DURATION_US = 2_000_000
RATE, FPS, SIZE = 48_000, 25, 48


def knocking(
    *, sound: bool = True, picture: bool = True, times_us: tuple[int, ...] = KNOCKS_US
) -> Clip:
    frames = np.full((50, SIZE, SIZE, 3), (200, 30, 30), np.uint8)
    waveform = np.zeros((1, 2 * RATE), np.float32)
    for time in times_us:
        frame, sample = time * FPS // 1_000_000, time * RATE // 1_000_000
        frames[frame : frame + 2, :, : SIZE // 3] = 255
        ramp = np.arange(RATE // 10)
        tone = 0.5 * np.sin(ramp * 0.6) * np.exp(-ramp / 900)
        waveform[0, sample : sample + len(ramp)] += tone.astype(np.float32)
    return Clip(
        frames=frames if picture else None,
        fps=Fraction(FPS),
        waveform=waveform if sound else None,
        sample_rate=RATE,
    )


def make_request(
    clip: Clip | None = None, marks: Marks | None = None, **fields: Any
) -> CaptionRequest:
    clip = clip or knocking()
    marks = marks or Marks()
    intervals, _ = propose(clip, DURATION_US, marks)
    given = {"id": "0123456789abcdef", "intervals": intervals, "marks": marks, **fields}
    return CaptionRequest(clip=clip, duration_us=DURATION_US, **given)
