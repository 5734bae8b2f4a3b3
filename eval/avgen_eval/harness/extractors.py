"""What is measured on the pixels and samples of a clip, before anything is scored."""

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from avgen.measure.motion import Motion, measure_motion, picture_impacts
from avgen.measure.onsets import Curve, find_onsets
from avgen_eval.harness.cache import Extract
from avgen_eval.harness.decode import Decoded
from avgen_eval.learned.sync import LearnedSyncMetric, load_network
from avgen_eval.metrics.features import FeatureExtractor, LogMelStatistics, RandomConv3d
from avgen_eval.metrics.physics import PhysicsMetric
from avgen_eval.metrics.reconstruction import ReconstructionMetric
from avgen_eval.metrics.signal import SignalMetric
from avgen_eval.metrics.temporal import TemporalMetric

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
    version: ClassVar[int] = 2
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
    version: ClassVar[int] = 4
    needs: ClassVar[frozenset[Need]] = frozenset({"video"})

    def run(self, decoded: Decoded) -> Extract:
        """``times`` in seconds; ``speed`` and ``strength``, whose clock is in the values."""
        assert decoded.clip is not None
        assert decoded.clip.frames is not None
        motion = measure_motion(decoded.clip.frames, decoded.clip.fps, decoded.flow)
        return Extract(
            arrays={
                "times": np.array(picture_impacts(motion)),
                "speed": motion.speed.values,
                "strength": motion.strength.values,
            },
            values={"step": motion.strength.step},
        )


@dataclass(frozen=True, kw_only=True)
class SignalValues(Extractor):
    """Level, peak, bandwidth, stereo of the sound."""

    name: ClassVar[str] = "signal"
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset({"audio"})

    def run(self, decoded: Decoded) -> Extract:
        """Values of `SignalMetric`."""
        assert decoded.clip is not None
        assert decoded.clip.waveform is not None
        values = SignalMetric().measure(decoded.clip.waveform, decoded.clip.sample_rate)
        return Extract(values=dict(values))


@dataclass(frozen=True, kw_only=True)
class TemporalValues(Extractor):
    """Freezes, duplicates, flicker, cuts, motion of the picture."""

    name: ClassVar[str] = "temporal"
    version: ClassVar[int] = 2
    needs: ClassVar[frozenset[Need]] = frozenset({"video"})

    def run(self, decoded: Decoded) -> Extract:
        """Values of `TemporalMetric`."""
        assert decoded.clip is not None
        assert decoded.clip.frames is not None
        values = TemporalMetric().measure(decoded.clip.frames, decoded.clip.fps, decoded.flow)
        return Extract(values=dict(values))


@dataclass(frozen=True, kw_only=True)
class ReconstructionValues(Extractor):
    """A decoded clip against its original; pictures of another size or rate are not compared."""

    name: ClassVar[str] = "reconstruction"
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset()

    def applies(self, decoded: Decoded) -> bool:
        """Whether a picture or a sound can be compared."""
        return any(self._comparable(decoded))

    def run(self, decoded: Decoded) -> Extract:
        """Values of `ReconstructionMetric`; both are cut to the shorter one."""
        clip, reference = decoded.clip, decoded.reference
        assert clip is not None
        assert reference is not None
        pictures, sounds = self._comparable(decoded)
        pair: dict[str, Any] = {}
        if pictures:
            pair["original_frames"], pair["decoded_frames"] = _same_length(
                reference.frames, clip.frames, axis=0
            )
        if sounds:
            pair["original_waveform"], pair["decoded_waveform"] = _same_length(
                reference.waveform, clip.waveform, axis=1
            )
            pair["sample_rate"] = clip.sample_rate
        return Extract(values=dict(ReconstructionMetric().measure(**pair)))

    def _comparable(self, decoded: Decoded) -> tuple[bool, bool]:
        clip, reference = decoded.clip, decoded.reference
        if clip is None or reference is None:
            return False, False
        a, b = clip.frames, reference.frames
        x, y = clip.waveform, reference.waveform
        pictures = a is not None and b is not None
        sounds = x is not None and y is not None
        return (
            pictures and a.shape[1:] == b.shape[1:] and clip.fps == reference.fps,  # type: ignore[union-attr]
            sounds and len(x) == len(y) and clip.sample_rate == reference.sample_rate,  # type: ignore[arg-type]
        )


