"""Captions that training never had: other sentences, other words, contradictions, two scenes in one."""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from avgen.caption import Event, TimedCaption


@cache
def wordings() -> dict[str, Any]:
    """The fixed list of templates and synonyms."""
    return json.loads(files("avgen_eval.honesty").joinpath("wordings.json").read_text("utf-8"))


def reworded(
    world: str, caption: TimedCaption, truth: Mapping[str, Any], seed: int
) -> TimedCaption:
    """The same scene and the same event times in sentences of `wordings`, in turn by seed.

    Words for colours, shapes, materials, sizes and instruments stay.

    Raises:
        ValueError: There are no sentences for this world.
    """
    if world not in wordings()["templates"]:
        known = ", ".join(wordings()["templates"])
        raise ValueError(f"no sentences for world {world!r}; there are some for {known}")
    templates = {
        name: rows[seed % len(rows)] for name, rows in wordings()["templates"][world].items()
    }
    objects = [_object_words(item) for item in truth["objects"]]
    items = "; ".join(templates["item"].format(**words) for words in objects)
    scene = {"background": truth["background"], "floor": truth.get("floor"), "items": items}
    events = []
    for event in caption.events:
        happening = truth["events"][_number(event) - 1]
        words = objects[happening["object"]] | {"surface": happening.get("surface")}
        template = templates["seen" if event.track == "visual" else "heard"]
        events.append(event.replace(text=template.format(**words)))
    return caption.replace(text=templates["scene"].format(**scene), events=tuple(events))


def with_synonyms(caption: TimedCaption) -> TimedCaption:
    """The same sentences in other words."""
    return _mapped(caption, wordings()["synonyms"], text=True)


def contradicted(
    caption: TimedCaption, truth: Mapping[str, Any], seed: int
) -> tuple[TimedCaption, dict[str, Any]]:
    """The caption with other colours in its events than in its text, and the truth in the colours of the events.

    Each colour becomes one that no object of the clip has.
    """
    used = [item["colour"] for item in truth["objects"]]
    free = [colour for colour in COLOURS if colour not in used]
    swap = {colour: free[(seed + i) % len(free)] for i, colour in enumerate(used)}
    objects = [{**item, "colour": swap[item["colour"]]} for item in truth["objects"]]
    return _mapped(caption, swap, text=False), {**truth, "objects": objects}


COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")


def merged(first: TimedCaption, second: TimedCaption) -> TimedCaption:
    """Both texts, one after the other, and the events of both."""
    both = [_prefixed(first, "a"), _prefixed(second, "b")]
    return TimedCaption(
        duration_us=max(first.duration_us, second.duration_us),
        text=f"{first.text} {second.text}",
        events=tuple(event for caption in both for event in caption.events),
    )


def merged_truth(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Objects and events of two scenes of one world."""
    shift = len(first["objects"])
    moved = [{**event, "object": event["object"] + shift} for event in second["events"]]
    return {
        **first,
        "objects": [*first["objects"], *second["objects"]],
        "events": sorted([*first["events"], *moved], key=lambda event: event["time"]),
    }


def _object_words(item: Mapping[str, Any]) -> dict[str, Any]:
    (x, y), (vx, vy) = item["start"], item.get("velocity", (0.0, 0.0))
    ways = [
        ("up" if vy < -0.15 else "down"),
        *(["right"] if vx > 0 else ["left"] if vx < 0 else []),
    ]
    form = wordings()["forms"][item["shape"]]
    place = {"across": 5 * round(20 * x), "down": 5 * round(20 * y)}
    return {**item, **place, "form": form, "way": " and ".join(ways)}


def _number(event: Event) -> int:
    """Worlds name the events of their n-th happening ``vn`` and ``sn``."""
    assert event.id is not None
    return int(event.id[1:])


def _mapped(caption: TimedCaption, words: Mapping[str, str], *, text: bool) -> TimedCaption:
    """A caption with whole words replaced in its events and, if asked, in its text."""
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, words))})\b", re.IGNORECASE)

    def replaced(old: str) -> str:
        return pattern.sub(lambda found: words[found.group().lower()], old)

    events = tuple(event.replace(text=replaced(event.text)) for event in caption.events)
    return caption.replace(text=replaced(caption.text) if text else caption.text, events=events)


def _prefixed(caption: TimedCaption, prefix: str) -> TimedCaption:
    events = (
        event.replace(
            id=event.id and f"{prefix}{event.id}", cause=event.cause and f"{prefix}{event.cause}"
        )
        for event in caption.events
    )
    return caption.replace(events=tuple(events))
