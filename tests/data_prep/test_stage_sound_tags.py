from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sound_examples
import torch
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.stages.mel import mono
from avgen_data_prep.stages.sound_features import features
from avgen_data_prep.stages.sound_tags import SoundTags, label_groups, scores
from scipy.signal import chirp
from stage_clips import measured, silent, sounding, world
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

RATE = sound_examples.RATE
LABELS = {0: "Speech", 1: "Music", 2: "Dog", 3: "Silence"}


def tagged(wave: np.ndarray) -> str:
    """Name of the largest score."""
    found = scores(features(wave))
    return max(found, key=found.__getitem__).removesuffix("_score")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (sound_examples.speech, "speech"),
        (sound_examples.music, "music"),
        (sound_examples.wind, "effects"),
        (sound_examples.knocks, "effects"),
    ],
)
def test_synthetic_sounds_are_told_apart(make: Callable[[int], np.ndarray], kind: str) -> None:
    assert [tagged(make(seed)) for seed in range(100, 108)].count(kind) >= 7


@pytest.mark.parametrize(
    ("name", "kind"),
    [("talker", "speech"), ("drums", "effects"), ("bounce", "effects"), ("engine", "effects")],
)
def test_worlds_are_told_apart(name: str, kind: str) -> None:
    clips = [world(name, seed, duration=3, size=32) for seed in range(100, 106)]
    waves = [mono(clip.waveform, clip.sample_rate) for clip in clips if clip.waveform is not None]
    assert [tagged(wave) for wave in waves].count(kind) >= 5


def test_level_does_not_matter() -> None:
    wave = sound_examples.speech(3)
    loud, quiet = scores(features(wave)), scores(features(0.1 * wave))
    assert quiet == pytest.approx(loud, abs=0.1)


def test_speech_in_noise_is_neither_clear_nor_absent() -> None:
    hiss = np.random.default_rng(0).normal(0, 0.004, 3 * RATE)
    noisy = (0.3 * sound_examples.speech(1) + hiss).astype(np.float32)
    assert 0.2 < scores(features(noisy))["speech_score"] < 0.6


def test_features_measure_what_they_say() -> None:
    at = np.arange(2 * RATE) / RATE
    buzz = np.sum([np.sin(2 * np.pi * 200 * k * at) / k for k in range(1, 20)], axis=0)
    steady = features((0.2 * buzz).astype(np.float32))
    gliding = features((0.3 * chirp(at, 100, 2, 400, method="logarithmic")).astype(np.float32))
    swelling = np.sin(2 * np.pi * 300 * at) * (1 + 0.9 * np.sin(2 * np.pi * 4 * at))
    pulsing = features((0.3 * swelling).astype(np.float32))
    assert steady is not None
    assert gliding is not None
    assert pulsing is not None
    assert (steady.active, steady.voiced) == (1, 1)
    assert steady.glide < 0.1
    assert gliding.glide == pytest.approx(2400 / 200, rel=0.05)
    assert steady.lines > 0.9
    assert gliding.lines < 0.3
    assert pulsing.syllables > 0.8
    assert features(np.zeros(RATE, np.float32)) is None


@pytest.mark.parametrize("length", [1, 160, 700, 3000, 9000])
def test_short_sounds_have_scores(length: int, tmp_path: Path) -> None:
    wave = sound_examples.speech(0)[4000 : 4000 + length]
    found = measured(SoundTags(), sounding(np.pad(wave, (0, 9)), RATE), tmp_path)
    assert all(0 <= found[name] <= 1 for name in SoundTags.writes.names[:-1])


def test_silence_is_surely_nothing(tmp_path: Path) -> None:
    assert measured(SoundTags(), sounding(np.zeros(RATE), RATE), tmp_path / "still") == {
        "speech_score": 0,
        "music_score": 0,
        "effects_score": 0,
        "sound_confidence": 1,
        "sound_tagger": "features",
    }
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    assert measured(SoundTags(), silent(frames), tmp_path / "silent") == {}


def test_labels_are_grouped() -> None:
    labels = {0: "Male speech, man speaking", 1: "Singing", 2: "Piano", 3: "Silence", 4: "Dog"}
    assert label_groups(labels) == {"speech": [0, 1], "music": [1, 2], "effects": [4]}


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny spectrogram transformer whose logits lie around 2, -1 and 0.5 (and 4 for silence)."""
    folder = tmp_path_factory.mktemp("tagger")
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_mel_bins=16, max_length=64, id2label=LABELS, label2id={v: k for k, v in LABELS.items()},
    )  # fmt: skip
    torch.manual_seed(0)
    model = ASTForAudioClassification(config)
    with torch.no_grad():
        model.get_parameter("classifier.dense.bias").copy_(torch.tensor([2.0, -1.0, 0.5, 4.0]))
    model.save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=16, max_length=64).save_pretrained(folder)
    return folder


def test_a_classifier_can_decide(tagger: Path, tmp_path: Path) -> None:
    stage = SoundTags(model=str(tagger))
    found = [
        measured(stage, sounding(make(1), RATE), tmp_path / make.__name__)
        for make in (sound_examples.speech, sound_examples.wind)
    ]
    wanted = {"speech_score": 2.0, "music_score": -1.0, "effects_score": 0.5}
    for row in found:
        assert row["sound_tagger"] == f"model:{tagger.name}"
        for name, logit in wanted.items():
            assert row[name] == pytest.approx(1 / (1 + np.exp(-logit)), abs=0.1)
    assert found[0] != found[1]


def test_the_key_follows_the_weights_and_not_the_place(tagger: Path, tmp_path: Path) -> None:
    copy = tmp_path / tagger.name
    copy.mkdir()
    for path in tagger.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert SoundTags(model=str(copy)).key() == SoundTags(model=str(tagger)).key()
    other = tmp_path / "other" / tagger.name
    other.mkdir(parents=True)
    for path in tagger.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    assert SoundTags(model=str(other)).key() != SoundTags(model=str(tagger)).key()
    assert SoundTags().key() != SoundTags(model=str(tagger)).key()


def test_folders_without_a_classifier_are_refused(tagger: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"holds no config\.json; give the folder that"):
        SoundTags(model=str(tmp_path)).key()
    (tmp_path / "config.json").write_text('{"model_type": "audio-spectrogram-transformer"}')
    stage = SoundTags(model=str(tmp_path))
    with pytest.raises(PipelineError, match="no model for AutoModelForAudioClassification in it"):
        measured(stage, sounding(sound_examples.wind(0), RATE), tmp_path / "run")
