import json
from pathlib import Path

import pytest
from avgen_eval.bench import attention, command

from avgen.cli import main


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention over sequences that take no time."""
    monkeypatch.setitem(attention.LENGTHS, "cpu", (16, 32))


def test_an_unknown_bench_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "codec", "paint"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("avgen bench: bench 'paint' is unknown; use some of training_step")
    assert all(name in error for name in command.BENCHES)
    assert command.known([]) == list(command.BENCHES)
    assert command.known(["codec", "attention", "codec"]) == ["codec", "attention"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--repeats", "1"], "repeats 1: quartiles need at least 2"),
        (["--batch", "0"], "batch 0: a training step needs at least 1 clip"),
        (["--preset", "huge"], "preset 'huge' is unknown; use one of nano, tiny"),
        (["--device", "abacus"], "device 'abacus' cannot be used: RuntimeError"),
        (["--device", "meta"], "device 'meta': the benches time the cpu and cuda devices only"),
        (["--weights", "/no/such/folder"], "/no/such/folder"),
        (["--json", "."], "--json . is a folder; name a file"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_is_timed(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *options]) == 1
    out, error = capsys.readouterr()
    assert told in error
    assert "Traceback" not in error
    assert out == ""


def test_table_and_file_hold_the_same_cases(
    short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "new" / "speed.json"
    options = ["--repeats", "3", "--dtype", "float32", "--json", str(path)]
    assert main(["bench", "attention", *options]) == 0
    out = " ".join(capsys.readouterr().out.split())
    content = json.loads(path.read_text())
    assert content.keys() == {"schema", "provenance", "environment", "attention"}
    environment = content["environment"]
    assert (environment["device"], environment["repeats"], environment["compiled"]) == (
        "cpu",
        3,
        False,
    )
    assert environment["versions"].keys() >= {"torch", "diffusers", "encodec"}
    assert environment["threads"] >= 1
    assert environment["dtype"] == "float32"
    rows = content["attention"]["rows"]
    assert {(row["comparison"], row["case"]) for row in rows} == {
        *(
            (f"{length} tokens, {passes}", backend)
            for length in (16, 32)
            for passes in ("forward", "with backward")
            for backend in ("sdpa", "plain")
        ),
        ("any length", "xformers"),
    }
    assert all(row["case"] in out for row in rows)
    assert "has no operator for the CPU" in rows[-1]["reason"]
    assert "has no operator for the CPU" in out
    for row in rows[:-1]:
        low, high = row["quartiles"]
        assert 0 < low <= row["median"] <= high
        assert len(row["seconds"]) == 3
        assert ("ratio" in row) == (row["case"] == "plain")


def test_a_bench_that_is_stopped_keeps_what_was_measured(
    short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(setup: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(command.BENCHES, "codec", stop)
    path = tmp_path / "speed.json"
    options = ["attention", "codec", "--repeats", "2", "--json", str(path)]
    assert main(["bench", *options]) == 130
    assert len(json.loads(path.read_text())["attention"]["rows"]) == 9
