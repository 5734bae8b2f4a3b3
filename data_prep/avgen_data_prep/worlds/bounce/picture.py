"""Frames of the bounce world."""

import numpy as np

from avgen_data_prep.worlds import raster
from avgen_data_prep.worlds.base import Stage
from avgen_data_prep.worlds.bounce.scene import Body, Scene
from avgen_data_prep.worlds.motion import FLOOR, LEFT_WALL, RIGHT_WALL
from avgen_data_prep.worlds.palette import BACKGROUNDS, FLOORS, PALETTE


def paint_scene(scene: Scene, stage: Stage) -> np.ndarray:
    """Frames ``(F, H, W, 3)`` float32 in 0..255."""
    size = stage.size
    still = raster.blank(1, size, BACKGROUNDS[scene.background])
    tone = FLOORS[scene.floor]
    raster.paint_band(still, 1, 0.0, LEFT_WALL * size, tone)
    raster.paint_band(still, 1, RIGHT_WALL * size, size, tone)
    raster.paint_band(still, 0, FLOOR * size, size, tone)
    frames = np.repeat(still, stage.num_frames, axis=0)
    for body in scene.bodies:
        x, y = body.path.positions(stage.frame_times)
        window = raster.follow(x * size, y * size, 1.15 * body.radius * size)
        distance = outline(body, window, size)
        shade = surface(body, window, distance, size)
        raster.paint(frames, window, raster.coverage(distance), shade)
    return frames


def outline(body: Body, window: raster.Window, size: int) -> np.ndarray:
    """Distance in pixels to the edge of a body, ``(F, P, P)``."""
    half_width, half_height = (extent * size for extent in body.half_extent)
    if body.shape == "ball":
        return raster.disc(window.x, window.y, half_width)
    form = raster.box if body.shape == "box" else raster.triangle
    return form(window.x, window.y, half_width, half_height)


def surface(body: Body, window: raster.Window, distance: np.ndarray, size: int) -> np.ndarray:
    """Colour of each pixel of a body by its material, ``(F, P, P, 3)``."""
    colour = np.asarray(PALETTE[body.colour], dtype=np.float32)
    depth = -distance / (body.radius * size)
    flat = np.ones_like(distance)
    if body.material == "rubber":
        return flat[..., None] * colour
    if body.material == "wood":
        period = 0.55 * body.radius * size
        grain = 0.5 + 0.5 * np.cos(2 * np.pi * window.y / period)
        return (flat * (1.0 - 0.45 * grain))[..., None] * colour
    if body.material == "metal":
        rim = np.clip(depth / 0.22, 0.0, 1.0)
        spot = raster.disc(
            window.x / size + 0.3 * body.radius, window.y / size + 0.1 * body.radius, 0
        )
        gloss = np.clip(1.0 - spot / (0.5 * body.radius), 0.0, 1.0) * 0.75
        base = (0.45 + 0.5 * rim)[..., None] * colour
        return base + gloss[..., None] * (255.0 - base)
    inside = np.clip((depth - 0.16) / 0.12, 0.0, 1.0)
    bright = colour + 0.25 * (255.0 - colour)
    return bright + inside[..., None] * (0.5 * colour - bright)
