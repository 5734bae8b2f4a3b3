"""Held-out captions to generate clips for: of the worlds, of a dataset, or of a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avgen.caption import TimedCaption
from avgen.data.dataset import MediaDataset
from avgen.pipeline import Request
from avgen_eval.harness.manifest import Item, ManifestError, read_manifest
from avgen_eval.known import Truth, get_world
from avgen_eval.suites import Suite, choose_caption

SIZE = 64


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A caption that the model has not been trained on.

    Attributes:
        id: Unique among those evaluated together.
        caption: What is asked for.
        seed: Of the generation.
        height: Pixels.
        width: Pixels.
        fps: Frames per second.
        truth: What the clip should show, where a world knows that.
        reference: The clip that the caption came with, where it is a file.
    """

    id: str
    caption: TimedCaption
    seed: int = 0
    height: int = SIZE
    width: int = SIZE
    fps: Fraction = Fraction(25)
    truth: Truth | None = None
    reference: Item | None = None

    def request(self) -> Request:
        """What the pipeline is asked for."""
        return Request.from_caption(
            self.caption, seed=self.seed, height=self.height, width=self.width, fps=self.fps
        )


def of_worlds(worlds: Sequence[str], count: int) -> list[HeldOut]:
    """Captions of the first held-out seeds of worlds, ``count`` of each, with what should be seen and heard.

    Raises:
        ValueError: There is no such world.
    """
    suite = Suite(worlds=tuple(worlds), count=count)
    return [
        HeldOut(
            id=f"{world}-{seed}",
            caption=choose_caption(example.captions, seed),
            seed=seed,
            height=suite.size,
            width=suite.size,
            fps=Fraction(suite.fps),
            truth=Truth(world=world, content=example.truth),
        )
        for world in suite.worlds
        for seed, example in suite.examples(world)
    ]


def of_file(path: Path, *, height: int = SIZE, width: int = SIZE) -> list[HeldOut]:
    """Captions of a manifest whose lines have an ``id`` and a ``caption`` or ``caption_file``, and perhaps a ``seed``.

    Clips that the lines name are what the generated ones are compared with.

    Raises:
        ValueError: The manifest or a caption cannot be read.
    """
    captions = []
    for number, item in enumerate(read_manifest(path, captions_only=True)):
        captions.append(
            HeldOut(
                id=item.id,
                caption=_caption(item, path),
                seed=number if item.seed is None else item.seed,
                height=height,
                width=width,
                reference=item if item.video or item.audio else None,
            )
        )
    return captions


def of_dataset(folder: Path, count: int) -> list[HeldOut]:
    """First captions of the examples with the lowest hashes, at the size and frame rate of their clips.

    Those are the ones that training holds out, as long as ``val_fraction`` of the data module holds out ``count``.

    Raises:
        DatasetError: Not a dataset, or damaged.
    """
    dataset = MediaDataset(folder)
    numbers = ("height", "width", "fps_numerator", "fps_denominator")
    captions = []
    for index in np.argsort(dataset.split_hashes, kind="stable")[:count].tolist():
        row = dataset.manifest.select(numbers).slice(index, 1).to_pylist()[0]
        about = dataset.provenance(index)
        captions.append(
            HeldOut(
                id=about["id"],
                caption=about["captions"][0],
                seed=about["seed"] or 0,
                height=row["height"] or SIZE,
                width=row["width"] or SIZE,
                fps=Fraction(row["fps_numerator"] or 25, row["fps_denominator"] or 1),
                truth=_truth(about),
            )
        )
    return captions


def _caption(item: Item, path: Path) -> TimedCaption:
    if item.caption is not None:
        return item.caption
    if item.caption_file is None:
        raise ManifestError(f"{path.name}: {item.id!r} has neither `caption` nor `caption_file`")
    try:
        return TimedCaption.open(item.caption_file)
    except (ValueError, OSError) as error:
        raise ManifestError(f"{path.name}: caption of {item.id!r}: {error}") from error


def _truth(about: dict[str, Any]) -> Truth | None:
    """That of a world whose name is the source of the example."""
    content = about["metadata"].get("truth")
    if not isinstance(content, dict):
        return None
    try:
        get_world(str(about["source"]))
    except ValueError:
        return None
    return Truth(world=about["source"], content=content)
