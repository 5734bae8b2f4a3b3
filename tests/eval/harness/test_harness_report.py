import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from avgen_eval.cli import main
from avgen_eval.harness import report
from avgen_eval.harness.compare import (
    Row,
    compare_all,
    compare_runs,
    correction_line,
    verdict_line,
)
from avgen_eval.harness.course import draw_course, draw_courses
from avgen_eval.harness.manifest import Item
from avgen_eval.harness.report import write_run_report
from avgen_eval.harness.result import Result, read_result, write_result
from avgen_eval.harness.score import Figure, Record, Scores
from avgen_eval.harness.show import print_comparison
from avgen_eval.harness.suite import load_suite
from avgen_eval.linechart import Series, draw_chart
from avgen_eval.results import provenance
from avgen_eval.statistics import Comparison
from rich.console import Console

LEVELS = {"first": 0.5, "better": 0.8, "worse": 0.1}


def record(name: str, value: float, curve: list[float]) -> Record:
    return Record(
        id=name,
        prompt=name,
        seed=None,
        file="gone.mp4",
        failed="",
        findings=(),
        values={"sync.f1_graded_corrected": value},
        skipped={},
        curves={"longform.loudness": tuple((i + 0.5, v) for i, v in enumerate(curve))},
    )


def run(name: str, level: float, num_clips: int = 12) -> Result:
    """A run whose clips have about that value, and get 1 LU quieter each second."""
    noise = np.random.default_rng(len(name)).normal(0, 0.01, num_clips)
    records = [
        record(f"{i:02d}", level + noise[i], [-20.0 - i - s for s in range(9)])
        for i in range(num_clips)
    ]
    figure = Figure(
        id="sync.f1_graded_corrected",
        status="ok",
        value=level,
        better="higher",
        num=num_clips,
        signature="sync-v1|fps=25",
    )
    skipped = Figure(id="timing.sound_f1_100ms", status="skipped", reason="needs a <caption>")
    counts = {"num_expected": num_clips, "num_scored": num_clips, "num_failed": 0}
    content = {
        "environment": provenance(),
        "suite": {"name": "mine", "version": 1},
        "data": {**counts, "num_with_findings": 0},
    }
    figures = {figure.id: figure, skipped.id: skipped}
    path = Path("result.json")
    return Result(path=path, name=name, content=content, figures=figures, records=records)


