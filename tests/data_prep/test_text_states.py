import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from avgen_data_prep import cli
from lightning.pytorch import Trainer
from transformers import AutoTokenizer

from avgen.caption import TimedCaption
from avgen.data.datamodule import LatentDataModule
from avgen.data.schema import read_info
from avgen.text.base import segments
from avgen.text.hf import HuggingFaceTextEncoder
from avgen.training.joint import JointTraining

WORLDS = ["worlds", "--world", "bounce", "--count", "5", "--seconds", "0.52", "--shard-size", "2"]


def make(out: Path, *more: str) -> int:
    return cli.main([*WORLDS, str(out), *more])


def test_a_dataset_keeps_the_states_that_its_encoder_gives(tmp_path: Path, tiny_t5: str) -> None:
    assert make(tmp_path / "d", "--text-encoder", tiny_t5) == 0
    encoder = HuggingFaceTextEncoder(tiny_t5, 24)
    info = read_info(tmp_path / "d").text_encoder
    assert (info.identity, info.width) == (encoder.identity, 16)
    module = LatentDataModule(
        [str(tmp_path / "d")],
        batch_size=2,
        text_features=True,
        text_identity=encoder.identity,
        val_fraction=0,
    )
    with torch.inference_mode():
        for batch in module.train_dataloader():
            kept, asked = encoder(batch.captions, batch.text), encoder(batch.captions)
            torch.testing.assert_close(kept.states, asked.states, atol=2e-3, rtol=2e-3)
            assert torch.equal(kept.interval, asked.interval)


def test_workers_and_a_second_run_change_nothing(tmp_path: Path, tiny_t5: str) -> None:
    make(tmp_path / "one", "--text-encoder", tiny_t5)
    make(tmp_path / "two", "--text-encoder", tiny_t5, "--workers", "2")
    first, second = (
        {p.name: p.read_bytes() for p in (tmp_path / name).glob("*.tar")} for name in ("one", "two")
    )
    assert first == second
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "one").glob("*.tar")}
    make(tmp_path / "one", "--text-encoder", tiny_t5)
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_what_cannot_be_is_said(
    tmp_path: Path, tiny_t5: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path / "d") == 0
    assert make(tmp_path / "d", "--text-encoder", tiny_t5) == 2
    assert "holds a dataset with another text encoder" in capsys.readouterr().err
    assert make(tmp_path / "e", "--text-encoder", str(tmp_path / "nowhere")) == 2
    assert "nowhere: cannot be loaded" in capsys.readouterr().err


def longest_segments(dataset: Path, tokenizer: Any) -> dict[str, int]:
    """Tokens of the longest segment of each clip's captions."""
    found = {}
    for shard in sorted(dataset.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar.getmembers():
                name, kind = member.name.split(".", 1)
                if kind == "json":
                    told = json.loads(tar.extractfile(member).read())  # type: ignore[union-attr]
                    captions = [TimedCaption.from_json(item) for item in told["captions"]]
                    texts = [part.text for caption in captions for part in segments(caption)]
                    found[name] = max(len(ids) for ids in tokenizer(texts)["input_ids"])
    return found


def test_a_clip_whose_caption_is_too_long_is_left_out_and_said(
    tmp_path: Path, tiny_t5: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "all")
    tokens = longest_segments(tmp_path / "all", AutoTokenizer.from_pretrained(tiny_t5))
    most = min(tokens.values())
    short = [name for name, number in tokens.items() if number <= most]
    assert 0 < len(short) < len(tokens)
    assert make(tmp_path / "d", "--text-encoder", tiny_t5, "--text-length", str(most)) == 0
    told = capsys.readouterr().err
    kept = pq.read_table(tmp_path / "d" / "manifest.parquet")["id"].to_pylist()
    assert kept == short
    assert f"{len(tokens) - len(short)} were left out; the first are:" in told
    for name in set(tokens) - set(short):
        assert f"{name}: bad caption: text of " in told
    assert f"is longer than max_length={most}; shorten it" in told
    # With another length the same folder is made again.
    assert make(tmp_path / "d", "--text-encoder", tiny_t5, "--text-length", "512") == 0
    assert pq.read_table(tmp_path / "d" / "manifest.parquet").num_rows == len(tokens)
    assert make(tmp_path / "none", "--text-encoder", tiny_t5, "--text-length", "1") == 1
    assert "0 clips in 3 shards" in capsys.readouterr().err


def test_training_on_kept_states_is_training_on_the_captions(tmp_path: Path, tiny_t5: str) -> None:
    make(tmp_path / "d", "--text-encoder", tiny_t5)
    losses = {}
    for kept in (True, False):
        torch.manual_seed(0)
        module = JointTraining(text={"name": "huggingface", "model": tiny_t5})
        data = LatentDataModule(
            [str(tmp_path / "d")], batch_size=4, text_features=kept, val_fraction=0
        )
        batch = next(iter(data.train_dataloader()))
        assert (batch.text is not None) == kept
        losses[kept] = float(module.loss(batch).total.detach())
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


def test_training_refuses_states_of_another_encoder(tmp_path: Path, tiny_t5: str) -> None:
    make(tmp_path / "d", "--text-encoder", tiny_t5)
    data = LatentDataModule([str(tmp_path / "d")], text_features=True, val_fraction=0)
    trainer = Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match=r"but the network has one that is trained with it; write"):
        trainer.fit(JointTraining(), data)
