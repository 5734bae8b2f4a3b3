"""Speech, music or something else: from features of the sound, or by a classifier from a local folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from avgen.clip import Clip
from avgen.media import resample
from avgen_data_prep import pretrained
from avgen_data_prep.pipeline.stage import Measure, Row
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.stages.mel import mono
from avgen_data_prep.stages.sound_features import SoundFeatures, features

_SURE_SECONDS = 1.5
_SPEECH = (
    "speech", "conversation", "narration, monologue", "babbling", "whispering", "shout", "singing",
    "child speech, kid speaking", "male speech, man speaking", "female speech, woman speaking",
)  # fmt: skip
_MUSIC = (
    "music", "musical instrument", "singing", "choir", "song", "guitar", "piano", "drum kit",
    "orchestra", "synthesizer", "background music", "theme music", "violin, fiddle", "organ",
)  # fmt: skip
_NEITHER = ("silence",)


@dataclass(frozen=True, kw_only=True)
class SoundTags(Measure):
    """Scores for speech, music and other sounds. All columns are null where a clip has no sound.

    By default rules over the features of `sound_features` decide. A score is the weakest of its
    signs, so that it is high only where all agree: speech is voiced, glides in pitch, swells at the
    rate of syllables, pauses, and does not start abruptly; music has lasting spectral lines that
    change, a held pitch and few pauses. The largest score is the right one on clips of 3 s, 40
    of each kind, whose seeds played no part in the rules: 40 of synthetic speech and of the talker
    world; 34 of synthetic melodies with chords (the others were effects); 40 of wind, of drums and
    of the engine world, 39 of knocks and 32 of the bounce world (the others were music) as effects.
    Recordings are harder. With hiss 25 dB below it, speech scores 0.4: what is neither clear nor
    absent lies between 0.2 and 0.6. Fails on: singing, speech in noise or over music, drum music and
    slow pads (effects), animals that glide like voices.

    With `model`, the sigmoid or softmax of a classifier's logits decides (see `label_groups`).

    Columns:
        speech_score: 0 (none) to 1 (speech).
        music_score: 0 to 1.
        effects_score: 0 to 1. By the rules, ``(1 - speech) (1 - music)``: what is neither; so
            effects under speech or music are not heard. 0 in silence.
        sound_confidence: 0 to 1, how far the largest score stands above the next, less for clips
            below 1.5 s; 1 in silence, where all scores are 0.
        sound_tagger: ``features``, or ``model:`` and the name of the folder.

    Attributes:
        model: Folder of a classifier that transformers reads (``AutoModelForAudioClassification``
            with its feature extractor), such as an Audio Spectrogram Transformer; None for rules.
        device: Where it runs.
    """

    name: ClassVar[str] = "sound_tags"
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            ("speech_score", pa.float64()),
            ("music_score", pa.float64()),
            ("effects_score", pa.float64()),
            ("sound_confidence", pa.float64()),
            ("sound_tagger", pa.string()),
        ]
    )
    model: str | None = None
    device: str = "cpu"

    @property
    def revision(self) -> str:
        """SHA-256 of the classifier's files."""
        return "" if self.model is None else pretrained.revision(self.model)

    def parameters(self) -> dict[str, Any]:
        """See `Stage.parameters`; the classifier is told by its contents."""
        return {"model": None if self.model is None else Path(self.model).name}

    def measure(self, row: Row, work: Work) -> Row:
        """See the columns of the class."""
        clip = work.clip(row)
        if clip.waveform is None:
            return {}
        if self.model is None:
            wave = mono(clip.waveform, clip.sample_rate)
            found, name = scores(features(wave)), "features"
        else:
            found, name = self._heard(clip), f"model:{Path(self.model).name}"
        first, second = sorted(found.values(), reverse=True)[:2]
        seconds = clip.waveform.shape[1] / clip.sample_rate
        sure = (first - second) * min(1.0, seconds / _SURE_SECONDS) if first > 0 else 1.0
        values = {**found, "sound_confidence": sure}
        return {key: round(value, 4) for key, value in values.items()} | {"sound_tagger": name}

    def _heard(self, clip: Clip) -> dict[str, float]:
        """Scores of the classifier; of a group, that of its likeliest label."""
        import torch

        assert self.model is not None
        assert clip.waveform is not None
        network, extractor = pretrained.load(
            self.model, "AutoModelForAudioClassification", "AutoFeatureExtractor", self.device
        )
        wave = clip.waveform.mean(axis=0, keepdims=True)
        heard = resample(wave, clip.sample_rate, extractor.sampling_rate)[0]
        inputs = extractor(heard, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        with torch.inference_mode():
            logits = network(**inputs.to(self.device)).logits[0].float()
        one = network.config.problem_type == "single_label_classification"
        likely = (logits.softmax(dim=-1) if one else logits.sigmoid()).cpu().tolist()
        groups = label_groups(network.config.id2label)
        return {
            f"{group}_score": max((likely[i] for i in indices), default=0.0)
            for group, indices in groups.items()
        }


def label_groups(labels: Mapping[int, str]) -> dict[str, list[int]]:
    """Indices of a classifier's labels for ``speech``, ``music`` and ``effects``.

    Names are those of AudioSet, in any case: ``_SPEECH`` and ``_MUSIC`` name the labels of the first
    two (singing is in both); all others but silence are effects.
    """
    groups: dict[str, list[int]] = {"speech": [], "music": [], "effects": []}
    for index, label in labels.items():
        name = label.strip().lower().replace("_", " ")
        inside = [g for g, names in (("speech", _SPEECH), ("music", _MUSIC)) if name in names]
        for group in inside or (["effects"] if name not in _NEITHER else []):
            groups[group].append(int(index))
    return groups


def scores(found: SoundFeatures | None) -> dict[str, float]:
    """Scores by rules, of features; zeros for None, which is silence."""
    if found is None:
        return dict.fromkeys(("speech_score", "music_score", "effects_score"), 0.0)
    speech = min(
        _ramp(found.voiced, 0.05, 0.35),
        _ramp(found.glide, 0.8, 2.4),
        1 - _ramp(found.glide, 30, 60),
        _ramp(found.syllables, 0.03, 0.1),
        1 - _ramp(found.abrupt, 0.55, 0.95),
        1 - _ramp(found.lines, 0.7, 0.85),
        1 - 0.6 * _ramp(found.active, 0.9, 1.0),
    )
    music = min(
        _ramp(found.lines, 0.15, 0.4),
        # Of chords no single pitch can be told; their lines tell.
        max(1 - _ramp(found.glide, 2, 6), _ramp(found.lines, 0.65, 0.8)),
        _ramp(found.notes, 0.03, 0.12),
        _ramp(found.syllables, 0.03, 0.12),
        _ramp(found.active, 0.65, 0.95),
    )
    return {
        "speech_score": speech,
        "music_score": music,
        "effects_score": (1 - speech) * (1 - music),
    }


def _ramp(value: float, low: float, high: float) -> float:
    """0 up to ``low``, 1 from ``high``, straight between."""
    return float(np.clip((value - low) / (high - low), 0, 1))
