from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.pipeline.stage import Row, StageError
from avgen_data_prep.stages.embedding import Embedding, picture_layout, timbre
from avgen_data_prep.stages.semantic_duplicates import SemanticDuplicates, cells
from sound_examples import RATE, music, wind
from stage_clips import measured, silent, sounding, world
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

SIZES: dict[str, Any] = {
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}


def cosine(first: Row, second: Row) -> float:
    return float(np.dot(first["embedding"], second["embedding"]))


def test_parts_of_a_clip_are_nearer_than_other_clips(tmp_path: Path) -> None:
    pieces = []
    for number, name in enumerate(("bounce", "engine", "talker")):
        clip = world(name, 5, duration=3, size=64)
        for part, (start, end) in enumerate(((0, 1.48), (1.48, 2.96))):
            folder = tmp_path / f"{number}{part}"
            pieces.append(measured(Embedding(), clip.slice(start, end), folder))
    for number in range(0, 6, 2):
        own = cosine(pieces[number], pieces[number + 1])
        assert own > max(
            cosine(pieces[number], pieces[i]) for i in range(6) if i // 2 != number // 2
        )
    for row in pieces:
        assert len(row["embedding"]) == 128
        assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-3)
        assert row["embedding_kind"] == "layout/1"


def test_layout_holds_colours_and_movement_where_they_are() -> None:
    frames = np.full((4, 64, 64, 3), 128, np.uint8)
    frames[:, :16, 48:] = (255, 128, 0)
    frames[1::2, 48:, :16] = 255
    colours = picture_layout(frames)[:48].reshape(4, 4, 3)
    moved = picture_layout(frames)[48:].reshape(4, 4)
    assert colours[0, 3] == pytest.approx([0.5, 0, -0.5], abs=0.01)
    assert np.abs(colours[1:3]).max() < 0.01
    assert np.flatnonzero(moved > 0.01).tolist() == [12]
    assert (picture_layout(frames[:1])[48:] == 0).all()


def test_timbre_is_of_the_bands_and_not_of_the_level() -> None:
    wave = music(1)
    assert timbre(0.1 * wave) == pytest.approx(timbre(wave), abs=0.01)
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    assert 10 <= timbre(tone)[:32].argmax() <= 13
    assert (timbre(np.zeros(RATE, np.float32)) == 0).all()


def test_a_missing_stream_is_zeros(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3)).astype(np.uint8)
    seen = measured(Embedding(), silent(frames), tmp_path / "seen")["embedding"]
    heard = measured(Embedding(), sounding(wind(0), RATE), tmp_path / "heard")["embedding"]
    assert (np.any(seen[:64]), np.any(seen[64:])) == (True, False)
    assert (np.any(heard[:64]), np.any(heard[64:])) == (False, True)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny vision transformer with its image processor."""
    folder = tmp_path_factory.mktemp("network")
    torch.manual_seed(0)
    config = CLIPVisionConfig(hidden_size=16, intermediate_size=16, **SIZES)
    CLIPVisionModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


def test_a_network_can_look(network: Path, tmp_path: Path) -> None:
    stage = Embedding(model=str(network), looks=2)
    first, second = (
        measured(stage, silent(picture), tmp_path / str(i))
        for i, picture in enumerate(
            np.random.default_rng(0).integers(0, 255, (2, 4, 48, 32, 3)).astype(np.uint8)
        )
    )
    assert first["embedding_kind"] == f"model:{network.name}"
    assert len(first["embedding"]) == 16
    assert np.linalg.norm(first["embedding"]) == pytest.approx(1, abs=1e-3)
    assert 0.2 < cosine(first, second) < 0.99999
    assert stage.key() != Embedding(model=str(network)).key()


def test_a_network_needs_pictures_and_a_folder(network: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="has no picture for the network of embedding"):
        measured(Embedding(model=str(network)), sounding(wind(0), RATE), tmp_path)
    with pytest.raises(PipelineError, match=r"holds no config\.json"):
        Embedding(model=str(tmp_path)).key()
    with pytest.raises(ValueError, match="looks is 0; give at least 1 frame"):
        Embedding(looks=0)


def rows_of(vectors: np.ndarray, kind: str = "a") -> list[Row]:
    return [
        {"id": f"{i:024d}", "embedding": vector.tolist(), "embedding_kind": kind}
        for i, vector in enumerate(vectors)
    ]


def test_repeats_point_at_the_nearest_that_is_kept() -> None:
    angles = np.radians([0, 90, 3, 100, 7, 92])
    rows = rows_of(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    found = SemanticDuplicates(max_distance=0.003).gather(rows)
    assert [row.get("semantic_duplicate_of") for row in found] == [
        None, None, rows[0]["id"], None, None, rows[1]["id"],
    ]  # fmt: skip
    assert "semantic_distance" not in found[0]
    assert found[1]["semantic_distance"] == 1
    assert found[3]["semantic_distance"] == pytest.approx(1 - np.cos(np.radians(10)), abs=1e-4)


def test_what_cannot_be_compared_is_not() -> None:
    vector = np.ones(4)
    rows = [*rows_of(np.stack([vector] * 2)), *rows_of(np.stack([vector] * 2), "b")]
    rows += rows_of(np.ones((1, 3)))
    rows += [{"id": "x", "embedding": None, "embedding_kind": None}]
    rows += [{"id": "y", "embedding": [0.0, 0.0], "embedding_kind": "a"}] * 2
    found = SemanticDuplicates().gather(rows)
    repeats = [i for i, row in enumerate(found) if "semantic_duplicate_of" in row]
    assert repeats == [1, 3]
    assert found[4:] == [{}] * 4
    assert SemanticDuplicates().gather([]) == []


def test_cells_hold_each_clip_once_and_keep_twins_together() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 16)).astype(np.float32)
    vectors[1500:] = vectors[:1500] + rng.normal(0, 0.002, (1500, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    parts = list(cells(vectors, np.arange(3000), 256))
    assert max(len(part) for part in parts) <= 256
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(3000))
    place = np.empty(3000, int)
    for number, part in enumerate(parts):
        assert (np.diff(part) > 0).all()
        place[part] = number
    assert (place[:1500] == place[1500:]).mean() > 0.97
    found = SemanticDuplicates(largest_cell=256).gather(rows_of(vectors))
    repeated = [
        i for i in range(1500) if found[1500 + i].get("semantic_duplicate_of") == f"{i:024d}"
    ]
    assert len(repeated) > 0.95 * 1500
    assert not any("semantic_duplicate_of" in row for row in found[:1500])
    assert found == SemanticDuplicates(largest_cell=256).gather(rows_of(vectors))


def test_masses_of_equal_vectors_end() -> None:
    vectors = np.tile(np.array([[1.0, 2.0, 2.0]], np.float32), (500, 1))
    found = SemanticDuplicates(largest_cell=16).gather(rows_of(vectors))
    assert {row.get("semantic_duplicate_of") for row in found[1:]} == {"0" * 24}


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="max_distance is 2 and largest_cell 4096; give 0 to 1"):
        SemanticDuplicates(max_distance=2)
