"""CLAP, CLIP and Whisper from local folders: whole path on tiny random models, and what is refused."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from avgen_eval.weighted.base import Item
from avgen_eval.weighted.clap import Clap, ClapScore
from avgen_eval.weighted.clip import ClipModel, ClipScore
from avgen_eval.weighted.pretrained import load_model
from avgen_eval.weighted.weights import WeightsError
from avgen_eval.weighted.whisper import SpeechErrorRate, plain_words
from safetensors.torch import load_file, save_file
from torchmetrics.text import WordErrorRate
from transformers import (
    AutoTokenizer,
    ClapFeatureExtractor,
    ClapModel,
    CLIPImageProcessorPil,
    CLIPModel,
)
from weighted_folders import save_clap, save_clip, save_whisper
from weighted_models import clip

from avgen.caption import TimedCaption


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    return {
        "clap": save_clap(root / "clap"),
        "clip": save_clip(root / "clip"),
        "whisper": save_whisper(root / "whisper"),
    }


def test_clap_score_is_that_of_transformers(folders):
    made = clip(10, size=(2, 2), fps=1, rate=48_000)
    value = ClapScore.from_files(folders).score(Item(clip=made, text="a dog barks"))
    model = ClapModel.from_pretrained(folders["clap"]).eval()
    tokens = AutoTokenizer.from_pretrained(folders["clap"])("a dog barks", return_tensors="pt")
    sounds = ClapFeatureExtractor.from_pretrained(folders["clap"])(
        made.waveform.mean(0), sampling_rate=48_000, return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(**tokens, **sounds).logits_per_audio / model.logit_scale_a.exp()
    assert value["clap"] == pytest.approx(float(logits), abs=1e-5)
    assert value["truncated"] == 0


@pytest.mark.parametrize("fusion", [False, True])
def test_long_sounds_are_the_mean_of_their_windows_every_time(tmp_path, fusion):
    model = Clap.from_folder(save_clap(tmp_path / "clap", fusion=fusion))
    samples = torch.from_numpy(clip(25, size=(2, 2), fps=1, rate=48_000).waveform[0])
    found = model.embed_sound(samples)
    assert torch.equal(found, model.embed_sound(samples))
    parts = torch.stack([model.embed_sound(part) for part in samples.split(480_000)])
    assert len(parts) == 3
    assert torch.allclose(found, torch.nn.functional.normalize(parts.mean(0), dim=0), atol=1e-6)


def test_texts_that_do_not_fit_are_marked(folders):
    made = clip(1, size=(8, 9), fps=4)
    sound, picture = ClapScore.from_files(folders), ClipScore.from_files(folders)
    assert sound.model.max_tokens == 37
    assert picture.model.max_tokens == 16
    for metric, name in ((sound, "clap"), (picture, "clip")):
        fits = "x" * (metric.model.max_tokens - 2)  # and a token at each end
        values = [metric.score(Item(clip=made, text=fits + more)) for more in ("", "y", "yz")]
        assert [value["truncated"] for value in values] == [0, 1, 1]
        assert values[1][name] == values[2][name]  # the same beginning was read


def test_clip_score_is_that_of_transformers(folders):
    made = clip(2, size=(40, 50), fps=3)
    caption = TimedCaption(duration_us=2_000_000, text="red ball")
    value = ClipScore.from_files(folders).score(Item(clip=made.replace(caption=caption)))
    model = CLIPModel.from_pretrained(folders["clip"]).eval()
    tokens = AutoTokenizer.from_pretrained(folders["clip"])("red ball", return_tensors="pt")
    pixels = CLIPImageProcessorPil.from_pretrained(folders["clip"])(
        list(made.frames), return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(**tokens, **pixels).logits_per_image / model.logit_scale.exp()
    assert logits.shape == (6, 1)
    assert value["clip"] == pytest.approx(float(logits.mean()), abs=1e-5)


def test_clip_takes_at_most_48_frames(folders):
    frames = np.zeros((96, 8, 8, 3), np.uint8)
    frames[1::2] = 255
    metric = ClipScore.from_files(folders)
    every, white = (
        metric.score(Item(clip=clip(1, frames=part), text="a"))["clip"]
        for part in (frames, frames[1::2])
    )
    assert every == pytest.approx(white, abs=1e-6)


def test_what_is_lacking_is_named(folders):
    metric = ClapScore.from_files(folders)
    whole = clip(1, size=(2, 2), fps=2)
    metric.update(Item(clip=whole, text="  "))
    metric.update(Item(clip=whole.replace(waveform=None), text="a"))
    metric.update(Item(clip=whole.replace(waveform=whole.waveform[:, :99]), text="a"))
    assert metric.compute()["clap"].isnan()
    assert list(metric.unmeasured) == [
        "there is no text to compare with",
        "the clip has no sound",
        "the sound is shorter than 0.1 s",
    ]


def test_error_rates_of_what_whisper_says(folders):
    metric = SpeechErrorRate.from_files(folders)
    pooled = WordErrorRate()
    made = [clip(1, size=(2, 2), fps=2, seed=seed) for seed in range(2)]
    samples = torch.from_numpy(made[0].waveform.mean(0))
    heard = plain_words(metric.model.transcribe(samples, "en"))
    assert heard == plain_words(metric.model.transcribe(samples, "en"))
    wanted = ["one two three", "Four, FIVE!"]
    for item, text in zip(made, wanted, strict=True):
        metric.update(Item(clip=item, transcript=text))
        spoken = plain_words(metric.model.transcribe(torch.from_numpy(item.waveform.mean(0))))
        pooled.update(spoken, plain_words(text))
    assert metric.compute()["wer_pooled"] == pytest.approx(float(pooled.compute()))
    assert metric.counts.tolist() == [2, 2, 0]


class Says:
    """Stands in for a model that hears a certain text."""

    sample_rate, longest = 16_000, 30

    def __init__(self, *texts: str) -> None:
        self.texts, self.languages = list(texts), []

    def transcribe(self, samples: torch.Tensor, language: str | None = None) -> str:
        self.languages.append(language)
        return self.texts.pop(0)


def test_error_rates_of_known_texts():
    model = Says("The cat sat, on a mat.", "", "hello hello hello")
    metric = SpeechErrorRate(model)
    made = clip(1, size=(2, 2), fps=2)
    french = made.replace(caption=TimedCaption(duration_us=1_000_000, text="", language="fr"))
    first = metric.score(Item(clip=made, transcript="the cat sat on the mat"))
    assert first["wer"] == pytest.approx(1 / 6)
    assert first["cer"] == pytest.approx(3 / 22)  # "a" for "the": one substitution, two deletions
    assert metric.score(Item(clip=french, transcript="bonjour"))["wer"] == 1
    assert metric.score(Item(clip=made, transcript="(sighs) Hello!"))["wer"] == 2  # not capped
    assert float(metric.errors / metric.words) == pytest.approx((1 + 1 + 2) / (6 + 1 + 1))
    assert model.languages == [None, "fr", None]


def test_speech_needs_a_transcript_and_at_most_30_s(folders):
    metric = SpeechErrorRate.from_files(folders)
    metric.update(Item(clip=clip(1, size=(2, 2), fps=2), transcript="?!"))
    metric.update(Item(clip=clip(31, size=(2, 2), fps=1), transcript="hello"))
    values = metric.compute()
    assert all(value.isnan() for value in values.values())
    metric.update(Item(clip=clip(0.05, size=(2, 2), fps=60), transcript="hello"))
    metric.update(Item(clip=clip(1, size=(2, 2), fps=1)))
    assert list(metric.unmeasured) == [
        "the transcript has no words",
        "the sound lasts 31 s; Whisper takes at most 30 s",
        "the sound is shorter than 0.1 s",
        "there is no transcript",
    ]
    wrong = Item(clip=clip(1, size=(2, 2), fps=1), transcript=7)
    with pytest.raises(ValueError, match="transcript is 7; give the words as text"):
        metric.update(wrong)


def test_an_english_model_is_given_no_language(tmp_path):
    metric = SpeechErrorRate.from_files({"whisper": save_whisper(tmp_path, multilingual=False)})
    made = clip(1, size=(2, 2), fps=2)
    made = made.replace(caption=TimedCaption(duration_us=1_000_000, text="", language="fr"))
    assert metric.score(Item(clip=made, transcript="bonjour"))["wer"] >= 0


@pytest.fixture
def clip_folder(folders, tmp_path) -> Path:
    return Path(shutil.copytree(folders["clip"], tmp_path / "clip"))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        ClipModel.from_folder(folder)


def test_tensors_that_are_missing_or_left_over_are_refused(clip_folder):
    file = clip_folder / "model.safetensors"
    tensors = load_file(file)
    kept = dict(tensors)
    name = "visual_projection.weight"
    save_file({k: v for k, v in kept.items() if k != name}, file, {"format": "pt"})
    refused(clip_folder, f"1 missing .such as {name}")
    save_file(kept | {"extra.weight": torch.zeros(1)}, file, {"format": "pt"})
    refused(clip_folder, "1 left over .such as extra.weight")
    save_file(kept | {name: torch.zeros(3, 3)}, file, {"format": "pt"})
    refused(clip_folder, f"1 of another shape .such as {name}")
    old = "text_model.embeddings.position_ids"  # saved by older versions
    save_file(kept | {old: torch.arange(16)[None]}, file, {"format": "pt"})
    assert ClipModel.from_folder(clip_folder).max_tokens == 16


def test_another_model_or_a_damaged_one_is_refused(clip_folder, folders):
    with pytest.raises(WeightsError, match="holds a clip model; ClapModel is needed"):
        Clap.from_folder(clip_folder)
    file = clip_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    refused(
        clip_folder, r"cannot be loaded as CLIPModel \(SafetensorError: .*fetch the folder again$"
    )
    (clip_folder / "config.json").unlink()
    refused(clip_folder, "no config.json in it")


def test_missing_parts_are_refused(clip_folder):
    (clip_folder / "preprocessor_config.json").unlink()
    refused(clip_folder, "files of CLIPImageProcessorPil are missing or damaged")


class Dangerous:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("it_ran"),))


def test_pickles_are_read_as_tensors_only(clip_folder, monkeypatch):
    monkeypatch.chdir(clip_folder)
    tensors = load_file(clip_folder / "model.safetensors")
    (clip_folder / "model.safetensors").unlink()
    torch.save(tensors, clip_folder / "pytorch_model.bin")
    assert ClipModel.from_folder(clip_folder).max_tokens == 16
    torch.save(tensors | {"x": Dangerous()}, clip_folder / "pytorch_model.bin")
    refused(clip_folder, "cannot be loaded as CLIPModel")
    (clip_folder / "pytorch_model.bin").write_bytes(pickle.dumps(Dangerous()))
    refused(clip_folder, "cannot be loaded as CLIPModel")
    assert not (clip_folder / "it_ran").exists()


def test_code_in_a_folder_is_not_run(clip_folder, monkeypatch):
    monkeypatch.chdir(clip_folder)
    config = json.loads((clip_folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.MyConfig"}}
    (clip_folder / "config.json").write_text(json.dumps(config))
    (clip_folder / "mine.py").write_text("from pathlib import Path; Path('it_ran').touch()")
    with pytest.raises(WeightsError, match="cannot be loaded as CLIPModel"):
        load_model("CLIPModel", clip_folder)
    assert not (clip_folder / "it_ran").exists()
