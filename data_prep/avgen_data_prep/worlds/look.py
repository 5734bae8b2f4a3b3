"""Known-answer looking: where is which colour, how did it move, when did it hit something.

Shapes: F frames, H, W, M palette colours, N candidate times.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from avgen_data_prep.worlds.palette import BACKGROUNDS, FLOORS, PALETTE

MIN_CHROMA = 62.0
QUIET_CHROMA, TONE_REACH = 20.0, 40.0
SOLID = 0.8
NEIGHBOURS = np.array([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))], dtype=bool)


def hues(rgb: np.ndarray) -> np.ndarray:
    """Angle in radians around the grey axis; the last axis holds RGB."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return np.arctan2(np.sqrt(3.0) * (green - blue), 2.0 * red - green - blue)


def soften(frames: np.ndarray) -> np.ndarray:
    """Frames averaged over about 3 of 64 pixels each way, against noise; float32."""
    width = max(1, 2 * round(frames.shape[1] / 64) + 1)
    rgb = frames.astype(np.float32)
    for axis in (1, 2):
        rgb = ndimage.uniform_filter1d(rgb, width, axis=axis, mode="nearest")
    return rgb


def name_colours(frames: np.ndarray, min_chroma: float = MIN_CHROMA) -> np.ndarray:
    """Index into `PALETTE` of the nearest hue of each pixel, -1 where it is none: ``(F, H, W)``.

    Pixels of little chroma have no hue, nor have those near a tone of background or floor.
    """
    rgb = soften(frames)
    chroma = rgb.max(axis=-1) - rgb.min(axis=-1)
    names = np.full(chroma.shape, -1, dtype=np.int8)
    vivid = chroma >= min_chroma
    for tone in (*BACKGROUNDS.values(), *FLOORS.values()):
        if max(tone) - min(tone) > QUIET_CHROMA:
            away = rgb[vivid] - np.asarray(tone, dtype=np.float32)
            vivid[vivid] = np.einsum("pc,pc->p", away, away) > TONE_REACH**2
    palette = hues(np.array(list(PALETTE.values()), dtype=np.float32))
    turn = hues(rgb[vivid])[:, None] - palette
    away = np.abs((turn + np.pi) % (2 * np.pi) - np.pi)
    names[vivid] = away.argmin(axis=1)
    return names


