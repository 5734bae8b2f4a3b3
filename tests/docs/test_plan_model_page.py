"""The page on planning a model shows what the command prints."""

import re
import shlex
from pathlib import Path

from avgen_data_prep.plan.model.command import parser

from avgen.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "plan-model.md"
TEXT = PAGE.read_text()


def commands() -> list[list[str]]:
    lines = [
        line
        for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
        for line in block.splitlines()
    ]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def test_the_output_is_that_of_the_command(capsys):
    (output,) = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    shown = next(words for words in commands() if "--mfu" in words)
    assert main(shown[1:]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        line.split() for line in output.splitlines()
    ]


def test_the_commands_parse():
    plans = [words for words in commands() if words[:2] == ["avgen", "plan"]]
    assert len(plans) >= 3
    for words in plans:
        assert parser().parse_args(words[2:]).model
