import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from avgen.data.datamodule import LatentDataModule
from avgen.data.exclusion import Exclusion, read_exclusion
from avgen.data.schema import DatasetError, read_manifest
from avgen.data.shards import Example

HASHES = ["1" * 64, "a" * 64, "c" * 64]


@pytest.fixture
def folder(make_dataset: Callable[..., Path], make_example: Callable[..., Example]) -> Path:
    return make_dataset(
        [replace(make_example(n), source_sha256=HASHES[n % 3], faces=n == 1) for n in range(12)]
    )


def listed(tmp_path: Path, text: str) -> str:
    path = tmp_path / "never.txt"
    path.write_text(text)
    return str(path)


def trained(module: LatentDataModule) -> set[str]:
    loader = module.train_dataloader()
    ids = {name for batch in loader for name in batch.ids}
    return ids | {name for batch in module.val_dataloader() for name in batch.ids}


def test_sources_and_ids_of_the_list_are_never_drawn(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"# asked to be left out\n{'A' * 64}  # case does not matter\n\ne000\n"
    module = LatentDataModule([str(folder)], batch_size=1, val_fraction=0.2)
    everything = trained(module)
    assert len(everything) == 12
    exclude = listed(tmp_path, text)
    with caplog.at_level(logging.INFO):
        left = trained(
            LatentDataModule([str(folder)], batch_size=1, val_fraction=0.2, exclude=exclude)
        )
    assert left == everything - {"e000", "e001", "e004", "e007", "e010"}
    assert f"5 of 12 examples left out by {exclude}" in caplog.text


def test_the_list_is_part_of_what_a_run_must_keep(folder: Path, tmp_path: Path) -> None:
    state = LatentDataModule([str(folder)], exclude=listed(tmp_path, "e000\ne001")).state_dict()
    same = LatentDataModule([str(folder)], exclude=listed(tmp_path, "# order\ne001\ne000\n"))
    same.load_state_dict(state)
    for exclude in (listed(tmp_path, "e000\n"), None):
        with pytest.raises(DatasetError, match="exclusion list"):
            LatentDataModule([str(folder)], exclude=exclude).load_state_dict(state)


def test_rows_that_no_source_hash_can_match_are_told(dataset: Path, tmp_path: Path) -> None:
    module = LatentDataModule([str(dataset)], exclude=listed(tmp_path, "a" * 64))
    with pytest.warns(UserWarning, match="25 of 25 examples carry no hash of their source"):
        module.setup()


def test_a_list_of_everything_leaves_nothing_to_train_on(folder: Path, tmp_path: Path) -> None:
    module = LatentDataModule([str(folder)], exclude=listed(tmp_path, "\n".join(HASHES)))
    with pytest.raises(ValueError, match=r"no examples to sample from.*exclusion list"):
        module.train_dataloader()


@pytest.mark.parametrize("line", ["two words", "a/b", "x" * 81, "ünknown"])
def test_lines_that_are_neither_are_refused_with_their_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(DatasetError, match=r"never\.txt:2: .* is neither a SHA-256"):
        read_exclusion(listed(tmp_path, f"e000\n{line}\n"))


def test_a_missing_list_stops_the_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the exclusion list cannot be read"):
        LatentDataModule([str(folder)], exclude=str(tmp_path / "none.txt")).setup()


def test_rows_of_any_table_can_be_checked_before_packing() -> None:
    exclusion = Exclusion(sources=frozenset({"a" * 64}), ids=frozenset({"x"}))
    sources = pa.table({"source_sha256": ["b" * 64, "a" * 64, None]})
    assert exclusion.excluded(sources).tolist() == [False, True, False]
    assert exclusion.unchecked(sources) == 1
    clips = pa.table({"id": ["x", "y"]})
    assert exclusion.excluded(clips).tolist() == [True, False]
    assert exclusion.unchecked(clips) == 2
    assert exclusion.excluded(clips.slice(0, 0)).tolist() == []


def test_rights_are_kept_in_the_manifest(folder: Path) -> None:
    row = read_manifest(folder).to_pylist()[1]
    assert (row["source_sha256"], row["faces"]) == ("a" * 64, True)
    assert (row["licence"], row["consent"]) == (None, None)
