"""The page on data preparation agrees with the code: stages, columns, parameters, commands, examples."""

import dataclasses
import importlib
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from avgen_data_prep import cli
from avgen_data_prep.pipeline.manifest import MANIFEST
from avgen_data_prep.pipeline.select import select
from avgen_data_prep.pipeline.spec import PIPELINES, STAGES, parse
from avgen_data_prep.pipeline.stage import Stage
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.plan import command as plan
from avgen_data_prep.scan import SCANNED

from avgen import media
from avgen.clip import Clip

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "data-preparation.md"
TEXT = PAGE.read_text()
OWN = "my_stages"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def table(heading: str) -> list[list[str]]:
    """Cells of the rows below the heading of a table."""
    lines = TEXT.split(f"{heading}\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def stage(name: str) -> type[Stage]:
    module, _, cls = STAGES[name].rpartition(".")
    return getattr(importlib.import_module(module), cls)


def written() -> dict[str, pa.Schema]:
    return {"scan": SCANNED, **{name: stage(name).writes for name in STAGES}}


ROWS = table("| stage, parameters | columns | known failure cases |")


def test_every_column_of_every_stage_is_there_once_and_nothing_else():
    told = Counter(
        (re.split("`?:|$", cells[0], maxsplit=1)[0].strip("`"), column)
        for cells in ROWS
        for column in quoted(re.sub(r"\([^()]*\)", "", cells[1]))
    )
    real = Counter((name, column) for name, schema in written().items() for column in schema.names)
    assert told == real


def test_every_stage_is_there_with_its_parameters_and_their_defaults():
    assert ROWS[0][0] == "scan"
    assert [quoted(cells[0])[0] for cells in ROWS[1:]] == list(STAGES)
    for cells in ROWS[1:]:
        name, *parameters = quoted(re.sub(r"\([^()]*\)", "", cells[0]))
        cls: Any = stage(name)
        pairs = [text.split("=", 1) for text in parameters]
        told = [(parameter, yaml.safe_load(value)) for parameter, value in pairs]
        assert told == [(f.name, getattr(cls(), f.name)) for f in dataclasses.fields(cls)], name
        assert cells[2], f"{name}: the page names no failure case"


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def test_the_commands_parse_and_each_has_an_example():
    verbs = set()
    for words in commands():
        if words[:2] == ["avgen", "prep"]:
            verbs.add(words[2])
            assert callable(cli._parser().parse_args(words[2:]).run)
        elif words[:2] == ["avgen", "plan"]:
            verbs.add("plan")
            assert plan._parser().parse_args(words[2:]).data == Path("work")
        else:
            assert words[0] == "sha256sum" or words[:3] == ["avgen", "train", "fit"]
    usage = cli._parser().format_help()
    known = set(re.findall(r"^    (\w+) ", usage, flags=re.MULTILINE))
    assert {"run", "pack", "encode"} <= known
    assert verbs == known | {"plan"}


def test_the_formats_and_pipelines_that_are_named_exist():
    named = TEXT.split("out/mine", 1)[1].splitlines()[0]
    for word in ("huggingface", "ltx-csv", "ltx-jsonl", "folder"):
        assert word in named
        assert cli._parser().parse_args(["export", word, "data/mine", "out"]).format == word
    for name in ("default", "tiny"):
        assert (PIPELINES / f"{name}.yaml").is_file()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the page's stage in it, importable."""
    (code,) = blocks("python")
    (tmp_path / f"{OWN}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, OWN, raising=False)
    yield tmp_path
    sys.modules.pop(OWN, None)


def test_the_own_pipeline_is_one_and_its_own_stage_measures(own: Path):
    (text,) = (block for block in blocks("yaml") if block.startswith("stages:"))
    pipeline = parse(text)
    before = {stage.name for stage in pipeline.stages} - {"colourfulness"}
    assert before < set(STAGES)
    mine = next(stage for stage in pipeline.of_clips if stage.name == "colourfulness")
    assert mine.parameters() == {"every": 10}

    work = Work(own, own)
    grey, vivid = np.full((2, 30, 32, 32, 3), 128, np.uint8)
    vivid[:, :, :16], vivid[:, :, 16:] = (255, 0, 0), (0, 0, 255)
    found = {}
    for name, frames in (("grey", grey), ("vivid", vivid)):
        path = work.clip_file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        media.write(path, Clip(frames=frames, fps=Fraction(25)))
        row = mine.measure({"id": name}, work)
        assert set(row) == set(mine.writes.names)
        found[name] = row["colourfulness"]
    assert found["grey"] < 5
    assert found["vivid"] > 100


def test_the_filters_are_expressions_over_the_columns(tmp_path: Path):
    columns = [field for schema in written().values() for field in schema]
    empty = pa.schema([("id", pa.string()), *columns]).empty_table()
    pq.write_table(empty, tmp_path / MANIFEST)
    (block,) = blocks("sql")
    filters = [line for line in block.splitlines() if not line.startswith("--")]
    given = [words[i + 1] for words in commands() for i, w in enumerate(words) if w == "--where"]
    assert len(filters) >= 5
    assert given
    for where in (*filters, *given):
        assert select(tmp_path, where).num_rows == 0
    with pytest.raises(ValueError, match="did you mean one of"):
        select(tmp_path, "no_such_column > 1")


def test_the_rights_example_says_what_the_stage_takes():
    (text,) = (block for block in blocks("yaml") if not block.startswith("stages:"))
    said = yaml.safe_load(text)
    assert sorted(said) == sorted(stage("rights").writes.names)
    assert isinstance(said["faces"], bool)


def test_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (PAGE.parent / target).is_file(), target
