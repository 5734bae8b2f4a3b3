"""Clips whose vectors nearly point the same way as those of another (SemDeDup, Abbas et al. 2023).

Shapes: N clips, D numbers of a vector.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float32
from numpy import ndarray

from avgen_data_prep.pipeline.stage import Gather, Row

_ROUNDS = 8
_FITTED_PER_CELL = 128
_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class SemanticDuplicates(Gather):
    """How near each clip is to an earlier one by the cosine of their vectors, and which it repeats.

    Clips are taken in order of their ids, and compared with the earlier ones that repeat none
    themselves; so leaving the repeats out leaves one of each kind. Vectors are first parted into
    cells by k-means (seeded with evenly spaced clips, so that a run can be repeated), and only those
    of one cell are compared: pairs across the border of two cells are missed. Vectors of different
    kinds are never compared.

    Columns:
        semantic_duplicate_of: Id of the nearest such clip, where it is no further than
            `max_distance`; null otherwise.
        semantic_distance: One minus the cosine, 0 to 2, to the nearest such clip; null for the first
            clip of a cell and where there is no vector.

    Attributes:
        max_distance: Of a repeat. What it means depends on the vectors: see `Embedding`.
        largest_cell: Clips in a cell at most, unless they are all alike.
    """

    name: ClassVar[str] = "semantic_duplicates"
    reads: ClassVar[tuple[str, ...]] = ("embedding", "embedding_kind")
    writes: ClassVar[pa.Schema] = pa.schema(
        [("semantic_duplicate_of", pa.string()), ("semantic_distance", pa.float64())]
    )
    max_distance: float = 0.01
    largest_cell: int = 4096

    def __post_init__(self) -> None:
        if not 0 <= self.max_distance < 1 or self.largest_cell < 16:
            raise ValueError(
                f"max_distance is {self.max_distance} and largest_cell {self.largest_cell}; "
                "give 0 to 1 and at least 16"
            )

    def gather(self, rows: list[Row]) -> list[Row]:
        """See the columns of the class."""
        found: list[Row] = [{} for _ in rows]
        kinds: dict[tuple[str, int], list[int]] = {}
        for index, row in enumerate(rows):
            if row["embedding"] is not None and any(row["embedding"]):
                kind = row["embedding_kind"], len(row["embedding"])
                kinds.setdefault(kind, []).append(index)
        for indices in kinds.values():
            vectors = np.array([rows[i]["embedding"] for i in indices], np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            for cell in cells(vectors, np.arange(len(vectors)), self.largest_cell):
                for clip, nearest, distance in self._repeats(vectors[cell]):
                    entry = found[indices[cell[clip]]]
                    entry["semantic_distance"] = distance
                    if distance <= self.max_distance:
                        entry["semantic_duplicate_of"] = rows[indices[cell[nearest]]]["id"]
        return found

    def _repeats(self, vectors: Float32[ndarray, "n d"]) -> Iterator[tuple[int, int, float]]:
        """Each clip of a cell but the first, the nearest kept before it, and the distance."""
        kept, names = np.empty_like(vectors), []
        for clip, vector in enumerate(vectors):
            distance = np.inf
            if names:
                cosines = kept[: len(names)] @ vector
                nearest = int(cosines.argmax())
                distance = max(0.0, round(1 - float(cosines[nearest]), 4))
                yield clip, names[nearest], distance
            if distance > self.max_distance:
                kept[len(names)] = vector
                names.append(clip)


def cells(vectors: Float32[ndarray, "n d"], members: ndarray, largest: int) -> Iterator[ndarray]:
    """Parts of ``members`` with at most ``largest`` vectors each, in order within each.

    Args:
        vectors: Of norm 1.
        members: Indices of those to be parted, ascending.
        largest: Where vectors are too much alike to be parted, a part can be larger.
    """
    if len(members) <= largest:
        yield members
        return
    count = -(-4 * len(members) // largest)
    places = _nearest(vectors, members, _centres(vectors, members, count))
    for place in range(count):
        part = members[places == place]
        if len(part) == len(members):
            yield part
        elif len(part):
            yield from cells(vectors, part, largest)


def _centres(
    vectors: Float32[ndarray, "n d"], members: ndarray, count: int
) -> Float32[ndarray, "k d"]:
    """Centres of k-means by cosine, fitted to evenly spaced vectors."""
    fitted = members[_even(len(members), _FITTED_PER_CELL * count)]
    centres = vectors[fitted[_even(len(fitted), count)]]
    for _ in range(_ROUNDS):
        places = _nearest(vectors, fitted, centres)
        sums = np.zeros_like(centres)
        np.add.at(sums, places, vectors[fitted])
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 1e-6, sums / np.maximum(norms, 1e-6), centres)
    return centres


def _even(length: int, wanted: int) -> ndarray:
    return np.arange(min(length, wanted)) * length // min(length, wanted)


def _nearest(
    vectors: Float32[ndarray, "n d"], members: ndarray, centres: Float32[ndarray, "k d"]
) -> ndarray:
    """Index of each member's centre."""
    pieces = [members[i : i + _AT_ONCE] for i in range(0, len(members), _AT_ONCE)]
    return np.concatenate([(vectors[piece] @ centres.T).argmax(axis=1) for piece in pieces])