def thick_area(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask ``(F, H, W)`` that are left without its thin lines and edges: ``(F,)``."""
    width = max(1, 2 * round(mask.shape[1] / 64) + 1)
    core = ndimage.minimum_filter(mask, (0, width, width), mode="nearest")
    opened = ndimage.maximum_filter(core, (0, width, width), mode="nearest")
    return (opened & mask).sum(axis=(1, 2))


@dataclass(frozen=True)
class Blob:
    """One colour through a clip.

    Attributes:
        area: Pixels of the colour in each frame, ``(F,)``.
        solid: Share of them in the largest connected piece, ``(F,)``.
        x: Horizontal centre of that piece in pixels, NaN where there is none, ``(F,)``.
        y: Vertical centre, likewise.
    """

    area: np.ndarray
    solid: np.ndarray
    x: np.ndarray
    y: np.ndarray


def label_pieces(mask: np.ndarray, neighbours: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Connected pieces numbered from 1, 0 elsewhere, and how many there are."""
    labels = np.zeros(mask.shape, dtype=np.int32)
    ndimage.label(mask, neighbours, output=labels)
    return labels, int(labels.max(initial=0))


def find_blob(mask: np.ndarray) -> Blob:
    """The largest connected piece in each frame of a mask ``(F, H, W)``."""
    labels, num_labels = label_pieces(mask, NEIGHBOURS)
    frame, row, column = np.nonzero(mask)
    label = labels[frame, row, column]
    sizes = np.bincount(label, minlength=num_labels + 1)
    owner = np.zeros(num_labels + 1, dtype=int)
    owner[label] = frame
    largest = np.zeros(len(mask), dtype=int)
    for piece in np.argsort(sizes[1:], kind="stable") + 1:
        largest[owner[piece]] = piece
    area = mask.sum(axis=(1, 2)).astype(float)
    with np.errstate(invalid="ignore"):
        x = np.bincount(label, column + 0.5, num_labels + 1) / sizes
        y = np.bincount(label, row + 0.5, num_labels + 1) / sizes
    return Blob(area, sizes[largest] / np.maximum(area, 1.0), x[largest], y[largest])


def fill_gaps(values: np.ndarray, longest: int) -> np.ndarray:
    """Values with inner gaps of NaN of at most ``longest`` frames interpolated."""
    missing = np.isnan(values)
    if missing.all() or not missing.any():
        return values
    index = np.arange(len(values))
    filled = np.interp(index, index[~missing], values[~missing], left=np.nan, right=np.nan)
    labels, num_gaps = label_pieces(missing)
    for gap in range(1, num_gaps + 1):
        if (labels == gap).sum() > longest:
            filled[labels == gap] = np.nan
    return filled


@dataclass(frozen=True)
class Bends:
    """Sudden changes of velocity along one axis, hypothesised at each of N times.

    Attributes:
        times: Seconds, ``(N,)``.
        place: Position at that time, ``(N,)``.
        before: Velocity just before, ``(N,)``.
        jump: Change of velocity, ``(N,)``; NaN where too few frames are known.
        gain: Squared error that the kink saves against free motion, pulled or not, ``(N,)``.
        error: Squared error that remains, ``(N,)``.
    """

    times: np.ndarray
    place: np.ndarray
    before: np.ndarray
    jump: np.ndarray
    gain: np.ndarray
    error: np.ndarray


def find_bends(
    positions: np.ndarray,
    fps: float,
    *,
    reach: float,
    pull_before: float,
    pull_after: float,
    fineness: int = 8,
) -> Bends:
    """Fit a motion with a kink at each candidate time to the frames within ``reach`` seconds.

    Args:
        positions: Along one axis ``(F,)``, NaN where unknown.
        fps: Frames per second.
        reach: Seconds on either side that take part; at least three frames are used.
        pull_before: Known acceleration before the kink.
        pull_after: Known acceleration after it.
        fineness: Candidate times per frame.
    """
    num_frames = len(positions)
    frame_times = np.arange(num_frames) / fps
    times = np.arange(0, (num_frames - 1) * fineness + 1) / (fps * fineness)
    half = max(3, round(reach * fps))
    index = np.rint(times * fps).astype(int)[:, None] + np.arange(-half, half + 1)
    known = (index >= 0) & (index < num_frames)
    index = np.clip(index, 0, num_frames - 1)
    value = positions[index]
    known &= ~np.isnan(value)
    since = frame_times[index] - times[:, None]
    pull = np.where(since < 0, pull_before, pull_after)
    target = np.where(known, value - 0.5 * pull * since**2, 0.0)
    basis = np.stack([np.ones_like(since), since, np.maximum(since, 0.0)], axis=-1)
    basis *= known[..., None]
    kinked, error = least_squares(basis, target)
    smooth = [np.where(known, value - 0.5 * pull * since**2, 0.0) for pull in (pull_before, 0.0)]
    plain_error = np.minimum(*(least_squares(basis[..., :2], plain)[1] for plain in smooth))
    enough = ((known & (since < 0)).sum(axis=1) >= 2) & ((known & (since >= 0)).sum(axis=1) >= 2)
    jump = np.where(enough, kinked[:, 2], np.nan)
    return Bends(times, kinked[:, 0], kinked[:, 1], jump, plain_error - error, error)


def least_squares(basis: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients ``(N, k)`` and squared errors ``(N,)`` of N small regressions."""
    normal = np.einsum("nwi,nwj->nij", basis, basis)
    normal += 1e-9 * np.eye(basis.shape[-1])
    right = np.einsum("nwi,nw->ni", basis, target)
    solution = np.linalg.solve(normal, right[..., None])[..., 0]
    rest = target - np.einsum("nwi,ni->nw", basis, solution)
    return solution, np.square(rest).sum(axis=1)
