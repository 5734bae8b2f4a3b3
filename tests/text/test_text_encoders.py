import pytest
import torch

from avgen.caption import Event, TimedCaption
from avgen.text.base import segments
from avgen.text.byte_encoder import ByteTextEncoder, pieces
from avgen.text.hf import HuggingFaceTextEncoder


def caption(text: str, *events: Event) -> TimedCaption:
    return TimedCaption(duration_us=2_000_000, text=text, events=events)


HIT = Event.at(0.4, 0.5, "the red ball hits the floor", "visual")
THUD = Event.at(0.4, 0.6, "the red ball hits the floor", "sfx")


@pytest.fixture(scope="module")
def encoder() -> ByteTextEncoder:
    torch.manual_seed(0)
    return ByteTextEncoder(48, num_heads=3).eval()


def test_segments_carry_their_interval_and_track():
    whole, event = segments(caption("a ball", HIT))
    assert whole == ("a ball", 0.0, 2.0, 0)
    assert event == ("the red ball hits the floor", 0.4, 0.5, 1)


@torch.inference_mode()
def test_tokens_know_their_seconds(encoder):
    tokens = encoder([caption("a ball", HIT)])
    assert tokens.interval[0, 0].tolist() == [0.0, 2.0]
    assert tokens.interval[0, 2].tolist() == pytest.approx([0.4, 0.5])
    assert tokens.mask.sum().item() == 2 + 6  # words


@torch.inference_mode()
def test_a_caption_does_not_depend_on_its_neighbours(encoder):
    alone = encoder([caption("a ball", HIT)])
    together = encoder(
        [
            caption("a much longer description of a scene with many things in it"),
            caption("a ball", HIT),
        ]
    )
    count = int(alone.mask.sum())
    assert torch.allclose(together.states[1, :count], alone.states[0], atol=1e-5)
    assert not together.states[1, count:].any()


@torch.inference_mode()
def test_tracks_tell_the_same_text_apart(encoder):
    seen, heard = encoder([caption("a", HIT)]), encoder([caption("a", THUD)])
    assert not torch.allclose(seen.states[0, 1:], heard.states[0, 1:], atol=1e-3)


@torch.inference_mode()
def test_untimed_stretches_intervals_and_keeps_the_text(encoder):
    tokens = encoder([caption("a", HIT), caption("b", THUD)])
    flat = tokens.untimed(2.0, torch.tensor([True, False]))
    assert flat.interval[0, 1].tolist() == [0.0, 2.0]
    assert torch.equal(flat.interval[1], tokens.interval[1])
    assert torch.equal(flat.states, tokens.states)


@torch.inference_mode()
def test_empty_text_is_one_token(encoder):
    assert encoder([caption("")]).mask.sum().item() == 1


def test_text_that_is_too_long_is_refused_not_cut():
    encoder = ByteTextEncoder(48, num_heads=3, max_bytes=20)
    with pytest.raises(ValueError, match="longer than the 20"):
        encoder([caption("this text has more than twenty bytes")])


@pytest.fixture(scope="module")
def tiny_t5(tmp_path_factory) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    folder = tmp_path_factory.mktemp("t5")
    vocabulary = {
        word: i
        for i, word in enumerate(["<pad>", "<unk>", "a", "red", "ball", "hits", "the", "floor"])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)
    return str(folder)


@torch.inference_mode()
def test_hugging_face_encoder_from_a_local_folder(tiny_t5):
    encoder = HuggingFaceTextEncoder(tiny_t5, 24)
    alone, together = (
        encoder([caption("a red ball", HIT)]),
        encoder([caption("a"), caption("a red ball", HIT)]),
    )
    assert alone.states.shape == (1, 3 + 6, 24)
    assert torch.allclose(together.states[1], alone.states[0], atol=1e-5)


def test_hugging_face_encoder_stays_frozen(tiny_t5):
    encoder = HuggingFaceTextEncoder(tiny_t5, 24, max_length=4).train()
    assert not encoder.encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.encoder.parameters())
    with pytest.raises(ValueError, match="max_length=4"):
        encoder([caption("a red ball hits the floor")])


def test_text_is_cut_into_words_numbers_and_signs():
    assert pieces("Ball at 60,30: über_gut!") == [
        b"Ball", b"at", b"60", b",", b"30", b":", "über".encode(), b"_", b"gut", b"!",
    ]  # fmt: skip
    assert pieces("") == [b""]
    assert [len(piece) for piece in pieces("x" * 40)] == [16, 16, 8]


@torch.inference_mode()
def test_words_never_seen_are_told_apart_by_their_letters():
    encoder = ByteTextEncoder(48, num_heads=3, num_hashes=1).eval()
    first, second = (encoder([caption(word)]).states for word in ("zorblax", "zorblay"))
    assert not torch.allclose(first, second, atol=1e-3)
