"""The colours of the worlds: eight hues that stay apart after blur and noise, and quiet greys."""

from avgen_data_prep.worlds.raster import Colour

PALETTE: dict[str, Colour] = {
    "red": (235, 35, 35),
    "orange": (255, 138, 0),
    "yellow": (250, 240, 40),
    "green": (40, 205, 65),
    "cyan": (30, 225, 235),
    "blue": (45, 90, 255),
    "purple": (150, 60, 245),
    "pink": (255, 70, 175),
}
BACKGROUNDS: dict[str, Colour] = {
    "black": (14, 14, 16),
    "dark grey": (48, 48, 50),
    "navy": (22, 28, 52),
    "grey": (84, 84, 86),
}
FLOORS: dict[str, Colour] = {
    "stone": (132, 132, 132),
    "wooden": (122, 96, 76),
    "sandy": (186, 174, 148),
    "white tiled": (226, 226, 226),
}
