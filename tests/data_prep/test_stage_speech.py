import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.stages.speech import Speech, words_of
from sound_examples import RATE, speech
from stage_clips import measured, silent, sounding
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

SPECIAL = (
    "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip


def save_whisper(folder: Path, *, multilingual: bool = True) -> Path:
    """A tiny random Whisper model that says bytes, of which many are spaces."""
    vocabulary = {
        name: i for i, name in enumerate([*sorted(ByteLevel.alphabet()), "<|endoftext|>"])
    }
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_tokens(list(SPECIAL), special_tokens=True)
    ids: dict[str, Any] = {
        name: tokenizer.convert_tokens_to_ids(name) for name in ("<|endoftext|>", *SPECIAL)
    }
    WhisperProcessor(WhisperFeatureExtractor(feature_size=16), tokenizer).save_pretrained(folder)
    ends = ("pad_token_id", "bos_token_id", "eos_token_id")
    tokens: dict[str, Any] = dict.fromkeys(ends, ids["<|endoftext|>"])
    tokens["decoder_start_token_id"] = ids["<|startoftranscript|>"]
    sizes = dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim", "num_mel_bins"), 16)
    counts = dict.fromkeys(("encoder_layers", "decoder_layers"), 1)
    heads = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
    torch.manual_seed(4)
    config = WhisperConfig(
        vocab_size=len(tokenizer) + 1501, max_target_positions=40, suppress_tokens=None,
        begin_suppress_tokens=None, **sizes, **counts, **heads, **tokens,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    languages = {
        "lang_to_id": {name: ids[name] for name in ("<|en|>", "<|de|>")},
        "task_to_id": {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
    }
    model.generation_config = GenerationConfig(
        max_length=30,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        alignment_heads=[[0, 0], [0, 1]],
        is_multilingual=multilingual,
        **(languages if multilingual else {}),
        **tokens,
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("whisper"))


def test_words_lie_in_the_clip_in_order(whisper: Path, tmp_path: Path) -> None:
    stage, clip = Speech(model=str(whisper)), sounding(speech(0), RATE)
    found = measured(stage, clip, tmp_path, speech_score=0.9)
    assert found["language"] in ("en", "de")
    words = found["words"]
    assert words
    starts = [word["start_us"] for word in words]
    assert starts == sorted(starts)
    for word in words:
        assert 0 <= word["start_us"] <= word["end_us"] - 20_000
        assert word["end_us"] <= 3_000_000 + 25_000  # a frame of AAC more
        assert word["text"] == word["text"].strip() != ""
    assert found == measured(stage, clip, tmp_path / "again", speech_score=0.9)
    pa.Table.from_pylist([found], schema=Speech.writes)


def test_a_language_can_be_given(whisper: Path, tmp_path: Path) -> None:
    clip = sounding(speech(0), RATE)
    for language in ("de", "en"):
        stage = Speech(model=str(whisper), language=language)
        found = measured(stage, clip, tmp_path / language, speech_score=0.9)
        assert found["language"] == language


def test_a_model_of_one_language_names_none(tmp_path: Path) -> None:
    folder = save_whisper(tmp_path / "english", multilingual=False)
    found = measured(
        Speech(model=str(folder)), sounding(speech(0), RATE), tmp_path, speech_score=0.9
    )
    assert found["language"] is None
    assert found["words"] is not None


def test_nobody_listens_where_there_is_no_speech(whisper: Path, tmp_path: Path) -> None:
    stage, clip = Speech(model=str(whisper)), sounding(speech(0), RATE)
    assert measured(stage, clip, tmp_path / "quiet", speech_score=0.2) == {}
    assert measured(stage, clip, tmp_path / "null", speech_score=None) == {}
    assert measured(Speech(), clip, tmp_path / "none", speech_score=0.9) == {}
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    assert measured(stage, silent(frames), tmp_path / "silent", speech_score=0.9) == {}


def test_strange_times_are_put_in_order() -> None:
    chunks = [
        {"text": " Now", "timestamp": (0.5, 0.5)},
        {"text": " ", "timestamp": (0.6, 0.7)},
        {"text": " then,", "timestamp": (0.4, 0.9)},
        {"text": " there", "timestamp": (None, None)},
        {"text": "!", "timestamp": (29.98, 29.98)},
    ]
    found = words_of(chunks, 1_000_000)
    assert [tuple(word.values()) for word in found] == [
        (500_000, 520_000, "Now"),
        (600_000, 900_000, "then,"),
        (600_000, 1_000_000, "there"),
        (980_000, 1_000_000, "!"),
    ]
    assert words_of([], 5) == []


def test_models_that_give_no_times_are_refused(whisper: Path, tmp_path: Path) -> None:
    folder = save_whisper(tmp_path / "other")
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text())
    del settings["alignment_heads"]
    path.write_text(json.dumps(settings))
    clip = sounding(speech(0), RATE)
    with pytest.raises(
        PipelineError, match="names no alignment_heads, without which words have no"
    ):
        measured(Speech(model=str(folder)), clip, tmp_path, speech_score=1.0)
    with pytest.raises(PipelineError, match=r"holds no config\.json"):
        Speech(model=str(tmp_path)).key()
    with pytest.raises(ValueError, match="min_speech is 2; give 0 to 1"):
        Speech(min_speech=2)


def test_keys_follow_model_and_parameters(whisper: Path) -> None:
    stages = [
        Speech(), Speech(model=str(whisper)), Speech(model=str(whisper), language="de"),
        Speech(model=str(whisper), min_speech=0.5),
    ]  # fmt: skip
    assert len({stage.key() for stage in stages}) == 4
    assert Speech(model=str(whisper), device="cuda").key() == stages[1].key()
