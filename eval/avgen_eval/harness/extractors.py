"""What is measured on the pixels and samples of a clip, before anything is scored."""

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from avgen_eval.harness.cache import Extract
from avgen_eval.harness.decode import Decoded
from avgen_eval.motion import Motion, measure_motion, picture_impacts
from avgen_eval.onsets import Curve, find_onsets

Need = Literal["video", "audio", "reference_video", "reference_audio"]


@dataclass(frozen=True, kw_only=True)
class Extractor(ABC):
    """Measures one clip; a dataclass whose fields are its settings.

    Its signature names everything that the result depends on besides the clip: the name, the version (raised with
    every change of the code that changes results), and the settings.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    needs: ClassVar[frozenset[Need]]

    @property
    def signature(self) -> str:
        """Name, version, and a hash of the settings if there are any."""
        settings = asdict(self)
        text = json.dumps(settings, sort_keys=True, default=str)
        suffix = "-" + hashlib.sha256(text.encode()).hexdigest()[:8] if settings else ""
        return f"{self.name}-v{self.version}{suffix}"

    def applies(self, decoded: Decoded) -> bool:
        """Whether the clip has what is needed."""
        return self.needs <= _streams(decoded)

    @abstractmethod
    def run(self, decoded: Decoded) -> Extract:
        """Measure a clip that has what is needed."""


@dataclass(frozen=True, kw_only=True)
class Integrity(Extractor):
    """What the clip is, and what is wrong with it."""

    name: ClassVar[str] = "integrity"
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset()

    def run(self, decoded: Decoded) -> Extract:
        """Findings, size, rates, durations, and the caption as it was asked for."""
        values: dict[str, Any] = {"findings": [asdict(finding) for finding in decoded.findings]}
        if (clip := decoded.clip) is not None:
            values |= {
                "duration": clip.duration,
                "fps": float(clip.fps),
                "num_frames": clip.num_frames,
                "size": None if clip.frames is None else list(clip.frames.shape[1:3]),
                "sample_rate": None if clip.waveform is None else clip.sample_rate,
                "channels": None if clip.waveform is None else clip.waveform.shape[0],
                "caption": decoded.caption and decoded.caption.to_dict(),
            }
        return Extract(values=values)


@dataclass(frozen=True, kw_only=True)
class SoundEvents(Extractor):
    """Onsets of the sound."""

    name: ClassVar[str] = "sound_events"
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset({"audio"})

    def run(self, decoded: Decoded) -> Extract:
        """``times`` in seconds and ``strengths`` in decibels."""
        assert decoded.clip is not None
        assert decoded.clip.waveform is not None
        times, strengths = find_onsets(decoded.clip.waveform, decoded.clip.sample_rate)
        return Extract(arrays={"times": np.array(times), "strengths": np.array(strengths)})


@dataclass(frozen=True, kw_only=True)
class PictureEvents(Extractor):
    """Motion of the picture and its impacts."""

    name: ClassVar[str] = "picture_events"
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset({"video"})

    def run(self, decoded: Decoded) -> Extract:
        """``times`` in seconds; ``speed`` and ``strength``, whose clock is in the values."""
        assert decoded.clip is not None
        assert decoded.clip.frames is not None
        motion = measure_motion(decoded.clip.frames, decoded.clip.fps)
        return Extract(
            arrays={
                "times": np.array(picture_impacts(motion)),
                "speed": motion.speed.values,
                "strength": motion.strength.values,
            },
            values={"step": motion.strength.step},
        )


def stored_motion(extract: Extract) -> Motion:
    """The curves that `PictureEvents` stored."""
    step = float(extract.values["step"])
    arrays = extract.arrays
    return Motion(Curve(arrays["speed"], step, step / 2), Curve(arrays["strength"], step))


def _streams(decoded: Decoded) -> frozenset[str]:
    found = set()
    for prefix, clip in (("", decoded.clip), ("reference_", decoded.reference)):
        if clip is not None and clip.frames is not None:
            found.add(f"{prefix}video")
        if clip is not None and clip.waveform is not None:
            found.add(f"{prefix}audio")
    return frozenset(found)
