import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avgen_data_prep import pretrained
from avgen_data_prep.captioning import wording
from avgen_data_prep.captioning.captioner import CaptionerUnavailableError, CaptionRequest
from avgen_data_prep.captioning.local import LocalCaptioner
from avgen_data_prep.captioning.template import event_text
from caption_clips import knocking, make_request
from PIL import Image
from tiny_models import save_llava, save_qwen_audio


@pytest.fixture(scope="module")
def sees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("models") / "sees")


@pytest.fixture(scope="module")
def hears(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen_audio(tmp_path_factory.mktemp("models") / "hears")


def texts(request: CaptionRequest, folder: Path) -> dict[str, str]:
    captioner = LocalCaptioner(folder=str(folder), max_new_tokens=16, num_frames=1)
    draft = captioner.describe(request)
    return {event.interval: event.text for event in draft.events}


def test_model_that_sees_says_what_transformers_says(sees: Path) -> None:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    request = make_request()
    told = texts(request, sees)
    assert set(told) == {i.id for i in request.intervals}
    shot = next(i for i in request.intervals if i.kind == "shot")
    question = f"Say in one short phrase what happens in these pictures. Measured: {shot.hint}."
    picture = Image.fromarray(request.clip.frames[25])  # type: ignore[index]
    processor: Any = LlavaProcessor.from_pretrained(sees)
    inputs = processor(
        images=[picture], text=f"USER: <image>{question} ASSISTANT:", return_tensors="pt"
    )
    model: Any = LlavaForConditionalGeneration.from_pretrained(sees).eval()
    with torch.inference_mode():
        tokens = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    answer = processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert told[shot.id] == (wording.clean(answer) or event_text(shot))
    assert wording.clean(answer)
    for onset in (i for i in request.intervals if i.kind == "onset"):
        assert told[onset.id] == event_text(onset)


def test_model_that_hears_is_given_the_sound_of_the_interval(hears: Path) -> None:
    from transformers import Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor

    from avgen.media.resample import resample

    request = make_request()
    told = texts(request, hears)
    onset = next(i for i in request.intervals if i.kind == "onset")
    shot = next(i for i in request.intervals if i.kind == "shot")
    assert told[shot.id] == shot.hint
    question = f"Say in one short phrase what is heard in this recording. Measured: {onset.hint}."
    first, last = (us * 48_000 // 1_000_000 for us in (onset.start_us, onset.end_us))
    cut = request.clip.waveform[:, first:last]  # type: ignore[index]
    sound = np.zeros(16_000, np.float32)
    heard = resample(cut, 48_000, 16_000)[0]
    sound[: len(heard)] = heard
    processor: Any = Qwen2AudioProcessor.from_pretrained(hears)
    text = f"USER: <|audio_bos|><|AUDIO|><|audio_eos|>{question} ASSISTANT:"
    inputs = processor(text=text, audio=[sound], sampling_rate=16_000, return_tensors="pt")
    model: Any = Qwen2AudioForConditionalGeneration.from_pretrained(hears).eval()
    with torch.inference_mode():
        tokens = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    answer = processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert told[onset.id] == (wording.clean(answer) or event_text(onset))
    assert wording.clean(answer)


def test_what_it_cannot_perceive_the_template_says(sees: Path) -> None:
    request = make_request(knocking(picture=False))
    draft = LocalCaptioner(folder=str(sees), max_new_tokens=4).describe(request)
    assert draft.full.startswith("A sound recording.")
    assert {e.text for e in draft.events} == {event_text(i) for i in request.intervals}


def test_revision_is_that_of_the_files_not_of_the_folder(sees: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sees, tmp_path / "copy")
    here, there = LocalCaptioner(folder=str(sees)), LocalCaptioner(folder=str(copy))
    assert (here.revision, here.parameters()) == (there.revision, there.parameters())
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    pretrained.revision.cache_clear()
    assert LocalCaptioner(folder=str(copy)).revision != here.revision


def test_unfit_folders(sees: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config.json; give what save_pretrained wrote"):
        LocalCaptioner(folder=str(tmp_path))
    damaged = shutil.copytree(sees, tmp_path / "damaged")
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(
        CaptionerUnavailableError, match="no model for AutoModelForMultimodalLM in it"
    ):
        LocalCaptioner(folder=str(damaged)).describe(make_request())
    wordless = shutil.copytree(sees, tmp_path / "wordless")
    (wordless / "chat_template.jinja").unlink()
    with pytest.raises(CaptionerUnavailableError, match="its processor has no chat template"):
        LocalCaptioner(folder=str(wordless)).describe(make_request())
