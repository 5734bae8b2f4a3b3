"""Does a model repeat its training clips: distance of what it makes to the nearest of them.

Shapes: N clips, M training clips, D features.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.distance import cdist

from avgen.clip import Clip
from avgen_eval.summary import Figure, Statistic, bootstrap, mean, median
from avgen_eval.tasks.continuity import half_frame_spectra

GRID = 8
FRAMES = 13
BANDS = 16
QUIETEST_DB = -60.0
SCALE_PAIRS = 2000


@dataclass(frozen=True, kw_only=True)
class Space:
    """Where clips are compared: a rough picture of 8 by 8 colours, 13 times in a clip, and its spectrogram.

    Attributes:
        clips: Training clips, ``(M, D)`` each for picture and sound, as `describe` makes them.
        names: Of each.
        scale: Median distance of two training clips in each of the two, by which distances are divided.
    """

    clips: tuple[np.ndarray, np.ndarray]
    names: tuple[str, ...]
    scale: tuple[float, float] = field(default=(1.0, 1.0))

    @classmethod
    def of(cls, clips: Iterable[Clip], names: Sequence[str]) -> "Space":
        """The space of training clips, which may be read one after the other.

        Raises:
            ValueError: Fewer than two clips.
        """
        rows = [describe(clip) for clip in clips]
        if len(rows) < 2:
            raise ValueError(f"{len(rows)} training clips; give at least 2 to compare with")
        picture, sound = (np.stack(part) for part in zip(*rows, strict=True))
        pairs = np.random.default_rng(0).integers(len(rows), size=(SCALE_PAIRS, 2))
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        scale = tuple(
            max(1e-9, float(np.median(_rms(part[pairs[:, 0]] - part[pairs[:, 1]]))))
            for part in (picture, sound)
        )
        return cls(clips=(picture, sound), names=tuple(names), scale=(scale[0], scale[1]))

    def distances(self, clips: Sequence[Clip]) -> np.ndarray:
        """Of each clip to each training clip, ``(N, M)``; 1 is how far two training clips are apart.

        Root mean square of the two parts, each a root mean square difference over its scale.
        """
        rows = [describe(clip) for clip in clips]
        total = np.zeros((len(rows), len(self.names)))
        for number, part in enumerate(self.clips):
            own = np.stack([row[number] for row in rows])
            total += cdist(own, part, "sqeuclidean") / part.shape[1] / self.scale[number] ** 2
        return np.sqrt(total / 2)


def describe(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Picture and sound of a clip as two vectors, whatever its length and rates.

    Raises:
        ValueError: The clip lacks a stream.
    """
    if clip.frames is None or clip.waveform is None:
        raise ValueError(f"{clip} needs picture and sound to be compared")
    at = np.linspace(0, len(clip.frames) - 1, FRAMES).round().astype(int)
    picture = _pooled(_pooled(clip.frames[at].astype(np.float64) / 255, 1, GRID), 2, GRID)
    spectra = np.maximum(half_frame_spectra(clip), QUIETEST_DB)
    sound = _pooled(_pooled(spectra, 1, BANDS), 0, min(len(spectra), 4 * FRAMES))
    if len(spectra) < 4 * FRAMES:
        sound = sound[np.linspace(0, len(sound) - 1, 4 * FRAMES).round().astype(int)]
    return picture.ravel(), sound.ravel()


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """What was found.

    Attributes:
        figures: See `compare`.
        distance: Of each generated clip to the nearest training clip, ``(N,)``.
        neighbour: Index of that training clip, ``(N,)``.
        flagged: Whether the clip counts as a copy, ``(N,)`` bool.
    """

    figures: dict[str, Figure]
    distance: np.ndarray
    neighbour: np.ndarray
    flagged: np.ndarray


def compare(
    space: Space,
    generated: Sequence[Clip],
    held_out: Sequence[Clip],
    copies: Sequence[tuple[int, Clip]],
) -> Nearest:
    """Generated clips against true clips that nobody trained on, and against copies that codecs left.

    ``nearest_ratio`` is the median over clips of the distance to the nearest training clip, over that of the true
    clip of the same caption: below 1, generated clips lie closer to training clips than they have reason to.
    A clip counts as a copy that is nearer to a training clip than the geometric mean of what copies have and what
    held-out clips have, both medians; ``copies_flagged_of_*`` is the share of each kind that counts as one, so that
    of training and of held-out clips are the controls.

    Fails on: copies of a part of a clip, of its mirror image, or at another time.

    Args:
        space: Of the training clips.
        generated: ``N`` clips.
        held_out: The true clips of the same captions, through the codecs.
        copies: Index of training clips, and what the codecs leave of them.

    Raises:
        ValueError: Unequal numbers, or no clips.
    """
    if len(generated) != len(held_out) or not generated or not copies:
        raise ValueError(
            f"{len(generated)} generated and {len(held_out)} held-out clips, {len(copies)} copies; "
            "give as many of the first two, and at least one of each"
        )
    made, true = space.distances(generated), space.distances(held_out)
    copied = space.distances([clip for _, clip in copies])
    of_copies = copied[np.arange(len(copies)), [index for index, _ in copies]]
    limit = float(np.sqrt(np.median(of_copies) * np.median(true.min(axis=1))))
    nearest = {"generated": made.min(axis=1), "held_out": true.min(axis=1)}
    flagged = {name: values < limit for name, values in nearest.items()}
    flagged["training"] = copied.min(axis=1) < limit
    rng = np.random.default_rng(0)
    found = {
        "nearest_ratio": _figure(nearest["generated"] / nearest["held_out"], median, rng),
        "copy_limit": _figure(np.array([limit]), median, rng),
        "nearest_training": _figure(of_copies, median, rng),
        **{f"nearest_{name}": _figure(values, median, rng) for name, values in nearest.items()},
        **{
            f"copies_flagged_of_{name}": _figure(values.astype(float), mean, rng)
            for name, values in flagged.items()
        },
    }
    return Nearest(
        figures={name: figure for name, figure in found.items() if figure is not None},
        distance=nearest["generated"],
        neighbour=made.argmin(axis=1),
        flagged=flagged["generated"],
    )


def _figure(values: np.ndarray, statistic: Statistic, rng: np.random.Generator) -> Figure | None:
    return bootstrap(values[:, None].tolist(), statistic, rng)


def _rms(differences: np.ndarray) -> np.ndarray:
    return np.sqrt((differences**2).mean(axis=1))


def _pooled(values: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Means of ``size`` about equal parts of an axis; no more parts than there are values."""
    length = values.shape[axis]
    edges = np.linspace(0, length, min(size, length) + 1).round().astype(int)
    widths = np.diff(edges).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    return np.add.reduceat(values, edges[:-1], axis=axis) / widths
