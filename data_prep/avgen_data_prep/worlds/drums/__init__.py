"""Drums: a row of pads that light up and sound when struck."""

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
from avgen_data_prep.worlds.drums.detect import measure
from avgen_data_prep.worlds.drums.kit import ROW, Kit, draw_kit
from avgen_data_prep.worlds.drums.picture import FLASH, paint_kit
from avgen_data_prep.worlds.drums.sound import play_kit
from avgen_data_prep.worlds.wording import NUMBER_WORDS, article, listing, sentence

NUM_STYLES = 4
SEEN = ("{name} pad flashes", "{colour} pad lights up", "the {name} lights up", "{name} is struck")
HEARD = ("{sound}", "{sound}, {colour} pad", "{sound}, {colour} pad", "{sound} sound")


class Drums(World):
    """Three or four pads struck in a rhythm; see `World` for the interface."""

    name: ClassVar[str] = "drums"

    def _render(self, seed: int, stage: Stage) -> WorldExample:
        kit = self.draw(np.random.default_rng([3, seed]), stage.duration)
        captions = caption_kit(kit, stage)
        waveform = play_kit(kit, stage, np.random.default_rng([4, seed]))
        clip = build_clip(stage, paint_kit(kit, stage), waveform, captions[0])
        return WorldExample(clip=clip, captions=captions, truth=describe(kit, seed))

    def draw(self, rng: np.random.Generator, duration: float) -> Kit:
        """What a clip shows."""
        return draw_kit(rng, duration)

    def detect(self, clip: Clip, truth: dict[str, Any]) -> Detection:
        """See `World.detect`."""
        return measure(clip, truth)


def caption_kit(kit: Kit, stage: Stage) -> tuple[TimedCaption, ...]:
    """All paraphrases of a kit and its rhythm."""
    captions = []
    for style in range(NUM_STYLES):
        events: list[Event] = []
        for number, (time, pad, _) in enumerate(kit.strikes, start=1):
            name = kit.pads[pad]
            instrument = kit.instruments[name]
            words = {
                "name": f"{instrument.colour} {name}",
                "colour": instrument.colour,
                "sound": instrument.sounds[style],
            }
            mark = {"entity": f"{instrument.colour} {name}", "provenance": "drums"}
            seen, heard = SEEN[style].format(**words), HEARD[style].format(**words)
            sounding = (time, time + 0.6 * instrument.length)
            link = {"id": f"s{number}", "cause": f"v{number}"}
            events += [
                timed(time, time + FLASH, stage.duration, seen, "visual", id=f"v{number}", **mark),
                timed(*sounding, stage.duration, heard, "sfx", **link, **mark),
            ]
        captions.append(build_caption(stage, kit_text(style, kit), events))
    return tuple(captions)


def kit_text(style: int, kit: Kit) -> str:
    """The global description."""
    number = NUMBER_WORDS[len(kit.pads)]
    looks = [(kit.instruments[name], name) for name in kit.pads]
    if style == 0:
        items = [article(f"{look.colour} {look.form} {name}") for look, name in looks]
        return sentence(f"{number} drum pads on {kit.background}, left to right: {listing(items)}")
    if style == 1:
        items = [f"{look.form} {look.colour} {name}" for look, name in looks]
        return sentence(f"a row of {number} pads, {kit.background} background: {', '.join(items)}")
    if style == 2:
        items = [f"{look.colour} {name}" for look, name in looks]
        return sentence(f"from left to right {listing(items)} pads light up on {kit.background}")
    items = [f"{name} ({look.colour} {look.form})" for look, name in looks]
    return sentence(f"{number} pads before {kit.background}: {', '.join(items)}, from the left")


def describe(kit: Kit, seed: int) -> dict[str, Any]:
    """The truth of a kit and its rhythm, JSON-able."""
    objects = [
        {
            "name": name,
            "colour": kit.instruments[name].colour,
            "shape": kit.instruments[name].shape,
            "radius": kit.radius,
            "start": [kit.centre(pad), ROW],
        }
        for pad, name in enumerate(kit.pads)
    ]
    events = [
        {"time": time, "kind": "strike", "object": pad, "level": level}
        for time, pad, level in kit.strikes
    ]
    return {
        "world": Drums.name,
        "seed": seed,
        "background": kit.background,
        "objects": objects,
        "events": events,
    }
