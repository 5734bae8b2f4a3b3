"""Bounce: coloured bodies fall, hit floor and walls, and sound like what they are made of."""

from typing import Any, ClassVar

import numpy as np

from avgen.caption import Event, TimedCaption
from avgen.clip import Clip
from avgen_data_prep.worlds.base import (
    Detection,
    Stage,
    World,
    WorldExample,
    build_caption,
    build_clip,
    timed,
)
from avgen_data_prep.worlds.bounce import words
from avgen_data_prep.worlds.bounce.detect import measure
from avgen_data_prep.worlds.bounce.picture import paint_scene
from avgen_data_prep.worlds.bounce.scene import SHAPES, Body, Scene, draw_scene
from avgen_data_prep.worlds.bounce.sound import TIMBRES, play_scene


class Bounce(World):
    """One to three bodies of different colours on a plain stage; see `World` for the interface."""

    name: ClassVar[str] = "bounce"

    def _render(self, seed: int, stage: Stage) -> WorldExample:
        scene = draw_scene(np.random.default_rng([1, seed]), stage.duration)
        captions = caption_scene(scene, stage)
        waveform = play_scene(scene, stage, np.random.default_rng([2, seed]))
        clip = build_clip(stage, paint_scene(scene, stage), waveform, captions[0])
        return WorldExample(clip=clip, captions=captions, truth=describe(scene, seed))

    def detect(self, clip: Clip, truth: dict[str, Any]) -> Detection:
        """See `World.detect`."""
        return measure(clip, truth)


def caption_scene(scene: Scene, stage: Stage) -> tuple[TimedCaption, ...]:
    """All paraphrases of a scene."""
    captions = []
    for style in range(words.NUM_STYLES):
        events: list[Event] = []
        for number, (body, hit) in enumerate(scene.hits(), start=1):
            name = f"{body.colour} {body.shape}"
            seen, heard = words.hit_texts(style, name, body.material, hit.surface)
            length = 2.5 * max(TIMBRES[body.material].decays)
            around, sounding = (hit.time - 0.04, hit.time + 0.04), (hit.time, hit.time + length)
            mark = {"entity": name, "provenance": "bounce"}
            events += [
                timed(*around, stage.duration, seen, "visual", id=f"v{number}", **mark),
                timed(
                    *sounding,
                    stage.duration,
                    heard,
                    "sfx",
                    id=f"s{number}",
                    cause=f"v{number}",
                    **mark,
                ),
            ]
        text = words.scene_text(
            style, [body_words(b) for b in scene.bodies], scene.background, scene.floor
        )
        captions.append(build_caption(stage, text, events))
    return tuple(captions)


def body_words(body: Body) -> words.BodyWords:
    """What captions need to know about a body."""
    start = body.start
    look = f"{body.size} {body.colour} {body.material} {body.shape}"
    return words.BodyWords(look, start.x, start.y, start.vx, start.vy)


def describe(scene: Scene, seed: int) -> dict[str, Any]:
    """The truth of a scene, JSON-able."""
    objects = [
        {
            "colour": body.colour,
            "shape": body.shape,
            "material": body.material,
            "size": body.size,
            "radius": body.radius,
            "half_extent": list(body.half_extent),
            "area": SHAPES[body.shape][2] * body.radius**2,
            "start": [body.start.x, body.start.y],
            "velocity": [body.start.vx, body.start.vy],
        }
        for body in scene.bodies
    ]
    order = {body.colour: index for index, body in enumerate(scene.bodies)}
    events = [
        {
            "time": hit.time,
            "kind": "hit",
            "object": order[body.colour],
            "surface": hit.surface,
            "speed": hit.speed,
        }
        for body, hit in scene.hits()
    ]
    return {
        "world": Bounce.name,
        "seed": seed,
        "background": scene.background,
        "floor": scene.floor,
        "objects": objects,
        "events": events,
    }
