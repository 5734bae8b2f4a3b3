"""Tiny random CLAP, CLIP and Whisper models, saved as transformers saves the real ones."""

from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    GenerationConfig,
    RobertaTokenizer,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

BYTES = sorted(ByteLevel.alphabet())
TOWER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "projection_dim": 8,
}
SPECIAL = ("<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
           "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")  # fmt: skip


def save_clap(folder: Path, *, fusion: bool = False) -> Path:
    """A CLAP model that reads bytes, at most 37 tokens."""
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *BYTES]
    tokenizer = RobertaTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[])
    tokenizer.save_pretrained(folder)
    audio = {
        "spec_size": 256, "patch_size": 4, "patch_stride": [4, 4], "window_size": 4, "depths": [1, 1],
        "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "hidden_size": 16,
        "num_hidden_layers": 2, "num_classes": 4, "projection_dim": 8, "enable_fusion": fusion,
    }  # fmt: skip
    text = TOWER | {"vocab_size": len(names), "max_position_embeddings": 39, "pad_token_id": 1}
    torch.manual_seed(0)
    ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=8)).save_pretrained(
        folder
    )
    truncation = "fusion" if fusion else "rand_trunc"
    ClapFeatureExtractor(truncation=truncation).save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    """A CLIP model of 32 x 32 pixels that reads letters, at most 16 tokens."""
    names = ["<|startoftext|>", "<|endoftext|>", *BYTES, *(name + "</w>" for name in BYTES)]
    tokenizer = CLIPTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[])
    tokenizer.save_pretrained(folder)
    text = TOWER | {
        "vocab_size": len(names), "max_position_embeddings": 16, "bos_token_id": 0,
        "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    vision = TOWER | {"image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(
        folder
    )
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


def save_whisper(folder: Path, *, multilingual: bool = True) -> Path:
    """A Whisper model that says up to 20 bytes."""
    vocabulary = {name: i for i, name in enumerate([*BYTES, "<|endoftext|>"])}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_tokens(list(SPECIAL), special_tokens=True)
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in ("<|endoftext|>", *SPECIAL)}
    WhisperProcessor(WhisperFeatureExtractor(feature_size=16), tokenizer).save_pretrained(folder)
    tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), ids["<|endoftext|>"])
    tokens["decoder_start_token_id"] = ids["<|startoftranscript|>"]
    sizes = ("d_model", "encoder_ffn_dim", "decoder_ffn_dim", "num_mel_bins")
    counts = ("encoder_layers", "decoder_layers")
    heads = ("encoder_attention_heads", "decoder_attention_heads")
    shape = dict.fromkeys(sizes, 16) | dict.fromkeys(counts, 1) | dict.fromkeys(heads, 2)
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer), max_target_positions=24, suppress_tokens=None,
            begin_suppress_tokens=None, **shape, **tokens,
        )
    )  # fmt: skip
    languages = {
        "is_multilingual": True,
        "lang_to_id": {"<|en|>": ids["<|en|>"]},
        "task_to_id": {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
    }
    model.generation_config = GenerationConfig(
        max_length=20,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        **(languages if multilingual else {"is_multilingual": False}),
        **tokens,
    )
    model.save_pretrained(folder)
    return folder
