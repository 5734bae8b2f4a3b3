"""Frames of the engine world."""

import numpy as np

from avgen_data_prep.worlds import raster
from avgen_data_prep.worlds.base import Stage
from avgen_data_prep.worlds.engine.scene import Run, turns_at
from avgen_data_prep.worlds.palette import BACKGROUNDS, PALETTE

CENTRE = 0.5
RADIUS = 0.4
HUB = 0.07
SPOKE_END, SPOKE_WIDTH = 0.31, 0.05
WHITE: raster.Colour = (250, 250, 250)


def paint_run(run: Run, stage: Stage) -> np.ndarray:
    """Frames ``(F, H, W, 3)`` float32 in 0..255."""
    size = stage.size
    still = raster.blank(1, size, BACKGROUNDS[run.background])
    centre = np.array([CENTRE * size])
    window = raster.follow(centre, centre, RADIUS * size)
    distance = raster.disc(window.x, window.y, RADIUS * size)
    rim = np.clip(-distance / (0.06 * size), 0.0, 1.0)[..., None]
    colour = np.asarray(PALETTE[run.colour], dtype=np.float32)
    raster.paint(still, window, raster.coverage(distance), (0.55 + 0.45 * rim) * colour)
    frames = np.repeat(still, stage.num_frames, axis=0)
    centres = np.repeat(centre, stage.num_frames)
    window = raster.follow(centres, centres, (SPOKE_END + SPOKE_WIDTH) * size)
    angle = run.angle + 2 * np.pi * run.turn * turns_at(run, stage.frame_times)
    tip = SPOKE_END * size * np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
    tip_x, tip_y = tip[:, :, None, None]
    distance = raster.segment(window.x, window.y, tip_x, tip_y, SPOKE_WIDTH * size)
    raster.paint(frames, window, raster.coverage(distance), np.asarray(WHITE, dtype=np.float32))
    hub = raster.coverage(raster.disc(window.x, window.y, HUB * size))
    raster.paint(frames, window, hub, np.asarray(BACKGROUNDS[run.background], dtype=np.float32))
    return frames
