from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import example_of

from avgen import checkpoint
from avgen.data.datamodule import LatentDataModule
from avgen.data.dataset import LatentDataset
from avgen.data.schema import DatasetError, DatasetInfo, TextInfo
from avgen.data.shards import Example, finish, write_shard
from avgen.data.text_features import TextFeatures, encode_captions, parse_text, text_bytes
from avgen.text.byte_encoder import ByteTextEncoder


@pytest.fixture(scope="module")
def encoder() -> ByteTextEncoder:
    torch.manual_seed(0)
    return ByteTextEncoder(width=24, depth=1, num_heads=1).eval()


@pytest.fixture
def folder(tmp_path: Path, encoder: ByteTextEncoder) -> Path:
    examples = [example_of(n) for n in range(6)]
    examples = [
        replace(e, text_features=encode_captions(encoder.encode, e.captions)) for e in examples
    ]
    write_shard(tmp_path, "shard-00000.tar", examples)
    identity = checkpoint.digest(encoder.state_dict())
    finish(
        tmp_path,
        ["shard-00000.tar"],
        DatasetInfo(text_encoder=TextInfo(identity=identity, width=24)),
    )
    return tmp_path


def test_features_are_the_states_that_the_encoder_gives_in_training(
    encoder: ByteTextEncoder,
) -> None:
    """Against the encoder's own forward, which adds an embedding of the track."""
    captions = list(example_of(3).captions)
    features = encode_captions(encoder.encode, captions)
    tokens = encoder(captions)
    for i, feature in enumerate(features):
        real = tokens.states[i][tokens.mask[i]]
        tracks = torch.repeat_interleave(torch.tensor([0, 5]), torch.tensor(feature.lengths))
        torch.testing.assert_close(feature.states + encoder.track_embedding(tracks), real)


def test_members_give_back_what_was_written(encoder: ByteTextEncoder) -> None:
    features = encode_captions(encoder.encode, example_of(1).captions)
    for written, read in zip(features, parse_text(text_bytes(features)), strict=True):
        torch.testing.assert_close(read.states, written.states, atol=2e-3, rtol=1e-3)
        assert read.lengths == written.lengths


def test_batches_carry_the_features_of_their_captions(
    folder: Path, encoder: ByteTextEncoder
) -> None:
    module = LatentDataModule([str(folder)], batch_size=3, text_features=True, val_fraction=0)
    for batch in module.train_dataloader():
        assert batch.text is not None
        expected = encode_captions(encoder.encode, batch.captions)
        for found, wanted in zip(batch.text, expected, strict=True):
            assert found.lengths == wanted.lengths
            torch.testing.assert_close(found.states, wanted.states, atol=2e-3, rtol=1e-3)
        moved = batch.to(torch.bfloat16)
        assert moved.text[0].states.dtype == torch.bfloat16
    plain = LatentDataModule([str(folder)], batch_size=3, val_fraction=0)
    assert {batch.text for batch in plain.train_dataloader()} == {None}


def test_stale_features_are_refused(folder: Path, encoder: ByteTextEncoder) -> None:
    identity = checkpoint.digest(encoder.state_dict())
    LatentDataset(folder, text_identity=identity, text_features=True)
    with pytest.raises(
        DatasetError, match=r"stale: encoded with \w{12} text encoder, but ffffffff"
    ):
        LatentDataModule([str(folder)], text_identity="f" * 64).setup()


def test_datasets_without_features_are_refused_where_they_are_asked_for(
    dataset: Path, folder: Path
) -> None:
    with pytest.raises(DatasetError, match="holds no text features"):
        LatentDataset(dataset, text_features=True)
    with pytest.raises(DatasetError, match="stale: encoded without text encoder"):
        LatentDataset(dataset, text_identity="f" * 64)


def test_features_must_fit_their_captions(
    tmp_path: Path, make_example: Callable[..., Example], encoder: ByteTextEncoder
) -> None:
    features = encode_captions(encoder.encode, make_example(0).captions)[:1]
    with pytest.raises(DatasetError, match="e000: 1 text features for 3 captions"):
        write_shard(tmp_path, "a.tar", [replace(make_example(0), text_features=features)])
    with pytest.raises(ValueError, match=r"lengths \[1, 2\] add up to 3, but there are 4 states"):
        TextFeatures(torch.zeros(4, 2), (1, 2))
    with pytest.raises(ValueError, match="first_frame_only cuts captions"):
        LatentDataModule(["a"], text_features=True, first_frame_only=True)
