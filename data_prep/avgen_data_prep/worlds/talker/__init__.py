"""Talker: a face whose mouth follows the vowels it says."""

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
from avgen_data_prep.worlds.talker.detect import measure
from avgen_data_prep.worlds.talker.picture import paint_speech
from avgen_data_prep.worlds.talker.scene import VOICES, VOWELS, Speech, draw_speech
from avgen_data_prep.worlds.talker.sound import play_speech
from avgen_data_prep.worlds.wording import article, sentence

SCENES = (
    "a round {face} face with a {voice} voice talks before a {background} background",
    "{background} background, {face_article} cartoon face speaks vowels in a {voice} voice",
    "{face_article} talker, {voice} pitched, in front of {background}",
    "close-up of {face_article} face on {background}, speaking with a {voice} voice",
)
SEEN = ("mouth {opening}", "lips {opening}", "the mouth goes {opening}", "mouth {opening}")
HEARD = ("{word}", 'says "{word}"', "{word}", "{voice} voice: {word}")


class Talker(World):
    """One face that says vowels with pauses; see `World` for the interface."""

    name: ClassVar[str] = "talker"

    def _render(self, seed: int, stage: Stage) -> WorldExample:
        speech = draw_speech(np.random.default_rng([5, seed]), stage.duration)
        captions = caption_speech(speech, stage)
        waveform = play_speech(speech, stage)
        clip = build_clip(stage, paint_speech(speech, stage), waveform, captions[0])
        return WorldExample(clip=clip, captions=captions, truth=describe(speech, seed))

    def detect(self, clip: Clip, truth: dict[str, Any]) -> Detection:
        """See `World.detect`."""
        return measure(clip, truth)


def caption_speech(speech: Speech, stage: Stage) -> tuple[TimedCaption, ...]:
    """All paraphrases of a speech; the words themselves are the same in each."""
    scene = {
        "face": speech.face,
        "face_article": article(speech.face),
        "voice": speech.voice,
        "background": speech.background,
    }
    captions = []
    for style, template in enumerate(SCENES):
        events: list[Event] = []
        for number, word in enumerate(speech.words, start=1):
            seen = SEEN[style].format(opening=VOWELS[word.vowel].opening)
            heard = HEARD[style].format(word=word.vowel, voice=speech.voice)
            span = (word.start, word.end, stage.duration)
            mark = {"entity": f"{speech.face} face", "provenance": "talker"}
            link = {"id": f"s{number}", "cause": f"v{number}"}
            events += [
                timed(*span, seen, "visual", id=f"v{number}", **mark),
                timed(*span, heard, "speech", **link, **mark),
            ]
        captions.append(build_caption(stage, sentence(template.format(**scene)), events))
    return tuple(captions)


def describe(speech: Speech, seed: int) -> dict[str, Any]:
    """The truth of a speech, JSON-able."""
    events = [
        {"time": word.start, "end": word.end, "kind": "word", "object": 0, "word": word.vowel}
        for word in speech.words
    ]
    speaker = {"colour": speech.face, "voice": speech.voice, "pitch": VOICES[speech.voice]}
    return {
        "world": Talker.name,
        "seed": seed,
        "background": speech.background,
        "objects": [speaker],
        "events": events,
    }