def test_clips_without_a_value_are_shown_where_there_is_room(tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").touch()
    result, order = run("first", 0.5, num_clips=4), "sync.f1_graded_corrected"
    there = [replace(r, file=str(tmp_path / "clip.mp4")) for r in result.records[:3]]
    there[1] = replace(there[1], values={})
    gone = replace(result.records[3], values={})
    result = replace(result, records=[*there, gone])
    monkeypatch.setattr(Result, "items", lambda self: {r.id: None for r in self.records})
    monkeypatch.setattr(report, "_item", lambda result, record, item, *notes: (record.id, notes))
    *known, last = report._clips(result, order, 2)
    assert {name for name, _ in known} == {"00", "02"}
    assert last == ("01", (f"{order} n/a",))
    assert {name for name, _ in report._clips(result, order, 1)} == {"00", "02"}


@pytest.fixture
def runs() -> list[Result]:
    return [run(name, level) for name, level in LEVELS.items()]


def test_each_run_is_compared_with_the_first(runs: list[Result]) -> None:
    (better,), (worse,) = compare_all(runs[0], runs[1:])
    assert better.comparison is not None
    assert worse.comparison is not None
    assert better.comparison.difference == pytest.approx(0.3, abs=0.02)
    assert worse.comparison.difference == pytest.approx(-0.4, abs=0.02)
    assert (better.comparison.wins, worse.comparison.losses) == (12, 12)


def test_prompts_without_a_partner_are_told_and_left_out_of_the_means() -> None:
    first, longer = run("first", 0.5, 10), run("longer", 0.5, 30)
    (row,) = compare_runs(first, longer)
    assert row.comparison is not None
    assert (row.comparison.num_prompts, row.only_baseline, row.only_candidate) == (10, 0, 20)
    values = [r.values[row.id] for r in longer.records[:10]]
    assert row.candidate == pytest.approx(np.mean(values))  # type: ignore[arg-type]
    assert row.candidate - row.baseline == pytest.approx(row.comparison.difference)  # type: ignore[operator]


def test_p_is_corrected_for_all_candidates_together(runs: list[Result]) -> None:
    (alone,) = compare_runs(runs[0], runs[1])
    (among_two,), _ = compare_all(runs[0], runs[1:])
    assert alone.p_corrected is not None
    assert among_two.p_corrected == pytest.approx(2 * alone.p_corrected, rel=0.2)
    (uncorrected,), _ = compare_all(runs[0], runs[1:], correction="none")
    assert uncorrected.p_corrected == alone.p_corrected


def test_page_of_three_runs_has_a_change_for_each(runs: list[Result], tmp_path: Path) -> None:
    page = write_run_report(tmp_path / "page.html", runs).read_text()
    assert "<h1>better, worse against first</h1>" in page
    table = page.split("<tbody>")[0]
    assert re.findall(r'<th scope="col">(\w+)</th>', table) == [
        "Value",
        "first",
        "better",
        "Change",
        "worse",
        "Change",
    ]
    changes = re.findall(
        r'<td data-head="Change">([+-]0\.\d+)<br><b class="\w+">(. \w+)</b>'
        r"<br><small>[^<]*p \(Holm\) 0\.\d{3}<br>([^<]*)</small>",
        page,
    )
    assert [told for _, *told in changes[:2]] == [
        ["▲ better", "12 won, 0 tied, 0 lost"],
        ["▼ worse", "0 won, 0 tied, 12 lost"],
    ]
    assert (
        "better against first: worse in 0 of 1 values with a direction, better in 1, "
        "no difference shown in 0 (12 pairs of prompts)" in page
    )
    assert "p is corrected (Holm) over all 2 values" in page
    assert float(changes[0][0]) == pytest.approx(0.3, abs=0.02)


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    page = write_run_report(tmp_path / "page.html", [run("out", 0.5), run("out", 0.6)]).read_text()
    assert "<h1>out (2) against out (1)</h1>" in page


def test_what_was_not_measured_is_told_with_its_reason(runs: list[Result], tmp_path: Path) -> None:
    page = write_run_report(tmp_path / "page.html", runs[:1]).read_text()
    assert "first: what was not measured (1)" in page
    assert '<th scope="row">timing</th><td class="words">needs a &lt;caption&gt;</td>' in page


def lines(html: str) -> list[np.ndarray]:
    """Points of each line of a chart, in the box of 1000 by 100."""
    found = re.findall(r'<path class="line run\d" vector-effect="[^"]*" d="M([^"]*)"', html)
    return [
        np.array([pair.split(",") for pair in text.split()]).astype(float).reshape(-1, 2)
        for text in found
    ]


def test_course_is_the_mean_over_clips_with_its_band(runs: list[Result]) -> None:
    html = draw_courses(runs[:2])
    first, second = lines(html)
    # Twelve clips at -20 to -31 fall by 8 LU in nine seconds; the line falls evenly from first to last second.
    assert first[:, 0] == pytest.approx((np.arange(9) + 0.5) * 1000 / 9, abs=0.1)
    assert np.diff(first[:, 1]) == pytest.approx(np.diff(first[:, 1])[0], abs=0.11)
    assert np.array_equal(first, second)
    assert "first from -25.5 at 0.5 s to -33.5 at 8.5 s" in html
    assert html.count('class="band run') == 2
    ends = re.findall(r"<span>(-[\d.]+)</span>", html)
    # The 10th and 90th percentile of 12 evenly spaced values lie 1.1 from the ends; 6% of room on each side.
    top, bottom = -20 - 1.1, -31 - 8 + 1.1
    assert [float(end) for end in ends] == pytest.approx(
        [top + 0.06 * (top - bottom), bottom - 0.06 * (top - bottom)], abs=0.06
    )


def test_seconds_that_few_clips_reach_are_left_out() -> None:
    result = run("a", 0.5)
    result.records[0] = record("long", 0.5, [-20.0] * 30)
    (line,) = lines(draw_courses([result]))
    assert len(line) == 9


def test_one_clip_has_its_own_course_and_no_band() -> None:
    html = draw_course(record("a", 0.5, [-20, -30, -25]))
    (line,) = lines(html)
    assert line[:, 0] == pytest.approx(np.array([0.5, 1.5, 2.5]) * 1000 / 3, abs=0.1)
    assert "band" not in html
    short = Record(
        id="b", prompt="b", seed=None, file="", failed="", findings=(), values={}, skipped={}
    )
    assert draw_course(short) == ""


def test_axis_begins_at_zero_or_spans_what_is_asked() -> None:
    x = np.array([0.5, 1.5])
    still = Series(label="a <b>", x=x, y=np.array([0.50, 0.51]))
    html = draw_chart("light & shade", "share", [still], right=2)
    assert "<span>0.541</span><span>0</span>" in html
    assert "a &lt;b&gt; from 0.5" in html
    assert "light &amp; shade" in html
    assert "<span>3.5</span><span>-2.5</span>" in draw_chart("x", "", [still], right=2, span=6)
    assert draw_chart("x", "", [Series(label="a", x=x[:0], y=x[:0])], right=2) == ""


def row(name: str, difference: float, *, better: str = "higher", p: float = 0.01) -> Row:
    found = Comparison(
        difference=difference,
        low=difference - 0.0123,
        high=difference + 0.0123,
        p_value=p / 10,
        exact=True,
        minimum_effect=0.0321,
        wins=9,
        ties=0,
        losses=3,
        num_prompts=12,
        num_unpaired=0,
    )
    return Row(
        id=name,
        unit="",
        better=better,
        baseline=0.123,
        candidate=0.123 + difference,
        comparison=found,
        p_corrected=p,
    )


ROWS = [
    row("sync.f1_graded_corrected", 0.456),
    row("sync.offset_abs_ms", 0.0789, better="lower"),
    row("a_scorer_of_a_long_name.with_a_value_of_a_long_name", -0.0345, p=0.05),
    Row(
        id="a.missing",
        unit="",
        better="higher",
        baseline=1.0,
        candidate=None,
        comparison=None,
        reason="no clip of a run has it",
    ),
]


def test_verdict_follows_direction_and_corrected_p() -> None:
    assert [row.verdict for row in ROWS] == ["better", "worse", "no difference shown", None]
    assert row("a", -0.1, better="lower").verdict == "better"
    assert verdict_line(ROWS) == (
        "worse in 1 of 3 values with a direction, better in 1, no difference shown in 1 "
        "(12 pairs of prompts)"
    )
    assert verdict_line(ROWS[3:]) == "no value could be compared"
    assert "(Benjamini-Hochberg) over all 3 values" in correction_line([ROWS], "bh")
    assert "not corrected for the number of values (3)" in correction_line([ROWS], "none")


@pytest.mark.parametrize("width", [80, 100, 160, None])
def test_numbers_are_never_cut_on_a_terminal_of_any_width(width: int | None) -> None:
    """None is a pipe, whose lines are as long as they must be."""
    out = io.StringIO()
    console = Console(file=out, width=width or 40, force_terminal=width is not None, no_color=True)
    print_comparison(console, ROWS, "first", "a-second-run-with-a-long-name")
    told = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    assert "…" not in told
    for number in ("0.579", "0.444 to 0.468", "0.0666 to 0.0912", "-0.0468 to -0.0222", "0.050"):
        assert number in told
    for words in ("▲ better", "▼ worse", "no difference", "Holm", "worse in 1 of 3"):
        assert words in told
    assert "not measured in one of the runs: 1 values (named with --all)" in told
    table = told.splitlines()[1:-1]
    if width is None:
        line = next(line for line in table if line.strip().startswith("a_scorer"))
        assert ROWS[2].id in line
        assert "no difference shown" in line
    else:
        assert max(map(len, table)) <= width
    assert ("won/tied/lost" in told) == (width == 160)


def test_compare_on_the_command_line_takes_several(
    runs: list[Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = [str(tmp_path / result.name) for result in runs]
    for result, out in zip(runs, outs, strict=True):
        scores = Scores(records=result.records, figures=list(result.figures.values()))
        items = [Item(id=r.id, prompt=r.id, video=Path(r.file)) for r in result.records]
        write_result(Path(out), result.name, "clips", items, load_suite("sync"), scores)
    told = tmp_path / "told.json"
    assert main(["compare", *outs, "--only", "sync", "--all", "--json", str(told)]) == 0
    printed = capsys.readouterr().out
    assert "better (second) against first (first): worse in 0 of 1 values" in printed
    assert "over all 2 values" in printed
    content = json.loads(told.read_text())
    assert content["baseline"] == "first"
    changes = {c["candidate"]: c["rows"][0]["comparison"]["wins"] for c in content["compared"]}
    assert changes == {"better": 12, "worse": 0}
    assert [c["rows"][0]["verdict"] for c in content["compared"]] == ["better", "worse"]
    # Curves are read back as they were written.
    assert read_result(outs[0]).records == runs[0].records
