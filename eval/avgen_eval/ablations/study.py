"""What is compared: settings, variants and questions, read from ``studies.yaml``."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from avgen.checkpoint import find_weights, recorded_sha


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of a table.

    Attributes:
        name: Its name.
        label: What it is called in a table.
        world: World of the clips.
        seconds: Of a clip.
        clips: Held-out clips that are measured.
        ways: Ways of asking; see `avgen_eval.ablations.measuring`.
        sampling: Arguments of `avgen.pipeline.AVPipeline.generate`.
        train_clips: Clips of its training data; 0 where its weights are there.
        training: How its weights are trained; None where they are there.
        weights: Name of shipped weights, or of the variant whose weights it samples from.
    """

    name: str
    label: str
    world: str
    seconds: float
    clips: int
    ways: tuple[str, ...]
    sampling: Mapping[str, Any]
    train_clips: int = 0
    training: Mapping[str, Any] | None = None
    weights: str | None = None

    @property
    def start(self) -> str | None:
        """Name of the variant whose weights its training starts from."""
        return (self.training or {}).get("start")

    @property
    def key(self) -> str:
        """Hash of all that its figures depend on, besides the seed."""
        source = studies()[0].get(str(self.weights))
        parts = [self.world, self.seconds, self.clips, self.ways, self.sampling, self.training]
        parts.append(_shipped(self.weights) if source is None else source.key)
        if self.training is not None:
            parts += [self.train_clips, self.start and find_variant(self.start).key]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One table: variants beside a baseline, and the figures that tell them apart."""

    name: str
    title: str
    baseline: str
    variants: tuple[str, ...]
    figures: tuple[str, ...]
    plot: str


@cache
def _shipped(name: str | None) -> list[str] | None:
    """What the weights of a name are, so that rows of those before do not stand for them."""
    if name is None:
        return None
    return [recorded_sha(path) for path in sorted(find_weights(name).glob("*.safetensors"))]


@cache
def studies() -> tuple[dict[str, Variant], dict[str, Question]]:
    """All variants and all questions, by name."""
    text = (files("avgen_eval.ablations") / "studies.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    variants = {
        name: _variant(name, given, content["settings"][given["setting"]])
        for name, given in content["variants"].items()
    }
    questions = {
        name: Question(
            name=name,
            title=given["title"],
            baseline=given["baseline"],
            variants=tuple(given["variants"]),
            figures=tuple(given["figures"]),
            plot=given["plot"],
        )
        for name, given in content["questions"].items()
    }
    return variants, questions


def find_variant(name: str) -> Variant:
    """A variant by name.

    Raises:
        ValueError: There is none.
    """
    variants = studies()[0]
    if name not in variants:
        raise ValueError(f"variant {name!r} is unknown; use one of {', '.join(variants)}")
    return variants[name]


def find_question(name: str) -> Question:
    """A question by name.

    Raises:
        ValueError: There is none.
    """
    questions = studies()[1]
    if name not in questions:
        raise ValueError(f"question {name!r} is unknown; use one of {', '.join(questions)}")
    return questions[name]


def _variant(name: str, given: Mapping[str, Any], setting: Mapping[str, Any]) -> Variant:
    merged = _merged(setting, {k: v for k, v in given.items() if k not in ("setting", "of")})
    source = given.get("of") or setting.get("weights")
    return Variant(
        name=name,
        label=merged["label"],
        world=merged["world"],
        seconds=merged["seconds"],
        clips=merged["clips"],
        ways=tuple(merged["ways"]),
        sampling=merged["sampling"],
        train_clips=0 if source else merged["train_clips"],
        training=None if source else merged["training"],
        weights=source,
    )


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes within their mappings; guidance is replaced whole, since each guider adds to the others."""
    merged = dict(base)
    for key, value in changes.items():
        inside = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if inside and key != "guidance" else value
    return merged
