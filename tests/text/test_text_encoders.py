import pytest
import torch

from avgen.caption import Event, TimedCaption
from avgen.data.text_features import encode_captions
from avgen.model.bundle import Network
from avgen.model.config import preset
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
    assert not encoder.pretrained.training
    assert not any(parameter.requires_grad for parameter in encoder.pretrained.parameters())
    with pytest.raises(ValueError, match="max_length=4"):
        encoder([caption("a red ball hits the floor")])


@torch.inference_mode()
def test_texts_go_through_the_frozen_model_in_batches_of_bounded_size(tiny_t5, monkeypatch):
    encoder = HuggingFaceTextEncoder(tiny_t5, 24)
    shapes: list[tuple[int, int]] = []
    encoder.pretrained.register_forward_pre_hook(
        lambda _, args, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    texts = ["ball " * n for n in (3, 40, 1, 2, 17, 3)] + ["", "the floor"]
    alone = [encoder.encode([text])[0][0] for text in texts]
    together, lengths = encoder.encode(texts)
    shapes.clear()
    monkeypatch.setattr("avgen.text.hf._BATCH_TOKENS", 20)
    states, same = encoder.encode(texts)
    assert lengths == same == [3, 40, 1, 2, 17, 3, 1, 2]
    assert states.shape == together.shape == (8, 40, 16)
    for found in (states, together):
        for row, expected, length in zip(found, alone, lengths, strict=True):
            torch.testing.assert_close(row[:length], expected, atol=1e-5, rtol=1e-5)
            assert not row[length:].any()
    assert sum(rows for rows, _ in shapes) == len(texts)
    assert shapes[0] == (1, 40)  # alone, as it is above the bound
    assert all(rows * width <= 20 for rows, width in shapes[1:])
    assert len(shapes) == 3


@torch.inference_mode()
def test_kept_states_give_the_tokens_that_the_captions_give(tiny_t5):
    encoder = HuggingFaceTextEncoder(tiny_t5, 24)
    captions = [caption("a red ball", HIT), caption("the floor"), caption("a ball", HIT, THUD)]
    kept = encode_captions(encoder.encode, captions)
    expected = encoder(captions)
    for features in (kept, (kept[0], None, kept[2])):
        found = encoder(captions, features)
        assert torch.equal(found.mask, expected.mask)
        assert torch.equal(found.interval, expected.interval)
        torch.testing.assert_close(found.states, expected.states, atol=1e-5, rtol=1e-5)
    with pytest.raises(
        ValueError, match=r"text features of 1 segments for a caption of 2 \('a red"
    ):
        encoder(captions, (kept[1], kept[1], kept[2]))


def test_what_is_saved_is_the_projection_and_the_name_of_the_encoder(tiny_t5, tmp_path):
    text = {"name": "huggingface", "model": tiny_t5}
    network = Network(preset("tiny", video_channels=4, audio_channels=4), text)
    names = [n for n in network.state_dict() if n.startswith("text_encoder.")]
    assert sorted(n.split(".", 1)[1] for n in names) == [
        "projection.bias", "projection.weight", "track_embedding.weight",
    ]  # fmt: skip
    network.save(tmp_path / "joint.safetensors")
    again = Network.from_file(tmp_path / "joint.safetensors")
    assert again.text_encoder.identity == network.text_encoder.identity
    with torch.inference_mode():
        states = [n.text_encoder([caption("a red ball")]).states for n in (network, again)]
    assert torch.equal(*states)
    pretrained = again.text_encoder.pretrained
    with torch.no_grad():
        next(pretrained.parameters()).add_(1)
    pretrained.save_pretrained(tiny_t5)
    with pytest.raises(ValueError, match=r"its weights are \w{12}, but \w{12} are needed"):
        Network.from_file(tmp_path / "joint.safetensors")


def test_the_frozen_encoder_moves_with_the_module(tiny_t5):
    encoder = HuggingFaceTextEncoder(tiny_t5, 24).to(torch.float64)
    assert {p.dtype for p in encoder.pretrained.parameters()} == {torch.float64}
    assert encoder([caption("a red ball")]).states.dtype == torch.float64


def test_an_encoder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"text encoder .*nowhere: cannot be loaded .*give a local"
    ):
        HuggingFaceTextEncoder(str(tmp_path / "nowhere"), 24)


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


def test_written_times_are_part_of_an_events_words():
    encoder = ByteTextEncoder(48, num_heads=3, written_times=True)
    first, moved = caption("a ball", HIT), caption("a ball", HIT.replace(start_us=HIT.start_us + 1))
    assert segments(first, True)[1].text.endswith(f" from {HIT.start:.2f} to {HIT.end:.2f}")
    assert segments(first, True)[0].text == "a ball"
    assert segments(first)[1].text == HIT.text
    plain = ByteTextEncoder(48, num_heads=3)
    assert encoder([first]).mask.sum() == plain([first]).mask.sum() + len(
        pieces(f" from {HIT.start:.2f} to {HIT.end:.2f}")
    )
    assert torch.equal(encoder([first]).states, encoder([moved]).states)  # the same to 10 ms