@dataclass(frozen=True, kw_only=True)
class PhysicsValues(Extractor):
    """Where and when things move, against a reference."""

    name: ClassVar[str] = "physics"
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset({"video", "reference_video"})

    def applies(self, decoded: Decoded) -> bool:
        """Whether pictures of one size and rate are there."""
        clip, reference = decoded.clip, decoded.reference
        if not super().applies(decoded) or clip is None or reference is None:
            return False
        assert clip.frames is not None
        assert reference.frames is not None
        same = clip.frames.shape[1:] == reference.frames.shape[1:]
        return same and clip.fps == reference.fps

    def run(self, decoded: Decoded) -> Extract:
        """Values of `PhysicsMetric`; both are cut to the shorter one."""
        assert decoded.clip is not None
        assert decoded.reference is not None
        pair = _same_length(decoded.clip.frames, decoded.reference.frames, axis=0)
        return Extract(values=dict(PhysicsMetric().measure(*pair)))


@dataclass(frozen=True, kw_only=True)
class LearnedSyncValues(Extractor):
    """Offset by the project's own network, which is named by the hash of its weights."""

    name: ClassVar[str] = "learned_sync"
    version: ClassVar[int] = 3
    needs: ClassVar[frozenset[Need]] = frozenset({"video", "audio"})

    @property
    def signature(self) -> str:
        """Name, version and the hash of the weights."""
        return f"{self.name}-v{self.version}-{load_network()[1][:12]}"

    def run(self, decoded: Decoded) -> Extract:
        """Values of `LearnedSyncMetric`."""
        assert decoded.clip is not None
        return Extract(values=dict(LearnedSyncMetric().measure(decoded.clip)))


@dataclass(frozen=True, kw_only=True)
class Features(Extractor):
    """Vectors of a clip, or of its reference, for distances between sets."""

    name: ClassVar[str] = "features"
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset()

    kind: Literal["logmel", "rand3d"]
    reference: bool = False

    @property
    def describer(self) -> FeatureExtractor:
        """What makes the vectors."""
        return LogMelStatistics() if self.kind == "logmel" else RandomConv3d()

    @property
    def signature(self) -> str:
        """That of the vectors, hashed, and of which clip they are."""
        text = hashlib.sha256(self.describer.signature.encode()).hexdigest()[:8]
        return f"{self.kind}-v{self.version}-{text}{'-reference' if self.reference else ''}"

    def applies(self, decoded: Decoded) -> bool:
        """Whether the stream that is described is there."""
        stream = "audio" if self.kind == "logmel" else "video"
        return (
            f"reference_{stream}" in _streams(decoded)
            if self.reference
            else stream in _streams(decoded)
        )

    def run(self, decoded: Decoded) -> Extract:
        """``vectors`` (N, D)."""
        clip = decoded.reference if self.reference else decoded.clip
        assert clip is not None
        return Extract(arrays={"vectors": self.describer.extract(clip)})


def stored_motion(extract: Extract) -> Motion:
    """The curves that `PictureEvents` stored."""
    step = float(extract.values["step"])
    arrays = extract.arrays
    return Motion(Curve(arrays["speed"], step, step / 2), Curve(arrays["strength"], step))


def _same_length(
    first: np.ndarray | None, second: np.ndarray | None, axis: int
) -> list[np.ndarray]:
    """Both cut to the shorter along an axis."""
    assert first is not None
    assert second is not None
    size = min(first.shape[axis], second.shape[axis])
    return [np.take(array, range(size), axis=axis) for array in (first, second)]


def _streams(decoded: Decoded) -> frozenset[str]:
    found = set()
    for prefix, clip in (("", decoded.clip), ("reference_", decoded.reference)):
        if clip is not None and clip.frames is not None:
            found.add(f"{prefix}video")
        if clip is not None and clip.waveform is not None:
            found.add(f"{prefix}audio")
    return frozenset(found)
