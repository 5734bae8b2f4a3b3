"""The study of scaling: its law against laws that are known, and runs of a few steps that are not repeated."""

import json
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from avgen_eval.scaling.__main__ import main
from avgen_eval.scaling.draw import picture
from avgen_eval.scaling.fit import PowerLaw, fit, frontier, intervals
from avgen_eval.scaling.train import Size

from avgen.caption import Event, TimedCaption
from avgen.data.schema import CodecInfo, DatasetInfo
from avgen.data.shards import Example, finish, write_shard
from avgen.model import cost
from avgen.model.bundle import Network

FLOPS = np.logspace(11, 14, 12)
LAW = PowerLaw(floor=0.3, scale=0.2, exponent=0.4, unit=1e12)


def test_a_known_law_is_found_again():
    found = fit(FLOPS, LAW(FLOPS))
    assert found.floor == pytest.approx(0.3, abs=1e-3)
    assert found.exponent == pytest.approx(0.4, abs=1e-2)
    np.testing.assert_allclose(found(FLOPS), LAW(FLOPS), rtol=1e-3)


def test_runs_that_others_beat_do_not_count():
    worse = np.concatenate([LAW(FLOPS), LAW(FLOPS) + 0.05])
    twice = np.concatenate([FLOPS, FLOPS * 1.01])
    assert sorted(frontier(twice, worse)) == list(range(12))
    assert fit(twice, worse).exponent == pytest.approx(0.4, abs=1e-2)


def test_intervals_hold_the_truth_and_grow_with_noise():
    generator = np.random.default_rng(0)
    widths = []
    for noise in (0.0005, 0.005):
        flops = np.repeat(FLOPS, 3)
        loss = LAW(flops) + noise * generator.standard_normal(36)
        found = intervals(flops, loss, resamples=40)
        low, high = found["floor"]
        assert low - 0.02 < 0.3 < high + 0.02
        widths.append(high - low)
    assert widths[0] < widths[1]


def test_too_few_runs_make_no_law():
    with pytest.raises(ValueError, match="3 runs reach a loss that none with fewer operations has"):
        fit(FLOPS[:3], LAW(FLOPS[:3]))
    assert intervals(FLOPS[:3], LAW(FLOPS[:3]), resamples=5) == {}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"

    def example(number: int) -> Example:
        rng = np.random.default_rng(number)
        events = (Event.at(0.12, 0.16, "a knock"),)
        return Example(
            id=f"e{number:03}",
            captions=(TimedCaption(duration_us=360_000, text="a clip", events=events),),
            duration_us=360_000, num_frames=9, height=32, width=32, fps=Fraction(25),
            num_samples=9 * 640, sample_rate=16_000, source="test", seed=number, metadata={},
            latents={"video": rng.normal(size=(4, 3, 4, 4)), "audio": rng.normal(size=(6, 9))},
        )  # fmt: skip

    write_shard(folder, "shard-00000.tar", [example(i) for i in range(40)])
    video = CodecInfo(identity="v" * 64, latent_channels=4, time_stride=4, space_stride=8)
    audio = CodecInfo(identity="a" * 64, latent_channels=6, sample_rate=16_000, hop=640)
    finish(folder, ["shard-00000.tar"], DatasetInfo(video_codec=video, audio_codec=audio))
    return folder


def test_runs_are_kept_and_those_that_are_missing_are_added(data, tmp_path, capsys):
    path, svg = tmp_path / "scaling.json", tmp_path / "scaling.svg"
    argv = ["--data", str(data), "--json", str(path), "--batch-size", "4", "--steps", "2"]
    assert main([*argv, "--sizes", "2x1x1"]) == 0
    first = json.loads(path.read_text())
    assert [(row["size"], row["steps"]) for row in first["rows"]] == [("2x1x1", 2)]
    assert "train more sizes, or for more steps" in first["fit"]["none"]
    capsys.readouterr()
    assert main([*argv, "--sizes", "1x1x1,2x1x1", "--svg", str(svg)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert rows[:1] == first["rows"]
    assert [row["size"] for row in rows] == ["2x1x1", "1x1x1"]
    assert capsys.readouterr().out.count(" FLOPs, loss ") == 1
    assert all(np.isfinite(row["loss"]) and row["loss"] > 0 for row in rows)

    config = Size.parse("2x1x1").config(4, 6)
    step = cost.Step(clips=4, tokens={"video": 12, "audio": 9}, text_tokens=4)
    each = cost.step_flops(config, step).total + cost.text_flops(192, 2, step).total
    assert rows[0]["flops"] == 2 * each
    assert rows[0]["parameters"] == sum(p.numel() for p in Network(config).parameters())
    assert len(ElementTree.parse(svg).findall(".//{*}circle")) == 2

    with pytest.raises(ValueError, match=r"holds runs of .*'batch_size': 4.*; give another --json"):
        main([*argv, "--batch-size", "8"])


def test_the_law_is_drawn_through_the_runs():
    rows = [
        {"size": "1x1x1", "flops": x, "loss": y, "parameters": 1e6}
        for x, y in zip(FLOPS, LAW(FLOPS), strict=True)
    ]
    paths = ElementTree.fromstring(picture(rows, LAW)).findall(".//{*}path[@stroke-dasharray]")
    assert len(paths) == 1
    assert len(paths[0].attrib["d"].split()) > 100


@pytest.mark.parametrize("text", ["4x2", "4x2x0", "axbxc", ""])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="give depth, video heads and audio heads, such as 4x2x1"):
        Size.parse(text)


def test_what_cannot_be_run_is_refused(tmp_path):
    argv = ["--data", str(tmp_path), "--json", str(tmp_path / "x.json")]
    with pytest.raises(ValueError, match="steps '0': give whole numbers from 1 on"):
        main([*argv, "--steps", "0"])
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ValueError, match=r"x.json: is no JSON"):
        main(argv)
