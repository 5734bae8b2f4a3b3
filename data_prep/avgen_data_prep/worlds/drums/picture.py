"""Frames of the drums world."""

import numpy as np

from avgen_data_prep.worlds import raster
from avgen_data_prep.worlds.base import Stage
from avgen_data_prep.worlds.drums.kit import ROW, Kit
from avgen_data_prep.worlds.palette import BACKGROUNDS, PALETTE

FLASH = 0.16
GROWTH = 0.14
IDLE = 0.5
GLOSS = 0.35


def flash(kit: Kit, pad: int, times: np.ndarray) -> np.ndarray:
    """Glow of a pad at each time, 0 to 1: full at a strike, gone `FLASH` seconds later."""
    glow = np.zeros_like(times)
    for time, struck, _ in kit.strikes:
        if struck == pad:
            since = times - time
            glow = np.maximum(glow, np.where(since >= 0, 1.0 - since / FLASH, 0.0))
    return glow


def paint_kit(kit: Kit, stage: Stage) -> np.ndarray:
    """Frames ``(F, H, W, 3)`` float32 in 0..255."""
    size = stage.size
    frames = raster.blank(stage.num_frames, size, BACKGROUNDS[kit.background])
    ones = np.ones(stage.num_frames)
    for pad, name in enumerate(kit.pads):
        glow = flash(kit, pad, stage.frame_times).astype(np.float32)
        reach = kit.radius * size * (1.0 + GROWTH)
        window = raster.follow(kit.centre(pad) * size * ones, ROW * size * ones, reach)
        radius = (kit.radius * size * (1.0 + GROWTH * glow))[:, None, None]
        distance = outline(kit.instruments[name].shape, window, radius)
        colour = np.asarray(PALETTE[kit.instruments[name].colour], dtype=np.float32)
        bright = colour + GLOSS * (255.0 - colour)
        shade = IDLE * colour + glow[:, None] * (bright - IDLE * colour)
        raster.paint(frames, window, raster.coverage(distance), shade[:, None, None, :])
    return frames


def outline(shape: str, window: raster.Window, radius: np.ndarray) -> np.ndarray:
    """Distance in pixels to the edge of a pad, ``(F, P, P)``."""
    if shape == "ball":
        return raster.disc(window.x, window.y, radius)
    form = raster.box if shape == "box" else raster.triangle
    return form(window.x, window.y, 0.92 * radius, 0.92 * radius)
