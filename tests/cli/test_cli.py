import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from avgen.cli import VERBS, main
from avgen.cli.generate import _parser, parse_event
from avgen.cli.recipes import find, names

ROOT = Path(__file__).parents[2]


def test_help_names_every_verb(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)


def test_unknown_verb_names_the_known(capsys):
    assert main(["paint"]) == 2
    assert "generate" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "train"])
def test_every_verb_has_help(verb, capsys):
    try:
        status = main([verb, "--help"])
    except SystemExit as stop:
        status = stop.code
    assert status == 0
    assert f"usage: avgen {verb}" in capsys.readouterr().out


def test_train_help_says_how_to_start_and_resume(capsys):
    assert main(["train", "--help"]) == 0
    assert "--ckpt_path last" in capsys.readouterr().out


def test_the_command_runs_in_a_process_of_its_own():
    out = subprocess.run(
        [sys.executable, "-m", "avgen.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert out.stdout.startswith("avgen ")


def test_an_event_is_seen_and_heard_unless_it_has_a_track():
    seen, heard = parse_event(["0.4", "the ball hits"])
    assert (seen.track, heard.track) == ("visual", "sfx")
    assert (seen.start, seen.end) == (0.4, 0.5)
    (word,) = parse_event(["0.5-1.2", "aah", "speech"])
    assert (word.start, word.end, word.track) == (0.5, 1.2, "speech")


@pytest.mark.parametrize("words", [["0.4"], ["soon", "it hits"], ["1", "a", "sfx", "more"]])
def test_an_event_that_cannot_be_read_says_how_it_is_written(words):
    with pytest.raises(ValueError, match="--event"):
        parse_event(words)


def test_errors_are_one_line_on_stderr(capsys):
    assert main(["generate", "a", "--event", "soon", "it hits"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("avgen generate: --event time 'soon'")
    assert "Traceback" not in err


def test_recipes_are_found_by_name_and_listed(capsys):
    assert find("joint") == find("joint.yaml") == find(str(ROOT / "recipes" / "joint.yaml"))
    assert main(["recipes", "ls"]) == 0
    assert {"video_vae", "audio_codec", "image", "video", "joint", "finetune"} <= set(names())
    assert all(name in capsys.readouterr().out for name in ("joint",))
    with pytest.raises(FileNotFoundError, match="joint"):
        find("nothing")


def test_a_recipe_is_copied_but_never_over_a_file(tmp_path, capsys):
    assert main(["recipes", "copy", "joint", str(tmp_path / "mine.yaml")]) == 0
    assert (tmp_path / "mine.yaml").read_text() == find("joint").read_text()
    assert main(["recipes", "copy", "joint", str(tmp_path / "mine.yaml")]) == 1
    assert "exists" in capsys.readouterr().err


def test_the_solvers_on_offer_are_those_there_are():
    from avgen.pipeline.pipeline import SOLVER
    from avgen.sampling.solvers import SOLVERS, SolverName

    (action,) = (a for a in _parser()._actions if a.dest == "solver")
    assert list(action.choices or ()) == list(SOLVERS) == list(get_args(SolverName))
    assert action.default == SOLVER
