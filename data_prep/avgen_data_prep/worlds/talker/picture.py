"""Frames of the talker world."""

import numpy as np

from avgen_data_prep.worlds import raster
from avgen_data_prep.worlds.base import Stage
from avgen_data_prep.worlds.palette import BACKGROUNDS, PALETTE
from avgen_data_prep.worlds.talker.scene import (
    CENTRE,
    CLOSED,
    FACE,
    MOUTH_Y,
    VOWELS,
    Speech,
    openness,
)

MOUTH_COLOUR: raster.Colour = (40, 12, 16)
EYE_COLOUR: raster.Colour = (245, 245, 245)
EYES = ((0.38, 0.38), (0.62, 0.38))
EYE, PUPIL = 0.065, 0.035


def paint_speech(speech: Speech, stage: Stage) -> np.ndarray:
    """Frames ``(F, H, W, 3)`` float32 in 0..255."""
    size = stage.size
    still = raster.blank(1, size, BACKGROUNDS[speech.background])
    window = raster.follow(
        np.array([CENTRE[0] * size]), np.array([CENTRE[1] * size]), FACE[1] * size
    )
    distance = raster.ellipse(window.x, window.y, FACE[0] * size, FACE[1] * size)
    raster.paint(still, window, raster.coverage(distance), tint(PALETTE[speech.face]))
    for x, y in EYES:
        for radius, colour in ((EYE, EYE_COLOUR), (PUPIL, MOUTH_COLOUR)):
            window = raster.follow(np.array([x * size]), np.array([y * size]), radius * size)
            distance = raster.disc(window.x, window.y, radius * size)
            raster.paint(still, window, raster.coverage(distance), tint(colour))
    frames = np.repeat(still, stage.num_frames, axis=0)
    paint_mouth(frames, speech, stage)
    return frames


def tint(colour: raster.Colour) -> np.ndarray:
    """A colour as an array that `raster.paint` takes."""
    return np.asarray(colour, dtype=np.float32)


def mouth_shape(speech: Speech, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half width and half height of the mouth at each time, in picture heights."""
    wide, high = np.full(len(times), CLOSED[0]), np.full(len(times), CLOSED[1])
    for word in speech.words:
        share = openness(word, times)
        wide += share * (VOWELS[word.vowel].mouth[0] - CLOSED[0])
        high += share * (VOWELS[word.vowel].mouth[1] - CLOSED[1])
    return wide, high


def paint_mouth(frames: np.ndarray, speech: Speech, stage: Stage) -> None:
    """Draw the mouth of each frame in place."""
    wide, high = mouth_shape(speech, stage.frame_times)
    wide, high = (extent[:, None, None] * stage.size for extent in (wide, high))
    ones = np.ones(stage.num_frames)
    centre = CENTRE[0] * stage.size * ones, MOUTH_Y * stage.size * ones
    window = raster.follow(*centre, float(wide.max()))
    distance = raster.ellipse(window.x, window.y, wide, high)
    raster.paint(frames, window, raster.coverage(distance), tint(MOUTH_COLOUR))
