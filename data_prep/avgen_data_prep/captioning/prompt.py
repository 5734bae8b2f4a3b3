"""What a language model is asked about a clip: the rules of docs/caption-protocol.md, the intervals, the media."""

import hashlib
import json
from typing import Any

from avgen.clock import seconds_from_us
from avgen_data_prep.captioning import parts
from avgen_data_prep.captioning.captioner import CaptionRequest
from avgen_data_prep.stages.pictures import spread

RULES = """\
You describe a clip so that someone who neither sees nor hears it could stage it again.
You are given the moments at which detectors measured that something happens, as a list of intervals.
For each interval write what happens in it. You cannot move, add or merge intervals.
Answer with one JSON object of the given schema:
- events: one for each interval in which you can tell what happens. text: what happens, in one phrase,
  concrete, without any time. cause: the id of the interval whose event makes this one happen, or null.
  entity: who or what does it, by the same name throughout, or null. onscreen: for sounds, whether their
  source is in the picture; null where you cannot tell.
- For an interval of kind "words", write who speaks and how, then the words exactly as measured, in double
  quotation marks. Double quotation marks are for words that are spoken, and for nothing else.
- full: setting, people and things with their looks, light and colours, camera, then what happens in order,
  what is seen together with what is heard, where sounds come from, voices and how they speak.
- medium: the same in two or three sentences. short: in one sentence of at most fifteen words.
- paraphrases: {paraphrases} other wordings of full, with the same contents.
- absent: {absent}
Never state times, time codes or frame numbers. Never guess what you cannot see or hear: leave it out."""
REPAIR = (
    "Your answer cannot be used: {problem}. "
    "Answer again with the whole JSON object, of the schema, and nothing else."
)
_ABSENT = "which of sound, speech and music are not there; say so in full, too."
_ABSENT_UNHEARD = (
    "leave it empty; in no text say what is heard or not heard: you are not given the sound."
)


def messages(
    request: CaptionRequest, *, paraphrases: int, num_frames: int, frame_size: int, hears: bool
) -> list[dict[str, Any]]:
    """The messages of a request, with pictures and sound as parts of their own.

    Args:
        request: What to describe.
        paraphrases: Wordings of the full text to ask for.
        num_frames: Pictures to show at most.
        frame_size: Longer side of a picture in pixels.
        hears: Whether to send the sound.
    """
    frames = request.clip.frames
    shown = {} if frames is None else {i: frames[i] for i in spread(len(frames), num_frames)}
    question = _question(request, list(shown), hears)
    content: list[dict[str, Any]] = [{"type": "text", "text": question}]
    content += [parts.picture_part(frame, frame_size) for frame in shown.values()]
    if hears and request.clip.waveform is not None:
        content.append(parts.sound_part(request.clip.waveform, request.clip.sample_rate))
    absent = _ABSENT if hears else _ABSENT_UNHEARD
    rules = RULES.format(paraphrases=paraphrases, absent=absent)
    return [{"role": "system", "content": rules}, {"role": "user", "content": content}]


def prompt_sha256(asked: list[dict[str, Any]], schema: dict[str, Any]) -> str:
    """SHA-256 of the texts of messages and of the schema; media are named by the clip's id."""
    user = asked[1]["content"]
    texts = [asked[0]["content"], *(part["text"] for part in user if part["type"] == "text")]
    return hashlib.sha256(json.dumps([texts, schema], sort_keys=True).encode()).hexdigest()


def _question(request: CaptionRequest, shown: list[int], hears: bool) -> str:
    times = ", ".join(f"{float(index / request.clip.fps):.2f} s" for index in shown)
    seen = f"{len(shown)} pictures follow, taken at {times}." if shown else "It has no picture."
    follows = "follows as a recording of the whole clip" if hears else "is not given to you"
    heard = f"Its sound {follows}." if request.presence()["sound"] else "It is silent."
    rows = [
        json.dumps(
            {
                "id": interval.id,
                "kind": interval.kind,
                "track": interval.track,
                "from": seconds_from_us(interval.start_us),
                "to": seconds_from_us(interval.end_us),
                "measured": interval.hint,
            },
            ensure_ascii=False,
        )
        for interval in request.intervals
    ]
    listed = "\n".join(rows) if rows else "(none)"
    length = seconds_from_us(request.duration_us)
    return f"The clip lasts {length:.2f} s. {seen} {heard}\nIntervals:\n{listed}"
