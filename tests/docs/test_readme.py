"""The commands of the README run, as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with `my_videos`, as the README supposes."""
    from avgen_data_prep.worlds import WORLDS

    folder = tmp_path_factory.mktemp("readme")
    (folder / "my_videos").mkdir()
    for i in range(4):
        WORLDS["bounce"].render(i).clip.save(folder / "my_videos" / f"{i}.mp4")
    return folder


def run(arguments: list[str], cwd: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        arguments, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_python_example_runs(workplace):
    for code in blocks("python"):
        run([sys.executable, "-c", code], workplace)
    assert (workplace / "ball.mp4").stat().st_size > 1000


@pytest.mark.slow
def test_the_avgen_commands_run(workplace):
    lines = [
        line for block in blocks("sh") for line in block.splitlines() if line.startswith("avgen ")
    ]
    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(line)[1:]
        if words[0] == "train":  # the command of the README, cut short after two steps
            words += ["--trainer.max_steps", "2", "--trainer.enable_progress_bar", "false"]
        run([sys.executable, "-m", "avgen.cli", *words], workplace)
    assert (workplace / "out.mp4").is_file()
    assert (workplace / "data" / "mine" / "manifest.parquet").is_file()


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = {
        line.split()[1]
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("make ")
    }
    assert targets == {"demo", "test"}
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


def test_files_that_the_documents_name_exist():
    for document in ("README.md", "MODEL_CARD.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (ROOT / target).exists(), f"{document} links to {target}"


def test_the_figures_of_the_documents_are_those_of_the_results():
    from avgen_eval.card import DOCUMENTS, replaced, table

    content = table(ROOT / "eval" / "results")
    for name in DOCUMENTS:
        text = (ROOT / name).read_text()
        assert text == replaced(text, content), f"{name}: run python -m avgen_eval.card"
    with pytest.raises(ValueError, match="markers"):
        replaced("no table", content)
