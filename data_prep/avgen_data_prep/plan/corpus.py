"""What a corpus is to a plan: footage and clips, described in a file or measured in the folder of a run.

The description (YAML)::

    hours: 1000                  # of footage
    sources:
      {minutes: 10, mbps: 4.5, height: 720, width: 1280, fps: 24}
    clips:
      {seconds: {4: 0.25, 8: 0.75}, mbps: 4.5, height: 720, width: 1280, fps: 24,
       kept: 0.8, sound: true, captions: 3}

Of a source: mean length, rate of the file in Mbit/s, pixels, frames per second. Of the clips: one length,
or lengths with the share of clips that have them; rate of their files; ``kept``, the share of the footage
that ends in clips (1 unless given); whether they have sound (yes unless given); captions of each (1).
"""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_HOUR = 3600.0
_PICTURE = ("height", "width", "fps")
_SOURCES = {"minutes", "mbps", *_PICTURE}
_CLIPS = {"seconds", "mbps", *_PICTURE}
_OPTIONAL = {"kept": 1.0, "sound": True, "captions": 1.0}


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Clips of one shape.

    Attributes:
        count: How many; a fraction where a corpus is scaled.
        seconds: Length of each.
        num_frames: Pictures of each; 0 without.
        height: Pixels.
        width: Pixels.
        sound: Whether they have any.
    """

    count: float
    seconds: float
    num_frames: int
    height: int
    width: int
    sound: bool


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Footage, and the clips that come of it.

    Attributes:
        hours: Of footage in the sources that gave clips.
        num_sources: Files, those without clips too.
        source_bytes: Of all of them.
        source_pixel_rate: Pixels per second of the footage, on average.
        clips: By shape.
        clip_bytes: Of the clips' files.
        captions_per_clip: On average.
        sources_from: What the figures of sources rest on.
        clips_from: What those of clips rest on.
        clip_bytes_from: What the size of their files rests on.
    """

    hours: float
    num_sources: float
    source_bytes: float
    source_pixel_rate: float
    clips: tuple[Clips, ...]
    clip_bytes: float
    captions_per_clip: float
    sources_from: str
    clips_from: str
    clip_bytes_from: str

    @property
    def num_clips(self) -> float:
        """Clips of all shapes."""
        return sum(clips.count for clips in self.clips)

    @property
    def clip_hours(self) -> float:
        """Length of all clips."""
        return sum(clips.count * clips.seconds for clips in self.clips) / _HOUR

    @property
    def clip_pixel_rate(self) -> float:
        """Pixels per second of the clips, on average over their length."""
        pixels = sum(c.count * c.num_frames * c.height * c.width for c in self.clips)
        return pixels / (self.clip_hours * _HOUR)

    def scaled(self, hours: float) -> "Corpus":
        """As much footage of the same kind as ``hours`` tells.

        Raises:
            ValueError: The hours are not above 0.
        """
        if not 0 < hours < float("inf"):
            raise ValueError(f"{hours:g} hours of footage cannot be planned; give more than 0")
        by = hours / self.hours
        note = f", taken {by:.4g} times for {hours:g} h"
        return dataclasses.replace(
            self,
            hours=hours,
            num_sources=self.num_sources * by,
            source_bytes=self.source_bytes * by,
            clips=tuple(dataclasses.replace(c, count=c.count * by) for c in self.clips),
            clip_bytes=self.clip_bytes * by,
            sources_from=self.sources_from + note,
            clips_from=self.clips_from + note,
            clip_bytes_from=self.clip_bytes_from + note,
        )


def load_corpus(path: Path) -> Corpus:
    """A corpus from its description.

    Raises:
        ValueError: The file is missing, or is not of the form above.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {error}") from error
    try:
        return _described(_mapping(data, {"hours", "sources", "clips"}, "corpus"), path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _described(data: Mapping[str, Any], path: Path) -> Corpus:
    hours = _positive(data, "hours", "corpus")
    sources = _mapping(data["sources"], _SOURCES, "sources")
    clips = {**_OPTIONAL, **_mapping(data["clips"], _CLIPS, "clips", _OPTIONAL)}
    kept = _positive(clips, "kept", "clips")
    if kept > 1 or type(clips["sound"]) is not bool:
        raise ValueError(
            f"clips: kept is {kept:g} and sound {clips['sound']!r}; give a share from 0 to 1, "
            "and true or false"
        )
    shapes = _shapes(clips, hours * kept * _HOUR)
    of_source = {name: _positive(sources, name, "sources") for name in sorted(_SOURCES)}
    given = f"given in {path.name}"
    return Corpus(
        hours=hours,
        num_sources=hours * 60 / of_source["minutes"],
        source_bytes=_bytes(hours, of_source["mbps"]),
        source_pixel_rate=of_source["height"] * of_source["width"] * of_source["fps"],
        clips=shapes,
        clip_bytes=_bytes(hours * kept, _positive(clips, "mbps", "clips")),
        captions_per_clip=_positive(clips, "captions", "clips"),
        sources_from=given,
        clips_from=given,
        clip_bytes_from=given,
    )


def _shapes(clips: Mapping[str, Any], seconds: float) -> tuple[Clips, ...]:
    """Clips that last ``seconds`` together."""
    lengths = clips["seconds"]
    if not isinstance(lengths, dict):
        lengths = {_positive(clips, "seconds", "clips"): 1.0}
    numbers = [*lengths, *lengths.values()]
    if not all(_is_positive(number) for number in numbers) or not lengths:
        raise ValueError(f"clips: seconds is {lengths!r}; give a length, or lengths and shares")
    if abs(sum(lengths.values()) - 1) > 1e-6:
        total = sum(lengths.values())
        raise ValueError(f"clips: shares of the lengths add up to {total:g}; make it 1")
    height, width, fps = (_positive(clips, name, "clips") for name in _PICTURE)
    count = seconds / sum(length * share for length, share in lengths.items())
    return tuple(
        Clips(
            count=count * share,
            seconds=float(length),
            num_frames=round(length * fps),
            height=int(height),
            width=int(width),
            sound=clips["sound"],
        )
        for length, share in lengths.items()
    )


def _bytes(hours: float, mbps: float) -> float:
    return hours * _HOUR * mbps * 1e6 / 8


def _mapping(
    data: Any,
    needed: set[str],
    place: str,
    allowed: Collection[str] = (),
) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{place}: give a mapping with {', '.join(sorted(needed))}")
    missing, unknown = needed - set(data), set(map(str, data)) - needed - set(allowed)
    if missing or unknown:
        problem = f"lacks {sorted(missing)}" if missing else f"has unknown {sorted(unknown)}"
        known = ", ".join([*sorted(needed), *sorted(allowed)])
        raise ValueError(f"{place} {problem}; the keys are {known}")
    return data


def _positive(data: Mapping[str, Any], name: str, place: str) -> float:
    if not _is_positive(data[name]):
        raise ValueError(f"{place}: {name} is {data[name]!r}; give a number above 0")
    return float(data[name])


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < float("inf")
